"""Volumes or pictures of one place, one after the other in time."""

from dataclasses import dataclass, field

import numpy as np

from isocenter.data.geometry import Geometry
from isocenter.data.notebook import html_table
from isocenter.data.provenance import Step
from isocenter.data.volume import Quantity, Volume, frozen_array
from isocenter.errors import GeometryError
from isocenter.types import Array, Bool, Num

_LONGEST_S = 100 * 366 * 86400.0
"""From the first to the last frame: beyond a century, times are no seconds."""


@dataclass(frozen=True, eq=False)
class Cine:
    """Frames on one grid.

    Args:
        frames: `t c d h w`, any real number type; made native-endian, contiguous and read-only.
        geometry: of every frame.
        times_s: when each frame was taken, seconds after the first; None where the file does not say.
        quantity: what the numbers measure.
        history: what was done, first to last.
        not_measured: `t d h w`, voxels that no scanner measured; see `Volume`.

    Raises: GeometryError where frames, grid and times differ.
    """

    frames: Num[Array, "t c d h w"] = field(repr=False)
    geometry: Geometry
    times_s: tuple[float, ...] | None = None
    quantity: Quantity = Quantity.ARBITRARY
    history: tuple[Step, ...] = ()
    not_measured: Bool[Array, "t d h w"] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        frames = np.asarray(self.frames)
        if frames.dtype.kind not in "iuf":
            raise GeometryError(f"frames are real numbers; got {frames.dtype}")
        if frames.ndim != 5 or 0 in frames.shape or frames.shape[2:] != self.geometry.shape:
            raise GeometryError(
                f"frames are (times, channels, *{self.geometry.shape}) on this grid; got shape {frames.shape}"
            )
        if self.times_s is not None and (
            len(self.times_s) != len(frames)
            or not np.all(np.isfinite(self.times_s))
            or np.any(np.diff(self.times_s) < 0)
        ):
            raise GeometryError(f"{len(frames)} frames need as many times that never fall; got {self.times_s[:8]} ...")
        if self.times_s is not None and len(frames) > 1 and not 0 < self.times_s[-1] - self.times_s[0] < _LONGEST_S:
            raise GeometryError(
                f"{len(frames)} frames lie {self.times_s[-1] - self.times_s[0]:g} s apart in all: seconds are wanted, "
                "more than none and less than a century; leave the times away if they are not known"
            )
        object.__setattr__(self, "frames", frozen_array(frames))
        if self.not_measured is not None:
            if self.not_measured.shape != (len(frames), *self.geometry.shape):
                raise GeometryError(f"the mask of what was not measured has shape {self.not_measured.shape}")
            object.__setattr__(self, "not_measured", frozen_array(self.not_measured))

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    @property
    def clock(self) -> Array:
        """Seconds of each frame; where the file states none, frames count as one second apart."""
        return np.arange(len(self), dtype=np.float64) if self.times_s is None else np.asarray(self.times_s, np.float64)

    def first(self, count: int) -> "Cine":
        """The first frames."""
        times = None if self.times_s is None else self.times_s[:count]
        mask = None if self.not_measured is None else self.not_measured[:count]
        return Cine(self.frames[:count], self.geometry, times, self.quantity, self.history, mask)

    def frame(self, index: int) -> Volume:
        """One frame as a volume.

        Raises: GeometryError for a frame that there is not.
        """
        if not -len(self) <= index < len(self):
            raise GeometryError(f"this cine has frames 0 to {len(self) - 1}; {index} was asked for")
        step = Step("cine.frame", {"index": index % len(self)})
        mask = None if self.not_measured is None else self.not_measured[index]
        mask = mask if mask is not None and mask.any() else None
        return Volume(self.frames[index], self.geometry, self.quantity, (*self.history, step), not_measured=mask)

    def _repr_html_(self) -> str:
        lasts = "unknown" if self.times_s is None else f"{self.times_s[-1] - self.times_s[0]:.3g} s"
        rows = [
            ("frames, channels, slices, rows, columns", " x ".join(map(str, self.frames.shape))),
            ("from first to last frame", lasts),
            ("values", f"{self.frames.min():g} to {self.frames.max():g} ({self.quantity}, {self.frames.dtype})"),
        ]
        return html_table("Cine", rows)
