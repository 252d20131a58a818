"""A path becomes one case, or one for each study that it holds."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

from isocenter.acquire import doctor
from isocenter.acquire.discover import files_below, kind_of
from isocenter.data.case import Case, Defect, Identity, RefusedFile, Series
from isocenter.data.message import Message
from isocenter.data.volume import Volume
from isocenter.errors import AmbiguousSelection, InputError, UnreadableFile, cause_of
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
        f"{path} holds {len(cases)} studies; open one of them by its file or folder:\n"
        + "\n".join(f"  {c.series[0].files[0]}: {len(c.series)} series, first {c.series[0].uid}" for c in cases[:40])
    )


def open_cases(
    path: str | Path, *, without: Path | None = None, on_progress: Progress | None = None
) -> tuple[Case, ...]:
    """Open every study below a path; see `open_case`.

    A file that names no patient (NIfTI, PNG ...) is a case of its own: nothing proves that it belongs to others. The
    folder `without` is left out.
    """
    root = Path(path)
    refused: list[RefusedFile] = []
    unlisted = lambda folder, why: refused.append(RefusedFile(folder, f"{folder.name}: {why}"))  # noqa: E731
    files = list(files_below(root, without=without, on_unlisted=unlisted))
    slices: dict[str, dict[str, list[SliceHeader]]] = {}
    loose: list[Series] = []
    for done, file in enumerate(files):
        if on_progress:
            on_progress("reading headers", done, len(files))
        try:
            kind = kind_of(file)
            if kind == "dicom":
                header = read_header(file)
                series_uid = header.text("SeriesInstanceUID")
                study = slices.setdefault(header.text("StudyInstanceUID") or f"of {series_uid}", {})
                study.setdefault(series_uid, []).append(header)
            else:
                loose.append(_file_series(file, kind, root))
        except InputError as error:
            refused.append(RefusedFile(file, str(error)))
        except Exception as error:  # noqa: BLE001 - a codec's surprise is that file's fault, not the study's
            refused.append(RefusedFile(file, f"{file.name}: its header cannot be read ({cause_of(error)})"))
    if not slices and not loose:
        raise UnreadableFile(_nothing(root, refused))
    groups = [_study(study) for study in slices.values()] + [[series] for series in loose]
    identities = [_identity(study) for study in slices.values()] + [Identity()] * len(loose)
    name = root.resolve().name
    return tuple(
        Case(_study_name(group, root) if len(groups) > 1 else name, root, identity, tuple(group), tuple(refused))
        for group, identity in zip(groups, identities, strict=True)
    )


def _study(study: dict[str, list[SliceHeader]]) -> list[Series]:
    """The series of one study; all are refused where the files name several patients."""
    found = [_dicom_series(uid, headers) for uid, headers in study.items()]
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
    """The file of a case of one file; the deepest folder below `root` that holds a DICOM study."""
    if group[0].format != "dicom":
        return group[0].files[0].name
    folders = [file.parent.resolve() for series in group for file in series.files]
    common = folders[0]
    while any(common not in (folder, *folder.parents) for folder in folders):
        common = common.parent
    return common.name or root.resolve().name


def _file_series(file: Path, kind: str, root: Path) -> Series:
    codec = _codec(kind)
    header = codec.read_header(file)
    implausible = [] if header.spacing_mm is None else [s for s in header.spacing_mm if not 1e-5 <= s <= 100]
    text = Message("voxels {a:g} mm apart", {"a": implausible[0]}) if implausible else None
    defects = (*header.defects, *([Defect("implausible-spacing", text)] if text else []))
    return Series(
        uid=file.relative_to(root).as_posix() if file != root else file.name,
        format=kind,
        modality="",
        description="",
        shape=header.geometry.shape,
        channels=header.channels,
        spacing_mm=header.spacing_mm,
        attributes={},
        defects=defects,
        files=(file,),
        read=partial(codec.read, file),
    )


def _codec(kind: str) -> ModuleType:
    from isocenter.formats import nifti, nrrd, raster

    return {"nifti": nifti, "nrrd": nrrd, "raster": raster}[kind]


def _dicom_series(uid: str, headers: Sequence[SliceHeader]) -> Series:
    """One series; one whose header cannot be understood is refused as a whole, and nothing else with it."""
    try:
        return _understood(headers)
    except Exception as error:  # noqa: BLE001 - pydicom converts values when they are looked at
        text = Message("{error}", {"error": f"{headers[0].file.name}: {cause_of(error)}"})
        found = doctor.Diagnosis(tuple(headers), None, (Defect("invalid-value", text),))
        files = tuple(h.file for h in headers)
        shape = (len(headers), 1, 1)
        return Series(uid, "dicom", "", "", shape, 1, None, {}, found.defects, files, partial(_read_slices, found))


def _understood(headers: Sequence[SliceHeader]) -> Series:
    found = doctor.examine(headers)
    first = found.headers[0]
    geometry = found.geometry
    rows, columns = (int(min(first.number(keyword, 1), 65535)) for keyword in ("Rows", "Columns"))
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


def _identity(study: dict[str, list[SliceHeader]]) -> Identity:
    """Who was examined, as the first readable slice says."""
    for headers in study.values():
        with suppress(InputError):
            return _identity_of(headers[0])
    return Identity()


def _identity_of(header: SliceHeader) -> Identity:
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
