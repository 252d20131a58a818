"""Archives of numpy arrays (`.npz`), without pickled objects, one array at a time."""

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np

from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.types import Array

_MOST_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Head:
    """What an array's header says."""

    shape: tuple[int, ...]
    dtype: str


def heads(path: Path) -> dict[str, Head]:
    """Shape and type of every array.

    Raises: UnreadableFile for what is no archive, holds pickled objects, or claims more than it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                raise UnreadableFile(f"{path.name}: unpacks to more than {_MOST_BYTES >> 30} GiB")
            return {entry.filename.removesuffix(".npy"): _head(archive, entry) for entry in archive.infolist()}
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UnreadableFile(f"{path.name}: is no archive of arrays that can be read ({cause_of(error)})") from error


def _head(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Head:
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    if dtype.hasobject or prod(shape) * dtype.itemsize > entry.file_size:
        raise ValueError(f"{entry.filename} claims {shape} of {dtype}, and does not hold that")
    return Head(tuple(shape), str(dtype))


def read(path: Path, name: str) -> Array:
    """One array.

    Raises: UnreadableFile; InputError for an array that is not there.
    """
    stat = path.stat()
    return _read(path, name, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=6)  # images are asked for one by one
def _read(path: Path, name: str, _changed: int, _size: int) -> Array:
    there = heads(path)
    if name not in there:
        raise InputError(f"{path.name}: holds no array {name!r}; it has {', '.join(there)[:200]}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = archive[name]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UnreadableFile(f"{path.name}: {name} cannot be read ({cause_of(error)})") from error
    found.flags.writeable = False
    return np.asarray(found)
