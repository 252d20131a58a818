"""An examination becomes a folder, whole or not at all."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from isocenter.data.case import Case, Identity
from isocenter.data.examination import Examination
from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json
from isocenter.data.transform import Transform
from isocenter.data.volume import Volume
from isocenter.errors import InputError, UnsupportedFormat
from isocenter.formats import itk_transform, itksnap, nifti, nrrd, proof, raster
from isocenter.pipeline.extract import Extracted, features_csv
from isocenter.report.document import Language
from isocenter.version import __version__

REPORT = "report.json"
THUMBNAIL = "thumbnail.jpg"
FEATURES = "features.csv"
_ENDINGS = (
    ".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".mhd", ".dcm", ".dicom", ".ima", ".zip", ".png", ".jpg", ".jpeg",
    ".tif", ".tiff",
)  # fmt: skip
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}


_MAPS = {"inference.unusual": "Where the image is unusual"}
"""Captions of a map, by what made it."""


def write(examination: Examination, folder: Path, *, language: Language, lineage: Mapping[str, Json]) -> None:
    """Write masks, key images, `report.json` and `report.html` into an empty folder, and prove the masks.

    Args:
        examination: what to write.
        folder: exists and is empty.
        language: of the HTML report.
        lineage: what the run adds to the examination's lineage.
    Raises: ReadBackMismatch where a written mask does not say what was meant.
    """
    from isocenter.report import comparison, document, explanation, figures, gallery, machine

    masks: dict[str, Json] = {}
    for name, labels in examination.case.label_maps.items():
        masks[name] = _write_mask(examination, name, labels, folder)
    maps = {name: _write_transform(name, transform, folder) for name, transform in examination.case.transforms.items()}
    pictures = figures.key_images(examination)
    if examination.compare is not None and all(name in examination.case.volumes for name in examination.compare):
        one, other = (examination.case.volumes[name] for name in examination.compare)
        if one.geometry.distance_to(other.geometry) <= 0.01:
            registered = bool(examination.case.transforms)
            pictures = comparison.compared(one, other, ("fixed", "moved") if registered else ("before", "after"))
    if examination.explanation is not None:
        shown = examination.case.volumes["original"]
        png = explanation.heat_picture(shown, examination.explanation)
        what = _MAPS.get(examination.explanation.history[-1].name, "What moved the network's answer")
        plane = pictures[0].plane if pictures else "axial"
        pictures = (*pictures, figures.Picture("key_explanation.png", png, plane, None, "", overlay=True, what=what))
        nifti.write(examination.explanation, folder / "explanation.nii.gz")
    if examination.case.cine is not None:
        png = gallery.strip(examination.case.cine.frames)
        what = "Frames from the first to the last"
        pictures = (*pictures, figures.Picture("key_frames.png", png, "frames", None, "", overlay=False, what=what))
    for picture in pictures:
        (folder / picture.file).write_bytes(picture.png)
    small = comparison.thumbnail(pictures)
    if small is not None:
        (folder / THUMBNAIL).write_bytes(small)
    data = machine.report(examination, masks=masks, transforms=maps, images=[p.file for p in pictures], lineage=lineage)
    (folder / REPORT).write_text(
        json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False), "utf-8", "backslashreplace"
    )
    if any(feature.family for feature in examination.features):
        text = features_csv([Extracted(examination.case.name, examination.features)])
        (folder / FEATURES).write_text(text, "utf-8")
    page = document.render(examination, data, pictures, language=language)
    (folder / "report.html").write_text(page, "utf-8", "replace")


def _write_transform(name: str, transform: Transform, folder: Path) -> dict[str, Json]:
    """Write a map as an ITK transform (3D Slicer, ITK-SNAP), and what bends it as a field of displacements."""
    file = folder / f"{name}.tfm"
    itk_transform.write(transform.matrix, file)
    said: dict[str, Json] = {"matrix": transform.matrix.tolist(), "itk": file.name, "displacements": None}
    if transform.displacements is not None and transform.geometry is not None:
        field = Volume(transform.displacements, transform.geometry)
        nrrd.write(field, folder / f"{name}-displacements.nrrd")
        said["displacements"] = f"{name}-displacements.nrrd"
    return said


def _write_mask(examination: Examination, name: str, labels: LabelMap, folder: Path) -> dict[str, Json]:
    """Write one label map as NIfTI, `.seg.nrrd` and, where it can be, DICOM SEG or PNG; each is read back."""
    file, segments = folder / f"{name}.nii.gz", folder / f"{name}.seg.nrrd"
    nifti.write(labels, file)
    itksnap.write(labels.labels, folder / f"{name}{itksnap.ENDING}")
    nrrd.write_segments([labels], segments)
    said: dict[str, Json] = {
        "nifti": file.name,
        "label_description": f"{name}{itksnap.ENDING}",
        "seg_nrrd": segments.name,
        "labels": {str(label.value): label.name for label in labels.labels},
        "proof": {
            "nifti": proof.prove_nifti_labels(labels, file),
            "seg_nrrd": proof.prove_segments([labels], segments),
        },
        "dicom": None,
    }
    if labels.geometry.shape[0] == 1 and labels.geometry.space is not Space.PATIENT:
        raster.write(labels, folder / f"{name}.png")
        proof.prove_picture(labels, folder / f"{name}.png")
        said["png"] = f"{name}.png"
    series = examination.chosen
    if series is None or series.format != "dicom":
        return {**said, "dicom_absent": "the source is not DICOM"}
    return _write_seg(examination, name, labels, folder, said)


def _write_seg(
    examination: Examination, name: str, labels: LabelMap, folder: Path, said: dict[str, Json]
) -> dict[str, Json]:
    """Add a DICOM SEG to what was written, or the reason why there is none."""
    from isocenter.formats import dicom_seg

    series = examination.chosen
    assert series is not None, "a mask comes from a series"
    lineage = examination.lineage or {}
    key = json.dumps([lineage.get("examined"), examination.recipe["sha256"], __version__], sort_keys=True)
    origin = dicom_seg.Origin(str(examination.recipe["name"]), __version__, sha256(key.encode()).hexdigest())
    seg = folder / f"{name}.dcm"
    placed = labels.geometry.space is Space.PATIENT
    try:
        dicom_seg.write(
            labels, seg, name=name, sources=series.files, origin=origin,
            slice_by_slice=series.slice_by_slice or not placed,
        )  # fmt: skip
    except UnsupportedFormat as error:
        seg.unlink(missing_ok=True)
        return {**said, "dicom_absent": str(error)}
    said["proof"]["dicom"] = proof.prove_seg(labels, seg)
    return {**said, "dicom": seg.name, "dicom_on_repaired_grid": series.regridded}


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it becomes `target` when the block ends well, and vanishes when it does not.

    What stood at `target` stays until the new one is complete. Killed at any moment, `recover` leaves either the old
    folder or the new one.

    Raises: InputError for a file, or a name that cannot be replaced.
    """
    if not target.name or target.name == ".." or (target.exists() and not target.is_dir()):
        raise InputError(f"{target}: is no folder that can be made anew; name one, such as ./result")
    partial = target.with_name(f".isocenter-partial-{target.name}")
    previous = target.with_name(f".isocenter-previous-{target.name}")
    recover(target)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if target.exists():
        target.rename(previous)
    partial.rename(target)
    shutil.rmtree(previous, ignore_errors=True)


