"""A path becomes one case, or one for each study that it holds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

from isocenter.acquire import doctor
from isocenter.acquire.discover import files_below, kind_of
from isocenter.data.case import Case, Defect, Identity, RefusedFile, Series, describe
from isocenter.data.message import Message
from isocenter.data.volume import Volume
from isocenter.errors import AmbiguousSelection, InputError, UnreadableFile
from isocenter.formats.dicom_image import SliceHeader, attributes_of, read, read_header

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many are done, and how many there are."""


def open_case(path: str | Path, *, on_progress: Progress | None = None) -> Case:
    """Open one examination: a DICOM folder or file, a NIfTI, NRRD, PNG, JPEG or TIFF file.

    Headers are read and judged; voxels are read when a volume is asked for.

    Args:
        path: file or folder.
        on_progress: called while headers are read.
    Raises: UnreadableFile if nothing in it is an image; AmbiguousSelection if it holds several studies.
    """
    cases = open_cases(path, on_progress=on_progress)
    if len(cases) == 1:
        return cases[0]
    raise AmbiguousSelection(
        f"{path} holds {len(cases)} studies; open one of them by its folder:\n"
        + "\n".join(f"  {c.name}: {len(c.series)} series, first {describe(c.series[0]).strip()}" for c in cases)
    )


def open_cases(path: str | Path, *, on_progress: Progress | None = None) -> tuple[Case, ...]:
    """Open every study below a path; see `open_case`.

    Files without a study (NIfTI, PNG ...) join the only study there is, or form a case of their own.
    """
    root = Path(path)
    files = list(files_below(root))
    slices: dict[str, dict[str, list[SliceHeader]]] = {}
    loose: list[Series] = []
    refused: list[RefusedFile] = []
    for done, file in enumerate(files):
        if on_progress:
            on_progress("reading headers", done, len(files))
        try:
            kind = kind_of(file)
            if kind == "dicom":
                header = read_header(file)
                study = slices.setdefault(header.text("StudyInstanceUID"), {})
                study.setdefault(header.text("SeriesInstanceUID"), []).append(header)
            else:
                loose.append(_file_series(file, kind, root))
        except InputError as error:
            refused.append(RefusedFile(file, str(error)))
    if not slices and not loose:
        raise UnreadableFile(_nothing(root, refused))
    groups = [_study(study) for study in slices.values()]
    first = [next(iter(study.values()))[0] for study in slices.values()]
    identities = [_identity(header) for header in first]
    if len(groups) == 1:
        groups[0] += loose
    elif loose:
        groups.append(loose)
        identities.append(Identity())
    name = root.resolve().name
    return tuple(
        Case(_study_name(group, root) if len(groups) > 1 else name, root, identity, tuple(group), tuple(refused))
        for group, identity in zip(groups, identities, strict=True)
    )


def _study(study: dict[str, list[SliceHeader]]) -> list[Series]:
    """The series of one study; all are refused where the files name several patients."""
    found = [_dicom_series(headers) for headers in study.values()]
    patients = {header.text("PatientID") for headers in study.values() for header in headers}
    if len(patients) == 1:
        return found
    text = Message("one study holds files of {n} patients; sort them apart first", {"n": len(patients)})
    mixed = Defect("several-patients", text)
    return [replace(series, defects=(*series.defects, mixed)) for series in found]


def _nothing(root: Path, refused: Sequence[RefusedFile]) -> str:
    if not refused:
        return f"{root}: the folder holds no file"
    if root.is_file():
        return refused[0].message
    listed = "\n".join(f"  {r.message}" for r in refused[:5])
    more = f"\n  ... and {len(refused) - 5} more" if len(refused) > 5 else ""
    return f"{root}: none of its {len(refused)} files is an image that can be read:\n{listed}{more}"


def _study_name(group: Sequence[Series], root: Path) -> str:
    """The deepest folder below `root` that holds the whole study, or the root's own name."""
    folders = [file.parent.resolve() for series in group for file in series.files]
    common = folders[0]
    while any(common not in (folder, *folder.parents) for folder in folders):
        common = common.parent
    return common.name or root.resolve().name


def _file_series(file: Path, kind: str, root: Path) -> Series:
    codec = _codec(kind)
    header = codec.read_header(file)
    return Series(
        uid=file.relative_to(root).as_posix() if file != root else file.name,
        format=kind,
        modality="",
        description="",
        shape=header.geometry.shape,
        channels=header.channels,
        spacing_mm=header.spacing_mm,
        attributes={},
        defects=header.defects,
        files=(file,),
        read=partial(codec.read, file),
    )


def _codec(kind: str) -> ModuleType:
    from isocenter.formats import nifti, nrrd, raster

    return {"nifti": nifti, "nrrd": nrrd, "raster": raster}[kind]


def _dicom_series(headers: Sequence[SliceHeader]) -> Series:
    found = doctor.examine(headers)
    first = found.headers[0]
    geometry = found.geometry

    rows, columns = int(first.number("Rows", 1)), int(first.number("Columns", 1))
    return Series(
        uid=first.text("SeriesInstanceUID"),
        format="dicom",
        modality=first.text("Modality"),
        description=first.text("SeriesDescription"),
        shape=geometry.shape if geometry else (len(headers), max(1, rows), max(1, columns)),
        channels=1,
        spacing_mm=geometry.spacing_mm if geometry else None,
        attributes=attributes_of(first),
        defects=found.defects,
        files=tuple(h.file for h in found.headers),
        read=partial(_read_slices, found),
    )


def _read_slices(found: doctor.Diagnosis) -> Volume:
    assert found.geometry is not None, "a series without a grid is refused before it is read"
    return read(found.headers, found.geometry)


def _identity(header: SliceHeader) -> Identity:
    return Identity(
        patient_id=header.text("PatientID"),
        patient_name=header.text("PatientName"),
        birth_date=header.text("PatientBirthDate"),
        sex=header.text("PatientSex"),
        age=header.text("PatientAge"),
        study_uid=header.text("StudyInstanceUID"),
        study_date=header.text("StudyDate"),
        accession_number=header.text("AccessionNumber"),
        study_description=header.text("StudyDescription"),
    )
