"""Networks over frames: a CNN of each and a recurrent layer that remembers; ConvLSTM, which remembers in place.

Frames come as `b t c *s`, the last channel the time of each frame in seconds; where it is no number, the frame is
missing.
"""

from itertools import pairwise
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from isocenter.networks.layers import NetworkSettings, conv

Cell = Literal["rnn", "lstm", "gru", "none"]
_SOONEST = 0.1
"""Of the mean distance of frames: what changed within less is no rate."""


class RecurrentSettings(NetworkSettings):
    """A CNN of each frame and a recurrent layer over them."""

    widths: tuple[int, ...] = Field(
        default=(16, 32, 64), min_length=1, max_length=6, description="Channels of the CNN that looks at each frame."
    )
    features: int = Field(default=64, ge=4, le=1024, description="Numbers that the CNN says of a frame.")
    cell: Cell = Field(default="gru", description="rnn, lstm, gru; none: each frame by itself, to compare with.")
    hidden: int = Field(default=64, ge=4, le=1024, description="Numbers that are remembered.")
    both_ways: bool = Field(default=True, description="Each frame knows the later ones, too.")
    each_frame: bool = Field(default=False, description="An answer for each frame; else one for the sequence.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Before the last layer.")


def parted(
    frames: Float[Tensor, "b t c *s"],
) -> tuple[Float[Tensor, "b t k *s"], Bool[Tensor, "b t"], Float[Tensor, "b t"]]:
    """Images, which frames are there, and their times in seconds (0 where they are missing)."""
    clock = frames[:, :, -1].flatten(2)[:, :, 0]
    seen = torch.isfinite(clock)
    images = torch.where(seen.view(*seen.shape, *(1,) * (frames.ndim - 2)), frames[:, :, :-1], 0.0)
    return images, seen, torch.where(seen, clock, 0.0)


