"""What the doctor found in a DICOM series, as series of a case: one for each volume, cine or picture."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from isocenter.acquire.codes import refused
from isocenter.acquire.doctor import Diagnosis, diagnose
from isocenter.acquire.policy import Policy
from isocenter.data.case import RefusedFile, Series
from isocenter.data.cine import Cine
from isocenter.data.geometry import Space
from isocenter.data.volume import Volume
from isocenter.errors import cause_of
from isocenter.formats.dicom_decode import channels_of
from isocenter.formats.dicom_header import Header
from isocenter.formats.dicom_image import attributes_of, read, read_cine, read_frames

_log = logging.getLogger(__name__)


def dicom_series(
    uid: str, headers: Sequence[Header], policy: Policy, *, truncated: Sequence[str] = ()
) -> tuple[list[Series], list[RefusedFile]]:
    """Everything one DICOM series holds; one that cannot be understood is refused whole, and nothing else with it.

    Args:
        uid: Series Instance UID.
        headers: of its images.
        policy: what is done about defects.
        truncated: names of files of the series whose pixels are cut off.
    """
    try:
        found, refused_files = diagnose(headers, policy, truncated=truncated)
        return [_series(uid, diagnosis, at, len(found)) for at, diagnosis in enumerate(found)], refused_files
    except Exception as error:  # noqa: BLE001 - whatever a broken header brings about stays in its series
        _log.debug("series %s cannot be understood", uid, exc_info=True)
        text = f"{headers[0].file.name}: {cause_of(error)}"
        defect = refused("invalid-value", "{error}", error=text)
        files = tuple(h.file for h in headers)
        nothing = partial(_unread, uid)
        shape = (len(headers), 1, 1)
        return [Series(uid, "dicom", "", "", shape, 1, None, {}, (defect,), files, nothing, path=_folder(files))], []


def _series(uid: str, found: Diagnosis, at: int, parts: int) -> Series:
    first = found.frames[0].header
    rows, columns = found.frames[0].shape
    geometry = found.geometry
    times = found.times
    planes = 1 if found.flat else len(found.frames) // times
    shape = (planes, rows, columns)
    if geometry is not None and not found.flat:
        shape = geometry.shape
    no_mm = geometry is None or geometry.space is Space.PIXELS
    files = tuple({id(f.header): f.header.file for f in found.frames}.values())
    return Series(
        uid=uid,
        format="dicom",
        modality=first.text("Modality"),
        description=first.text("SeriesDescription"),
        shape=shape,
        channels=channels_of(first),
        spacing_mm=None if no_mm or geometry is None else geometry.spacing_mm,
        attributes=attributes_of(first),
        defects=found.defects,
        files=files,
        read=partial(_read, found),
        index=at,
        parts=parts,
        frames=times,
        localizer=found.localizer,
        regridded=any(stack.weights is not None or stack.shifts is not None for stack in found.stacks),
        path=_folder(files),
    )


def _folder(files: Sequence[Path]) -> Path:
    """The one file, or the folder that holds all of them."""
    if len(files) == 1:
        return files[0]
    folders = {os.path.dirname(file) for file in files}  # noqa: PTH120 - fast
    return Path(os.path.commonpath(folders)) if len(folders) > 1 else Path(folders.pop())


def _read(found: Diagnosis) -> Volume | Cine:
    assert found.stacks, "a series without a grid is refused before it is read"
    if found.flat:
        return read(found.stacks[0]) if found.times == 1 else read_frames(found.stacks[0], found.times_s)
    return read(found.stacks[0]) if found.times == 1 else read_cine(found.stacks, found.times_s)


def _unread(uid: str) -> Volume:
    raise AssertionError(f"series {uid} is refused before it is read")