def recover(target: Path) -> None:
    """Clean up after a run that was killed while it wrote `target`."""
    previous = target.with_name(f".isocenter-previous-{target.name}")
    shutil.rmtree(target.with_name(f".isocenter-partial-{target.name}"), ignore_errors=True)
    if previous.exists():
        if target.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(target)


def written(folder: Path) -> dict[str, Json] | None:
    """The `report.json` of a finished folder; None if there is none that can be read."""
    try:
        data = json.loads((folder / REPORT).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def safe_name(case: Case) -> str:
    """The case's base name as a folder name on every system, and never a patient's name.

    Letters and digits of any script, `-`, `_` and `.` stay; the rest becomes `_`. A base name that spells the
    patient's name becomes `study-` and eight digits of its hash.
    """
    base = case.name
    ending = next((e for e in _ENDINGS if base.lower().endswith(e)), "")
    base = base[: len(base) - len(ending)]
    if _spells(base, case.identity):
        return f"study-{sha256(base.encode()).hexdigest()[:8]}"
    return plain_name(base, otherwise="study")


def plain_name(text: str, *, otherwise: str) -> str:
    """A text as one part of a path on every system.

    Letters and digits of any script, `-`, `_` and `.` stay; the rest becomes `_`.

    Args:
        text: any.
        otherwise: the name where nothing is left.
    """
    safe = re.sub(r"[^\w.-]", "_", text).strip("._")[:80]
    safe = safe.encode("utf-8", "replace")[:120].decode("utf-8", "ignore").strip("._") or otherwise
    return f"{safe}_" if safe.split(".")[0].lower() in _RESERVED else safe


def _spells(base: str, identity: Identity) -> bool:
    """Whether all parts of the patient's name occur in a file name. A name that is the patient's id is a pseudonym."""
    if not identity.patient_name or identity.patient_name == identity.patient_id:
        return False
    for group in identity.patient_name.split("="):
        parts = [p.lower() for p in re.split(r"[\^\s,._-]+", group) if p]
        if parts and all(p in base.lower() for p in parts) and sum(map(len, parts)) >= 2:
            return True
    return False


def require_folder(out: Path) -> None:
    """Make the output folder.

    Raises: InputError where it cannot be one.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: the output folder cannot be made ({error.strerror or error})") from error
