"""HDF5 files of research sets: one dataset `image` (slices, rows, columns), perhaps one `label`. No millimetres."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.data.geometry import Geometry, Space
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume
from isocenter.errors import IsocenterError, UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.header import LIMIT_BYTES, ImageHeader
from isocenter.optional import require

IMAGE = ("image", "img", "data", "volume")
LABEL = ("label", "labels", "mask", "seg", "segmentation")


def read_header(path: Path) -> ImageHeader:
    """Grid of the image in an HDF5 file.

    Raises: UnreadableFile or UnsupportedFormat with what is wrong.
    """
    with _dataset(path, IMAGE) as found:
        return ImageHeader(_geometry(found.shape))


def read(path: Path) -> Volume:
    """Voxels of the image."""
    return _volume(path, IMAGE)


def read_labels(path: Path) -> Volume:
    """Voxels of the label map that lies beside the image.

    Raises: UnsupportedFormat for a file without one.
    """
    return _volume(path, LABEL)


def read_dataset(path: Path, name: str) -> Volume:
    """Voxels of the dataset called `name`."""
    return _volume(path, (name,))


def pair_names(path: Path) -> tuple[str, str]:
    """Names of the image and of the label map in a file.

    Raises: UnsupportedFormat for a file without both.
    """
    found = []
    for names in (IMAGE, LABEL):
        with _dataset(path, names) as dataset:
            found.append(str(dataset.name).removeprefix("/"))
    return found[0], found[1]


def _volume(path: Path, names: tuple[str, ...]) -> Volume:
    with _dataset(path, names) as found:
        voxels = np.asarray(found[()])
        name = found.name
    if voxels.dtype.kind == "b":
        voxels = voxels.astype(np.uint8)
    if voxels.ndim == 2:
        voxels = voxels[None]
    step = Step("acquire.read", {"format": "hdf5", "dataset": name})
    return Volume(voxels[None], _geometry(voxels.shape), history=(step,))


def _geometry(shape: tuple[int, ...]) -> Geometry:
    d, h, w = shape if len(shape) == 3 else (1, *shape)
    return Geometry.regular((d, h, w), space=Space.PIXELS)


@contextmanager
def _dataset(path: Path, names: tuple[str, ...]) -> Iterator[Any]:
    """One dataset, found by its usual names: stored in this file itself, of numbers, in two or three dimensions."""
    h5py = require("h5py", extra="data")
    try:
        with h5py.File(path, "r") as file:
            name = next((n for n in names if n in file), None)
            if name is None:
                there = ", ".join(list(file)[:12])
                raise UnsupportedFormat(f"{path.name}: holds no dataset {names[0]!r}; it has {there or 'none'}")
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise UnsupportedFormat(f"{path.name}: {name!r} is a link to somewhere else, which is not followed")
            found = file[name]
            if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
                raise UnsupportedFormat(f"{path.name}: {name!r} is no array stored in this file")
            if found.ndim not in (2, 3) or found.dtype.kind not in "iufb" or not prod(found.shape):
                raise UnsupportedFormat(
                    f"{path.name}: {name!r} is {found.shape} of {found.dtype}; slices, rows and columns are wanted"
                )
            if prod(found.shape) * found.dtype.itemsize > LIMIT_BYTES:
                raise UnreadableFile(f"{path.name}: {name!r} claims more than {LIMIT_BYTES >> 30} GiB")
            yield found
    except IsocenterError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{path.name}: is no HDF5 file that can be read ({cause_of(error)})") from error
