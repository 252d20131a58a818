"""Where the points of one image lie in another."""

from dataclasses import dataclass, field

import numpy as np

from isocenter.data.geometry import Geometry
from isocenter.data.notebook import html_table
from isocenter.errors import GeometryError
from isocenter.types import Affine, Array, Float32, Points


@dataclass(frozen=True, eq=False)
class Transform:
    """World point of the fixed image -> world point of the moving image: `matrix` p, plus the displacement at p.

    Args:
        matrix: fixed world -> moving world, LPS mm.
        displacements: what is added after the matrix, LPS mm, on a grid in the fixed world; None for an affine map.
            Linear between voxels, the last voxel's beyond the grid.
        geometry: the grid of `displacements`.

    Raises: GeometryError for a matrix that is not invertible, or displacements without their grid.
    """

    matrix: Affine
    displacements: Float32[Array, "3 d h w"] | None = field(default=None, repr=False)
    geometry: Geometry | None = None

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.all(np.isfinite(matrix)) or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
            raise GeometryError("a transform is an invertible 4 x 4 matrix of finite numbers")
        object.__setattr__(self, "matrix", matrix)
        if self.displacements is None:
            return
        if self.geometry is None or self.displacements.shape != (3, *self.geometry.shape):
            raise GeometryError("displacements are three numbers for each voxel of their grid")

    def points(self, points: Points) -> Points:
        """Places in the moving image of points of the fixed image."""
        moved = points @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        return np.asarray(moved + self._displaced(points))

    def inverse_points(self, points: Points, *, within_mm: float = 1e-3) -> Points:
        """Places in the fixed image of points of the moving image, by fixed-point iteration.

        Raises: GeometryError where the displacements fold and no such place is found.
        """
        inverse = np.linalg.inv(self.matrix)
        guess = points @ inverse[:3, :3].T + inverse[:3, 3]
        for _ in range(200):
            error = points - self.points(guess)
            if not error.size or float(np.abs(error).max()) < within_mm:
                return np.asarray(guess)
            guess = guess + error @ inverse[:3, :3].T
        raise GeometryError("this transform folds: some points have no single place in the fixed image")

    def _displaced(self, points: Points) -> Points:
        if self.displacements is None or self.geometry is None:
            return np.zeros_like(points)
        from scipy.ndimage import map_coordinates

        index = self.geometry.world_to_index(points).T
        parts = [map_coordinates(part, index, order=1, mode="nearest") for part in self.displacements]
        return np.stack(parts, axis=1).astype(np.float64)

    @property
    def smallest_volume_change(self) -> float:
        """Smallest factor by which the map changes a volume; not positive where it folds."""
        if self.displacements is None or self.geometry is None:
            return float(np.linalg.det(self.matrix[:3, :3]))
        axes = [axis for axis in range(3) if self.geometry.shape[axis] > 1]
        slopes = np.zeros((*self.geometry.shape, 3, 3))
        inverse = np.linalg.inv(self.geometry.affine[:3, :3])
        for part in range(3):
            for axis in axes:
                along = np.gradient(self.displacements[part].astype(np.float64), axis=axis)
                slopes[..., part, :] += along[..., None] * inverse[axis]
        return float(np.linalg.det(slopes + self.matrix[:3, :3]).min())

    def _repr_html_(self) -> str:
        rows = [
            ("matrix", np.array2string(self.matrix, precision=4)),
            ("displacements", "none" if self.displacements is None else " x ".join(map(str, self.displacements.shape))),
        ]
        return html_table("Transform", rows)
