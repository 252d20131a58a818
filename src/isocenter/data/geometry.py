"""Where a voxel grid lies in the patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from isocenter.errors import GeometryError, UnitError
from isocenter.types import Affine, Array, Float64, Points, Triple

_POSITIVE = "LPS"  # the letter towards which each world axis grows
_NEGATIVE = "RAI"


class Space(StrEnum):
    """What the world coordinates of a grid mean."""

    PATIENT = "patient"
    """The patient's LPS millimetres."""
    DETECTOR = "detector"
    """Millimetres on a projection's detector, not in the patient."""
    PLANE = "plane"
    """Millimetres in the image's own plane, whose place in the patient is unknown (ultrasound)."""
    SLIDE = "slide"
    """Millimetres on a microscope slide."""
    PIXELS = "pixels"
    """No millimetres at all: whatever needs them is refused."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a voxel grid lies; no voxels.

    Args:
        shape: voxels along (d, h, w).
        affine: index (d, h, w) -> LPS mm; an integer index is a voxel's centre.
        space: what the world coordinates mean.
        frame_uid: DICOM Frame of Reference UID: two grids with the same one share their world.

    Raises: GeometryError for a shape that is not three positive integers or an affine that is not invertible.
    """

    shape: tuple[int, int, int]
    affine: Affine
    space: Space = Space.PATIENT
    frame_uid: str | None = None

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or any(n < 1 for n in shape) or shape != tuple(self.shape):
            raise GeometryError(f"a grid has three positive sizes (slices, rows, columns); got {tuple(self.shape)}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
            raise GeometryError(f"an affine is 4 x 4 finite numbers; got shape {affine.shape}: {affine.tolist()}")
        if not np.array_equal(affine[3], (0.0, 0.0, 0.0, 1.0)):
            raise GeometryError(f"the last row of an affine is 0 0 0 1; got {affine[3].tolist()}")
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        if np.any(steps == 0) or abs(np.linalg.det(affine[:3, :3] / np.where(steps == 0, 1, steps))) < 1e-6:
            raise GeometryError(
                "this affine is singular: it maps different voxels to one place "
                f"(columns {affine[:3, :3].T.tolist()}); the file's orientation or spacing is broken"
            )
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def regular(
        cls,
        shape: Sequence[int],
        *,
        spacing_mm: Triple = (1.0, 1.0, 1.0),
        origin_mm: Triple = (0.0, 0.0, 0.0),
        directions: Float64[Array, "3 3"] | None = None,
        space: Space = Space.PATIENT,
        frame_uid: str | None = None,
    ) -> "Geometry":
        """Build a geometry from spacing, origin and directions.

        Args:
            shape: voxels along (d, h, w).
            spacing_mm: distance between voxel centres along (d, h, w).
            origin_mm: LPS place of voxel (0, 0, 0).
            directions: column i is the unit LPS direction in which array axis i grows; without it slices grow
                towards superior, rows towards posterior, columns towards the patient's left (an axial stack).
            space: what the world coordinates mean.
            frame_uid: DICOM Frame of Reference UID.
        """
        if any(not s > 0 for s in spacing_mm):
            raise GeometryError(f"spacing is positive along every axis; got {spacing_mm} mm")
        affine = np.eye(4)
        axes = np.eye(3)[:, ::-1] if directions is None else directions
        affine[:3, :3] = axes * np.asarray(spacing_mm)
        affine[:3, 3] = origin_mm
        return cls(tuple(shape), affine, space, frame_uid)  # type: ignore[arg-type]  # __post_init__ checks

    @property
    def steps(self) -> Triple:
        """Distance between voxel centres along (d, h, w), in the unit of the space."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @property
    def spacing_mm(self) -> Triple:
        """Distance between voxel centres along (d, h, w).

        Raises: UnitError in PIXELS space.
        """
        if self.space is Space.PIXELS:
            raise UnitError(
                "this image has no millimetres (its file states no pixel size): measure it in pixels, "
                "or give it a spacing from a format that stores one (DICOM, NIfTI, NRRD)"
            )
        return self.steps

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel; the affine's determinant, so right for sheared grids too."""
        _ = self.spacing_mm
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def directions(self) -> Float64[Array, "3 3"]:
        """Column i is the unit world direction in which array axis i grows."""
        return np.asarray(self.affine[:3, :3] / np.asarray(self.steps))

    @property
    def axis_letters(self) -> tuple[str, str, str]:
        """The patient direction (L R P A S I) nearest to which each array axis grows.

        Every letter pair is used once: axes are given away greedily, the clearest first.
        """
        cosines = self.directions
        letters = ["", "", ""]
        free = np.abs(cosines)
        for _ in range(3):
            world, axis = np.unravel_index(int(np.argmax(free)), free.shape)
            letters[axis] = _POSITIVE[world] if cosines[world, axis] > 0 else _NEGATIVE[world]
            free = free.copy()
            free[world, :] = -1
            free[:, axis] = -1
        return letters[0], letters[1], letters[2]

    def index_to_world(self, index: Points) -> Points:
        """World place of index points (d, h, w)."""
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    def world_to_index(self, world: Points) -> Points:
        """Index (d, h, w), not rounded, of world points."""
        return np.asarray(np.linalg.solve(self.affine[:3, :3], (world - self.affine[:3, 3]).T).T)

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "Geometry":
        """The grid of `voxels[..., start:stop]`; a negative start or a stop beyond the shape pads."""
        affine = self.affine.copy()
        affine[:3, 3] = self.index_to_world(np.asarray([start], dtype=np.float64))[0]
        shape = tuple(int(b) - int(a) for a, b in zip(start, stop, strict=True))
        return Geometry(shape, affine, self.space, self.frame_uid)  # type: ignore[arg-type]

    def flip(self, axis: int) -> "Geometry":
        """The grid of voxels reversed along array axis 0 (d), 1 (h) or 2 (w)."""
        affine = self.affine.copy()
        last = np.zeros((1, 3))
        last[0, axis] = self.shape[axis] - 1
        affine[:3, 3] = self.index_to_world(last)[0]
        affine[:3, axis] *= -1
        return Geometry(self.shape, affine, self.space, self.frame_uid)

    def permute(self, order: tuple[int, int, int]) -> "Geometry":
        """The grid of voxels transposed so that new axis i is old axis `order[i]`."""
        affine = self.affine.copy()
        affine[:3, :3] = affine[:3, list(order)]
        d, h, w = (self.shape[i] for i in order)
        return Geometry((d, h, w), affine, self.space, self.frame_uid)

    def corners(self) -> Float64[Array, "8 3"]:
        """World places of the centres of the eight corner voxels."""
        ends = [(0, n - 1) for n in self.shape]
        index = np.asarray([(d, h, w) for d in ends[0] for h in ends[1] for w in ends[2]], dtype=np.float64)
        return self.index_to_world(index)

    def distance_to(self, other: "Geometry") -> float:
        """Largest distance between corresponding corners, in the unit of the space; infinite if shapes differ."""
        if self.shape != other.shape or self.space != other.space:
            return float("inf")
        return float(np.max(np.linalg.norm(self.corners() - other.corners(), axis=1)))

    def require_same(self, other: "Geometry", *, what: str, within_mm: float = 0.01) -> None:
        """Refuse two grids that do not agree.

        Raises: GeometryError that says how far apart they are and what resolves it.
        """
        apart = self.distance_to(other)
        if apart <= within_mm:
            return
        if self.shape != other.shape:
            far = f"they have {self.shape} and {other.shape} voxels"
        elif self.space != other.space:
            far = f"one lies in {self.space} space, the other in {other.space} space"
        else:
            far = f"their corners are up to {apart:.3g} mm apart"
        raise GeometryError(f"{what} do not lie on one grid: {far}; resample one onto the other's grid first")
