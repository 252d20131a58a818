"""Lungs with nodules and vessels, whose truth is known."""

from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from isocenter.types import Array


def lung(rng: np.random.Generator, edge: int = 40) -> tuple[Array, Array]:
    """HU of a cube of lung with vessels, and its nodules, each with a number of its own (`d h w`)."""
    shape = (edge,) * 3
    grid = np.indices(shape).astype(np.float32)
    image = np.full(shape, -850.0, np.float32)
    for _ in range(4):  # vessels: straight tubes, as bright as nodules
        at, way = rng.uniform(0, edge, 3), rng.normal(size=3)
        way /= np.linalg.norm(way)
        off = grid - at[:, None, None, None]
        along = np.tensordot(way, off, axes=1)
        far = np.sqrt(np.maximum((off**2).sum(axis=0) - along**2, 0))
        image[far < rng.uniform(0.8, 1.6)] = rng.uniform(-100, 50)
    nodules = np.zeros(shape, np.int32)
    places: list[Array] = []
    while len(places) < rng.integers(1, 4):
        radius = rng.uniform(3, 6)
        at = rng.uniform(radius + 1, edge - radius - 2, 3)
        if any(np.linalg.norm(at - other) < 15 for other in places):
            continue
        places.append(at)
        inside = np.sqrt(((grid - at[:, None, None, None]) ** 2).sum(axis=0)) <= radius
        image[inside], nodules[inside] = rng.uniform(-100, 100), len(places)
    return ndimage.gaussian_filter(image, 0.6) + rng.normal(0, 40, shape).astype(np.float32), nodules


def nodule_data(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """A table of volumes and instance masks, with splits."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = ["image,mask,split,patient"]
    for split, count in counts.items():
        for i in range(count):
            image, nodules = lung(rng)
            name = f"{split}{i:02d}"
            for part, voxels in (("image", image), ("mask", nodules)):
                nibabel.save(
                    nibabel.Nifti1Image(voxels.transpose(2, 1, 0).astype(np.int16), np.eye(4)),
                    folder / f"{name}-{part}.nii.gz",
                )
            rows.append(f"{name}-image.nii.gz,{name}-mask.nii.gz,{split},{name}")
    (folder / "nodules.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder / "nodules.csv"