def since_last(times: Float[Tensor, "b t"], seen: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """Logarithm of 1 + the seconds since the frame before that is there; 0 at the first."""
    return torch.log1p(seconds_since(times, seen))


def seconds_since(times: Float[Tensor, "b t"], seen: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """Seconds since the frame before that is there; 0 at the first."""
    known = torch.where(seen, times, torch.full_like(times, float("-inf"))).cummax(dim=1).values
    before = torch.cat((torch.full_like(known[:, :1], float("-inf")), known[:, :-1]), dim=1)
    return torch.where(torch.isfinite(before), times - before, 0.0).clamp_min(0)


class _Memory(nn.Module):
    """One recurrent cell along time; a frame that is missing leaves the memory as it was."""

    def __init__(self, cell: Cell, inside: int, hidden: int) -> None:
        super().__init__()
        kinds: dict[str, Any] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
        self.cell, self.hidden = kinds[cell](inside, hidden), hidden

    def forward(self, x: Float[Tensor, "b t f"], seen: Bool[Tensor, "b t"], *, back: bool) -> Float[Tensor, "b t h"]:
        """The memory at each frame."""
        state = x.new_zeros(len(x), self.hidden)
        other = torch.zeros_like(state)  # of an LSTM
        found: list[Tensor] = []
        order = list(range(x.shape[1]))
        for t in reversed(order) if back else order:
            keep = seen[:, t, None]
            if isinstance(self.cell, nn.LSTMCell):
                new, cell = self.cell(x[:, t], (state, other))
                other = torch.where(keep, cell, other)
            else:
                new = cast("Tensor", self.cell(x[:, t], state))
            state = torch.where(keep, new, state)
            found.append(state)
        return torch.stack(found[::-1] if back else found, dim=1)


class Recurrent(nn.Module):
    """A recurrent network over the features of frames, each with the time since the one before.

    Source: J. Elman, Cogn. Sci. 14:179-211, 1990; S. Hochreiter, J. Schmidhuber, Neural Comput. 9:1735-1780, 1997;
        K. Cho et al., EMNLP 2014; on features of a CNN, J. Donahue et al., CVPR 2015.
    """

    def __init__(self, settings: RecurrentSettings, *, channels: int, outputs: int, dims: int) -> None:
        from isocenter.networks.resnet import ResNet, ResNetSettings

        super().__init__()
        self.settings = settings
        own = ResNetSettings(blocks=(1,) * len(settings.widths), widths=settings.widths, stem="small")
        self.encoder = ResNet(own, channels=channels, outputs=settings.features, dims=dims)
        inside = settings.features + 1  # the time beside the features
        ways = 0 if settings.cell == "none" else 1 + settings.both_ways
        self.memories = nn.ModuleList(_Memory(settings.cell, inside, settings.hidden) for _ in range(ways))
        self.drop = nn.Dropout(settings.dropout)
        self.last = nn.Linear(ways * settings.hidden or inside, outputs)

    def forward(self, frames: Float[Tensor, "b t c *s"]) -> Float[Tensor, "b *k"]:
        """Logits (or values) of each sequence (`b k`), or of each frame (`b t k`)."""
        images, seen, times = parted(frames)
        looked = torch.relu(self.encoder(images[seen]))
        features = looked.new_zeros(*seen.shape, looked.shape[1])
        features[seen] = looked
        x = torch.cat((features, since_last(times, seen)[..., None].to(features.dtype)), dim=2)
        told = [memory(x, seen, back=i == 1) for i, memory in enumerate(self.memories)]
        answers = self.last(self.drop(torch.cat(told, dim=2) if told else x))
        if self.settings.each_frame:
            return answers
        weight = seen.to(answers.dtype)[..., None]
        return (answers * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)


class ConvLSTMSettings(NetworkSettings):
    """ConvLSTM."""

    hidden: tuple[int, ...] = Field(
        default=(32, 32), min_length=1, max_length=4, description="Channels of each layer's memory."
    )
    kernel: int = Field(default=5, ge=1, le=11, description="Edge of the convolutions; odd.")


class ConvLSTMCell(nn.Module):
    """An LSTM whose products are convolutions: what is remembered stays where it was seen.

    Source: X. Shi et al., NIPS 2015, equation 3 (without peepholes).
    """

    def __init__(self, inside: int, hidden: int, kernel: int, dims: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = conv(dims)(inside + hidden, 4 * hidden, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Output and memory after one more frame."""
        h, c = state
        i, f, g, o = self.gates(torch.cat((x, h), dim=1)).chunk(4, dim=1)
        c = torch.sigmoid(f + 1.0) * c + torch.sigmoid(i) * torch.tanh(g)  # at the start it forgets little
        return torch.sigmoid(o) * torch.tanh(c), c


class ConvLSTM(nn.Module):
    """Foretells the frame that follows those it is shown, as a change of the last one.

    The last frame of the input is not looked at: its time is that for which the answer is asked. Each step knows how
    long ago the frame before was, and how fast each voxel changed since; the change that is foretold grows with how far
    ahead is asked, in mean distances of the frames.

    Source: X. Shi et al., NIPS 2015, section 3.2; differences beside the frames are ours: the cells see one frame at a
        time, and would have to remember it exactly to tell how it moves.
    """

    def __init__(self, settings: ConvLSTMSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        sizes = (2 * channels + 1, *settings.hidden)
        self.cells = nn.ModuleList(ConvLSTMCell(a, b, settings.kernel, dims) for a, b in pairwise(sizes))
        self.last = conv(dims)(settings.hidden[-1] + 2 * channels, outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast("Tensor", self.last.bias))

    def forward(self, frames: Float[Tensor, "b t c *s"]) -> Float[Tensor, "b k *s"]:
        """The frame at the last time; frames that are missing are passed over."""
        images, seen, times = parted(frames)
        since, ahead = seconds_since(times, seen), steps_ahead(times, seen)
        shape = (-1, *(1,) * (images.ndim - 2))
        states = [
            (images.new_zeros(len(images), cell.hidden, *images.shape[3:]),) * 2
            for cell in cast("list[ConvLSTMCell]", list(self.cells))
        ]
        usual = mean_distance(times[:, :-1], seen[:, :-1]).nan_to_num(1.0).to(images.dtype)
        newest, rate, begun = (
            torch.zeros_like(images[:, 0]),
            torch.zeros_like(images[:, 0]),
            torch.zeros_like(seen[:, 0]),
        )
        for t in range(images.shape[1] - 1):
            keep = seen[:, t].view(shape)
            gap = torch.log1p(since[:, t]).view(shape).expand(-1, 1, *images.shape[3:])
            steps = (since[:, t].to(images.dtype) / usual).clamp_min(_SOONEST).view(shape)
            now = torch.where(begun.view(shape), (images[:, t] - newest) / steps, 0.0)
            rate, begun = torch.where(keep, now, rate), begun | seen[:, t]
            shown = torch.cat((images[:, t], now, gap.to(images.dtype)), dim=1)
            for i, cell in enumerate(self.cells):
                h, c = cell(shown, states[i])
                states[i] = (torch.where(keep, h, states[i][0]), torch.where(keep, c, states[i][1]))
                shown = states[i][0]
            newest = torch.where(keep, images[:, t], newest)
        change = self.last(torch.cat((states[-1][0], newest, rate), dim=1))
        return newest + ahead.to(change.dtype).view(shape) * change


def steps_ahead(times: Float[Tensor, "b t"], seen: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """How far the last time lies after the last frame that is there, in mean distances of those frames; at most 4."""
    own, there = times[:, :-1], seen[:, :-1]
    last = torch.where(there, own, float("-inf")).amax(dim=1)
    far = (times[:, -1] - last) / mean_distance(own, there)
    return torch.where(torch.isfinite(far) & seen[:, -1], far, 1.0).clamp(0, 4)


def mean_distance(times: Float[Tensor, "b t"], seen: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """Mean seconds from frame to frame of those that are there; no number where there is no distance."""
    first = torch.where(seen, times, float("inf")).amin(dim=1)
    last = torch.where(seen, times, float("-inf")).amax(dim=1)
    mean = (last - first) / (seen.sum(dim=1) - 1).clamp_min(1)
    return torch.where(mean > 0, mean, float("nan"))
