"""Mask R-CNN in 2-D and 3-D: proposals from a feature pyramid, then class, edges and mask of each."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.networks import anchors as an
from isocenter.networks import boxes as bx
from isocenter.networks.detector import Detector, Found, Truth, best_of
from isocenter.networks.layers import conv, transposed
from isocenter.networks.pyramid import Pyramid
from isocenter.networks.retinanet import AnchoredSettings, Head, by_anchor, focal
from isocenter.networks.roi_align import pooled, roi_align
from isocenter.ops.boxes import suppressed

_OBJECT, _POSITIVE = 0.5, 0.25
"""Overlap from which a proposal is of an object, and the largest share of such proposals in what is learnt from."""
_SPREAD = (0.1, 0.2)
"""Deviations by which shifts and ratios of the second stage are divided, so that they weigh as much as the classes."""


class MaskRCNNSettings(AnchoredSettings):
    """Mask R-CNN; without masks, Faster R-CNN."""

    masks: bool = Field(default=False, description="Each object is drawn, not only boxed.")
    proposals: int = Field(default=200, ge=8, le=2000, description="Of each image that go to the second stage.")
    learnt_from: int = Field(default=64, ge=8, le=1024, description="Proposals of each image that are learnt from.")
    hidden: int = Field(default=256, ge=16, le=2048, description="Width of the second stage's layers.")
    cells: int = Field(default=7, ge=3, le=28, description="Cells along each axis in which a proposal is looked at.")
    mask_cells: int = Field(default=14, ge=4, le=56, description="Cells in which a mask is drawn are twice as many.")


class _BoxHead(nn.Module):
    """Two dense layers, then the classes (background first) and the edges."""

    def __init__(self, settings: MaskRCNNSettings, outputs: int, dims: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Flatten(), nn.Linear(settings.channels * settings.cells**dims, settings.hidden), nn.ReLU(inplace=True),
            nn.Linear(settings.hidden, settings.hidden), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.classes = nn.Linear(settings.hidden, outputs + 1)
        self.edges = nn.Linear(settings.hidden, 2 * dims)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.edges.weight, std=0.001)

    def forward(self, x: Float[Tensor, "n c *m"]) -> tuple[Tensor, Tensor]:
        """Logits (`n k+1`) and edges as seen from the proposal (`n e`)."""
        x = self.trunk(x)
        return self.classes(x).float(), self.edges(x).float()


class _MaskHead(nn.Module):
    """Four convolutions, one enlargement, and a map for each class."""

    def __init__(self, settings: MaskRCNNSettings, outputs: int, dims: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [conv(dims)(settings.channels, settings.channels, 3, padding=1), nn.ReLU(inplace=True)]
        layers += [transposed(dims)(settings.channels, settings.channels, 2, 2), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, conv(dims)(settings.channels, outputs, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n c *m"]) -> Float[Tensor, "n k *m2"]:
        return self.layers(x).float()


class MaskRCNN(Detector):
    """Two-stage detector, with a mask for each object where it is told to draw them.

    Source: K. He et al., ICCV 2017; S. Ren et al., NIPS 2015 (without masks); assignment: S. Zhang et al., CVPR 2020.
    """

    settings: MaskRCNNSettings

    def __init__(self, settings: MaskRCNNSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.settings, self.outputs, self.dims = settings, outputs, dims
        self.shapes, self.scales = settings.shapes(dims), settings.scales(dims)
        self.pyramid = Pyramid(settings, channels=channels, dims=dims)
        each = len(self.shapes)
        self.objectness = Head(settings.channels, 1, each, dims).expect_little()
        self.rough = Head(settings.channels, 1, each * 2 * dims, dims)
        self.box_head = _BoxHead(settings, outputs, dims)
        self.mask_head = _MaskHead(settings, outputs, dims) if settings.masks else None

    def _first_stage(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
        """Levels, anchors of each, objectness (`b n`) and edges as seen from them (`b n e`)."""
        levels, each = self.pyramid(images), len(self.shapes)
        sure = torch.cat([by_anchor(self.objectness(x), each) for x in levels], dim=1)[..., 0].float()
        edges = torch.cat([by_anchor(self.rough(x), each) for x in levels], dim=1).float()
        laid = an.laid([tuple(x.shape[2:]) for x in levels], self.scales, self.shapes)
        return levels, [level.to(images.device) for level in laid], sure, edges

    def _proposals(self, boxes: Tensor, sure: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The best boxes of one image, without near repeats; no gradients flow through them."""
        count = self.settings.proposals
        top = sure.topk(min(10 * count, len(sure))).indices
        own = bx.clipped(boxes[top], shape)
        keep = suppressed(
            own.double().cpu().numpy(), sure[top].double().cpu().numpy(), overlap=0.7, most=count
        )  # fmt: skip
        return own[torch.from_numpy(keep).to(own.device)]

    def losses(self, images: Float[Tensor, "b c *s"], truths: Sequence[Truth]) -> dict[str, Float[Tensor, ""]]:
        """Of both stages, and of the masks."""
        levels, anchors, sure, edges = self._first_stage(images)
        together, shape = torch.cat(anchors), tuple(images.shape[2:])
        target = torch.zeros_like(sure)
        near: list[Tensor] = []
        second: list[tuple[Tensor, ...]] = []
        masks: list[Tensor] = []
        for i, truth in enumerate(truths):
            answer = an.matched(anchors, truth.boxes, each=len(self.shapes))
            mine = torch.nonzero(answer >= 0)[:, 0]
            target[i, mine] = 1.0
            rough = bx.decoded(edges[i], together)
            near.append(bx.edge_losses(edges[i, mine], together[mine], truth.boxes[answer[mine]]))
            with torch.no_grad():
                boxes, goal = self._learnt_from(self._proposals(rough.detach(), sure[i].detach(), shape), truth)
            found = pooled(levels, i, boxes, self.scales, size=self.settings.cells)
            second.append((*self.box_head(found), boxes, goal, torch.full_like(goal, i)))
            if self.mask_head is not None and truth.instances is not None:
                masks.append(self._mask_loss(levels, i, boxes, goal, truth))
        count = max(1, int(target.sum()))
        result = {"objectness": focal(sure, target).sum() / count, "rough": torch.cat(near).sum() / count}
        result |= self._second_losses(second, truths)
        if masks:
            result["masks"] = torch.stack(masks).mean()
        return result

    def _learnt_from(self, proposals: Tensor, truth: Truth) -> tuple[Tensor, Int[Tensor, "n"]]:
        """Proposals that are learnt from, and the object of each (-1: none): up to a quarter are of objects.

        The objects themselves are among them, so that the second stage learns from the first step on.
        """
        boxes = torch.cat((proposals, truth.boxes))
        most = self.settings.learnt_from
        if not len(truth.boxes):
            return boxes[:most], torch.full((min(most, len(boxes)),), -1, dtype=torch.int64, device=boxes.device)
        shared, goal = bx.overlaps(boxes, truth.boxes).max(dim=1)
        goal = torch.where(shared >= _OBJECT, goal, -1)
        some = torch.nonzero(goal >= 0)[:, 0]
        some = some[torch.randperm(len(some), device=boxes.device)[: max(1, int(most * _POSITIVE))]]
        rest = torch.nonzero(goal < 0)[:, 0]
        rest = rest[torch.randperm(len(rest), device=boxes.device)[: most - len(some)]]
        chosen = torch.cat((some, rest))
        return boxes[chosen], goal[chosen]

    def _second_losses(self, rows: list[tuple[Tensor, ...]], truths: Sequence[Truth]) -> dict[str, Tensor]:
        logits, deltas, boxes, goals, images = (torch.cat(part) for part in zip(*rows, strict=True))
        wanted = torch.zeros_like(goals)
        aims = torch.zeros_like(deltas)
        for i, truth in enumerate(truths):
            mine = torch.nonzero((images == i) & (goals >= 0))[:, 0]
            wanted[mine] = 1 + truth.classes[goals[mine]]
            aims[mine] = bx.encoded(truth.boxes[goals[mine]], boxes[mine]) / self._spread(deltas)
        there = goals >= 0
        edges = F.smooth_l1_loss(deltas[there], aims[there], beta=1.0, reduction="sum") / max(1, len(goals))
        return {"classes": F.cross_entropy(logits, wanted), "edges": edges}

    def _spread(self, like: Tensor) -> Tensor:
        return torch.tensor([_SPREAD[0]] * self.dims + [_SPREAD[1]] * self.dims, device=like.device)

    def _mask_loss(self, levels: list[Tensor], image: int, boxes: Tensor, goals: Tensor, truth: Truth) -> Tensor:
        """Binary cross-entropy of the map of each object's own class, within its proposal."""
        assert self.mask_head is not None, "asked for only with masks"
        assert truth.instances is not None, "asked for only with masks"
        mine = torch.nonzero(goals >= 0)[:, 0]
        if not len(mine):
            return levels[0].new_zeros(()).float()
        own = boxes[mine]
        logits = self.mask_head(pooled(levels, image, own, self.scales, size=self.settings.mask_cells))
        size = 2 * self.settings.mask_cells
        wanted = torch.cat([
            roi_align((truth.instances == number + 1)[None].float(), box[None], size=size)[:, 0]
            for number, box in zip(goals[mine].tolist(), own, strict=True)
        ])  # fmt: skip
        rows = torch.arange(len(mine), device=own.device)
        return F.binary_cross_entropy_with_logits(logits[rows, truth.classes[goals[mine]]], (wanted > 0.5).float())

    def find(self, images: Float[Tensor, "b c *s"]) -> list[Found]:
        """What is found in each image."""
        levels, anchors, sure, edges = self._first_stage(images)
        together, shape = torch.cat(anchors), tuple(images.shape[2:])
        return [
            self._found(levels, i, self._proposals(bx.decoded(edges[i], together), sure[i], shape), shape)
            for i in range(len(images))
        ]

    def _found(self, levels: list[Tensor], image: int, proposals: Tensor, shape: tuple[int, ...]) -> Found:
        logits, deltas = self.box_head(pooled(levels, image, proposals, self.scales, size=self.settings.cells))
        refined = bx.decoded(deltas * self._spread(deltas), proposals)
        boxes, scores, classes, _ = best_of(refined, logits.softmax(dim=1)[:, 1:], self.settings, shape)
        if self.mask_head is None:
            return Found(boxes, scores, classes)
        own = torch.from_numpy(boxes).float().to(proposals.device)
        maps = self.mask_head(pooled(levels, image, own, self.scales, size=self.settings.mask_cells)).sigmoid()
        rows = torch.arange(len(own), device=own.device)
        drawn = maps[rows, torch.from_numpy(classes).to(own.device)]
        return Found(boxes, scores, classes, drawn.float().cpu().numpy())
