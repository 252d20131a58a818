"""One volume from one format into another."""

from collections.abc import Callable
from pathlib import Path

from isocenter.acquire.case import open_case
from isocenter.data.volume import Volume
from isocenter.errors import InputError, UnsupportedFormat
from isocenter.formats import nifti, nrrd, proof

_WRITERS: dict[str, Callable[[Volume, Path], None]] = {
    ".nii.gz": nifti.write,
    ".nii": nifti.write,
    ".nrrd": nrrd.write,
}


def convert(path: str | Path, output: str | Path, *, series: str | None = None) -> Volume:
    """Write one volume as NIfTI or NRRD, read it back with a second library, and only then keep it.

    Args:
        path: anything that `open` opens.
        output: a file ending in .nii.gz, .nii or .nrrd.
        series: UID of the series to take; needed where there are several.
    Returns: the volume that was written.
    Raises: AmbiguousSelection with the list where several series fit; UnsupportedFormat for another ending.
    """
    target = Path(output)
    ending = next((e for e in _WRITERS if target.name.lower().endswith(e)), None)
    if ending is None:
        raise UnsupportedFormat(f"{target.name}: written are {list(_WRITERS)}; give the output one of these endings")
    volume = open_case(path).volume(series)
    partial = target.with_name(f".partial-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[ending](volume, partial)
        proof.prove_volume(volume, partial)
        partial.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)
    return volume
