"""A path becomes one case, or one for each study that it holds."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType

from isocenter.acquire.archive import Unpacked, is_zip, listed, unpacked
from isocenter.acquire.codes import noted, refused
from isocenter.acquire.discover import files_below, is_dicomdir, kind_of
from isocenter.acquire.doctor import kind_of as class_of
from isocenter.acquire.policy import REPAIR, Policy
from isocenter.acquire.results import result_of
from isocenter.acquire.series import dicom_series
from isocenter.data.case import Case, Defect, Identity, RefusedFile, Result, Series
from isocenter.errors import AmbiguousSelection, InputError, NothingReadable, TruncatedPixels, UnreadableFile, cause_of
from isocenter.formats.dicom_header import Header
from isocenter.formats.dicom_image import read_header
from isocenter.types import Progress

_TELL_EVERY = 64


def open_case(path: str | Path, *, policy: Policy = REPAIR, on_progress: Progress | None = None) -> Case:
    """Open one examination: a DICOM folder, file, DICOMDIR or zip; a NIfTI, NRRD, MetaImage, PNG, JPEG or TIFF file.

    Headers are read and judged; voxels are read when a volume is asked for.

    Args:
        path: file or folder.
        policy: what is done about defects.
        on_progress: called while headers are read.
    Raises: UnreadableFile if nothing in it is an image; AmbiguousSelection if it holds several studies.
    """
    cases = open_cases(path, policy=policy, on_progress=on_progress)
    if len(cases) == 1:
        return cases[0]
    raise AmbiguousSelection(
        f"{path} holds {len(cases)} studies; open one of them by its file or folder:\n"
        + "\n".join(f"  {_first_file(c)}: {len(c.series)} series, first {_first_uid(c)}" for c in cases[:40])
    )


def _first_file(case: Case) -> Path:
    return case.series[0].files[0] if case.series else case.results[0].file


def _first_uid(case: Case) -> str:
    return case.series[0].uid if case.series else case.results[0].uid


@dataclass
class _Found:
    """What the files below a path turned out to be."""

    studies: dict[str, dict[str, list[Header]]] = field(default_factory=dict)
    loose: list[Series] = field(default_factory=list)
    refused: list[RefusedFile] = field(default_factory=list)
    truncated: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, file: Path, why: str) -> None:
        self.refused.append(RefusedFile(file, why))


def open_cases(
    path: str | Path,
    *,
    policy: Policy = REPAIR,
    without: Path | None = None,
    only: Sequence[Path] | None = None,
    on_progress: Progress | None = None,
) -> tuple[Case, ...]:
    """Open every study below a path; see `open_case`.

    A file that names no patient (NIfTI, PNG ...) is a case of its own: nothing proves that it belongs to others. The
    folder `without` is left out; with `only`, nothing but these files is looked at.
    """
    if not str(path).strip():
        raise UnreadableFile("no path was given: an empty name (an unset variable?)")
    given = Path(path)
    found = _Found()
    root, files, keep = _files(given, found, without) if only is None else (given, list(only), None)
    for done, file in enumerate(files):
        if on_progress and done % _TELL_EVERY == 0:
            on_progress("reading headers", done, len(files))
        _look(file, root, found)
    cases = [_case(study, root, policy, found) for study in found.studies.values()]
    cases += [Case(series.files[0].name, given, Identity(), (series,)) for series in found.loose]
    cases = [case for case in cases if case.series or case.results]
    if not cases:
        raise NothingReadable(_nothing(given, found.refused), tuple((str(r.file), r.message) for r in found.refused))
    own = given.resolve().name
    return tuple(
        replace(
            case,
            name=case.name if len(cases) > 1 and case.name != root.resolve().name else own,
            path=given,
            refused_files=tuple(found.refused),
            series=tuple(replace(s, keep=keep) for s in case.series),
            results=tuple(replace(r, keep=keep) for r in case.results),
        )
        for case in cases
    )


def _files(given: Path, found: _Found, without: Path | None) -> tuple[Path, list[Path], Unpacked | None]:
    """The files to look at, the folder they lie in, and what must live as long as they are needed."""
    unlisted = lambda folder, why: found.refuse(folder, f"{folder.name}: {why}")  # noqa: E731
    files = list(files_below(given, without=without, on_unlisted=unlisted))
    if given.is_file() and files:
        try:
            if is_zip(given):
                keep = unpacked(given, lambda file, why: found.refuse(file, f"{file.name}: {why}"))
                return keep.folder, list(files_below(keep.folder, on_unlisted=unlisted)), keep
            if is_dicomdir(given):
                return given.parent, listed(given, found.refuse), None
        except OSError as error:
            raise UnreadableFile(f"{given.name}: cannot be opened ({error.strerror})") from error
    return given, files, None


def _look(file: Path, root: Path, found: _Found) -> None:
    """Sort one file in by what it holds."""
    try:
        header = read_header(file, marked=True)
        if header is None:
            kind = kind_of(file)
            if kind != "dicom":
                found.loose.append(_file_series(file, kind, root))
                return
            header = read_header(file)
        if header is None or not class_of(header):
            found.refuse(file, f"{file.name}: {_no_image(header)}")
            return
        series_uid = header.text("SeriesInstanceUID")
        study = found.studies.setdefault(header.text("StudyInstanceUID") or f"of {series_uid}", {})
        study.setdefault(series_uid, []).append(header)
    except TruncatedPixels as error:
        found.refuse(file, str(error))
        found.truncated.setdefault(error.series_uid, []).append(file.name)
    except InputError as error:
        found.refuse(file, str(error))
    except Exception as error:  # noqa: BLE001 - a codec's surprise is that file's fault, not the study's
        found.refuse(file, f"{file.name}: its header cannot be read ({cause_of(error)})")


def _no_image(header: Header | None) -> str:
    from pydicom.uid import UID

    name = UID(header.text("SOPClassUID")).name if header else "unknown"
    return f"a DICOM object of a kind that is not read ({name})"


def _case(study: dict[str, list[Header]], root: Path, policy: Policy, found: _Found) -> Case:
    """The series and results of one study; all series are refused where the files name several patients."""
    series: list[Series] = []
    results: list[Result] = []
    for uid, headers in study.items():
        images: list[Header] = []
        written: list[Header] = []
        for header in headers:
            (written if class_of(header) == "result" else images).append(header)
        if images:
            made, refused_files = dicom_series(uid, images, policy, truncated=found.truncated.get(uid, ()))
            series += made
            found.refused += refused_files
        for header in written:
            try:
                results.append(result_of(header))
            except InputError as error:
                found.refuse(header.file, str(error))
    doubt = _patients([header for headers in study.values() for header in headers])
    series = [replace(s, defects=(*s.defects, *doubt)) for s in series]
    return Case(_study_name(study, root), root, _identity(study), tuple(series), results=tuple(results))


def _patients(headers: Sequence[Header]) -> tuple[Defect, ...]:
    """Whether one study names several patients: by number, by birth date, or by name where there is no number."""
    said = {tuple(map(header.raw, _WHO)) for header in headers}
    if len(said) == 1:
        return ()
    who = [{header.text(keyword).strip("^ ").casefold() for header in headers} for keyword in _WHO]
    numbers, names, births = (found - {""} for found in who)
    text = "one study holds files of {n} patients; sort them apart first"
    n = max(len(numbers), len(births), len(names) if not numbers else 1)
    if n > 1:
        return (refused("several-patients", text, n=n),)
    if len(names) > 1:
        text = "files of one study, with one PatientID, name the patient in {n} ways"
        return (noted("several-patients", text, n=len(names)),)
    return ()


_WHO = ("PatientID", "PatientName", "PatientBirthDate")


def _nothing(root: Path, refused_files: Sequence[RefusedFile]) -> str:
    if not refused_files:
        return f"{root}: the folder holds no file"
    if root.is_file() and len(refused_files) == 1:
        return refused_files[0].message
    by_message = list(dict.fromkeys(r.message for r in refused_files))
    text = "\n".join(f"  {message}" for message in by_message[:5])
    more = f"\n  ... and {len(by_message) - 5} more" if len(by_message) > 5 else ""
    return f"{root}: none of its {len(refused_files)} files is an image that can be read:\n{text}{more}"


def _study_name(study: dict[str, list[Header]], root: Path) -> str:
    """The deepest folder below `root` that holds all of a study."""
    unique = {os.path.dirname(header.file) for headers in study.values() for header in headers}  # noqa: PTH120 - fast
    folders = [Path(folder).resolve() for folder in unique]
    common = folders[0]
    while any(common not in (folder, *folder.parents) for folder in folders):
        common = common.parent
    return common.name or root.resolve().name


def _file_series(file: Path, kind: str, root: Path) -> Series:
    codec = _codec(kind)
    header = codec.read_header(file)
    defects = tuple(header.defects)
    odd = [] if header.spacing_mm is None else [s for s in header.spacing_mm if not 1e-5 <= s <= 100]
    if odd:
        defects += (refused("implausible-spacing", "voxels {a:g} mm apart", a=odd[0]),)
    return Series(
        uid=file.relative_to(root).as_posix() if file != root and file.is_relative_to(root) else file.name,
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
        frames=header.frames,
        path=file,
    )


def _codec(kind: str) -> ModuleType:
    from isocenter.formats import hdf5, metaimage, nifti, nrrd, raster

    return {"nifti": nifti, "nrrd": nrrd, "raster": raster, "metaimage": metaimage, "hdf5": hdf5}[kind]


def _identity(study: dict[str, list[Header]]) -> Identity:
    """Who was examined, as the first readable file says."""
    for headers in study.values():
        with suppress(InputError):
            return _identity_of(headers[0])
    return Identity()


def _identity_of(header: Header) -> Identity:
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
