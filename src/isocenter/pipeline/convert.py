"""One volume from one format into another."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from isocenter.acquire.case import open_cases
from isocenter.data.case import Case, Series, describe
from isocenter.data.volume import Volume
from isocenter.errors import AmbiguousSelection, InputError, UnsupportedFormat
from isocenter.formats import nifti, nrrd, proof

_log = logging.getLogger(__name__)

_WRITERS: dict[str, Callable[[Volume, Path], None]] = {
    ".nii.gz": nifti.write,
    ".nii": nifti.write,
    ".nrrd": nrrd.write,
}


def convert(path: str | Path, output: str | Path, *, series: str | None = None) -> Volume:
    """Write one volume as NIfTI or NRRD, read it back with a second library, and only then keep it.

    Files of `path` that cannot be used are named in the log.

    Args:
        path: anything that `open` opens, several studies too where `series` names one of theirs.
        output: a file ending in .nii.gz, .nii or .nrrd; what stood there is replaced, but never the input itself.
        series: UID of the series to take; needed where there are several.
    Returns: the volume that was written.
    Raises: AmbiguousSelection with the list where several series fit; UnsupportedFormat for another ending.
    """
    target = Path(output)
    ending = next((e for e in _WRITERS if target.name.lower().endswith(e)), None)
    if ending is None:
        raise UnsupportedFormat(
            f"{target.name}: written are {', '.join(_WRITERS)}; give the output one of these endings"
        )
    chosen = _only(open_cases(path), Path(path), series)
    if target.resolve() in {file.resolve() for file in chosen.files}:
        raise InputError(f"{target}: is the input itself; give the output another name")
    volume = chosen.volume()
    partial = target.with_name(f".partial-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _WRITERS[ending](volume, partial)
            proof.prove_volume(volume, partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
    return volume


def _only(cases: Sequence[Case], path: Path, uid: str | None) -> Series:
    """The series `uid` of any study, or the only one there is.

    Raises: AmbiguousSelection with the list to choose from.
    """
    for refused in cases[0].refused_files:
        _log.warning("not used: %s", refused.message)
    series = [s for case in cases for s in case.series]
    chosen = [s for s in series if uid is None or s.uid == uid]
    if len(chosen) == 1:
        return chosen[0]
    wanted = f"no series has the UID {uid}" if uid else f"{path} holds {len(series)} series and one was wanted"
    raise AmbiguousSelection(f"{wanted}; choose one by its UID (--series):\n" + "\n".join(map(describe, series)))
