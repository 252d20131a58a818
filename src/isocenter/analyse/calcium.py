"""Coronary calcium on CT: Agatston score, volume and mass."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from isocenter.analyse.subject import Subject, labels_of, number_of, text_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.message import Message
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity
from isocenter.types import Array, Grid, Mask

_STANDARD_MM = 3.0
_STANDARD_KVP = 120.0
_CLASSES = ((0.0, "none"), (10.0, "minimal"), (100.0, "mild"), (400.0, "moderate"), (float("inf"), "extensive"))


class CalciumScore(Settings):
    """Settings of `calcium_score`."""

    label_maps = ("of",)

    of: str = "masks"
    """The label map in which calcium is looked for: the coronary arteries, drawn generously."""
    threshold_hu: float = 130.0
    """Calcium is at least this bright."""
    least_mm2: float = Field(1.0, gt=0)
    """A smaller spot in a slice is noise."""
    mass_factor: float | None = Field(None, gt=0)
    """mg of hydroxyapatite per mL and HU, from a calibration phantom on this scanner; without it no mass is stated."""


@dataclass(frozen=True)
class Calcium:
    """What one region holds.

    Args:
        agatston: score.
        volume_mm3: of voxels that count.
        mean_hu: of those; 0 where there is none.
        spots: connected spots in slices.
    """

    agatston: float
    volume_mm3: float
    mean_hu: float
    spots: int


def calcium_of(values: Grid, mask: Mask, *, pixel_mm2: float, slice_mm: float, settings: CalciumScore) -> Calcium:
    """Score the calcium in `mask`, slice by slice.

    A spot is a set of pixels that touch (also at corners); its area in mm2 is weighted by its brightest pixel: 1 from
    130 HU, 2 from 200, 3 from 300, 4 from 400.

    Source: A. Agatston et al., JACC 15(4):827-832, 1990; least area of 1 mm2: the same paper; area and density rules
        for 3 mm slices: C. McCollough et al., Radiology 243(2):527-538, 2007.
    """
    from scipy import ndimage

    score, count, total, spots = 0.0, 0, 0.0, 0
    for plane, inside in zip(values, mask, strict=True):
        bright = inside & (plane >= settings.threshold_hu)
        if not bright.any():
            continue
        labelled, found = ndimage.label(bright, np.ones((3, 3)))
        index = np.arange(1, found + 1)
        areas = np.bincount(labelled.ravel(), minlength=found + 1)[1:] * pixel_mm2
        peaks = np.asarray(ndimage.maximum(plane, labelled, index))
        sums = np.asarray(ndimage.sum(plane, labelled, index))
        kept = areas >= settings.least_mm2 - 1e-9
        score += float(np.sum(areas[kept] * density_weight(peaks[kept])))
        count += round(float(areas[kept].sum() / pixel_mm2))
        total += float(sums[kept].sum())
        spots += int(kept.sum())
    return Calcium(score, count * pixel_mm2 * slice_mm, total / count if count else 0.0, spots)


def density_weight(peaks: Array) -> Array:
    """Agatston's weight of a spot's brightest pixel in HU."""
    return np.asarray(np.clip(np.floor(peaks / 100), 1, 4))


def calcium_score(subject: Subject, settings: CalciumScore) -> Analysis:
    """State the Agatston score, the volume and, with a calibration, the mass of calcium in given regions.

    Refused: intensities that are no HU, a contrast agent (it is brighter than calcium), slices that are not axial or
    not 3 mm thick (resample first), or another tube voltage than 120 kV. To be looked at: no word of ECG gating.

    Source: see `calcium_of`; classes: J. Rumberger et al., Mayo Clin. Proc. 74(3):243-252, 1999.
    """
    labels = labels_of(subject, settings.of)
    image = subject.case.volumes["image"]
    image.require_quantity(Quantity.HU)
    refusals, checks = _preconditions(subject)
    if refusals:
        return Analysis(checks=tuple(refusals))
    slice_mm, row_mm, column_mm = image.geometry.spacing_mm
    findings = []
    total = 0.0
    method = Message("Agatston 1990: spots of at least {area:g} mm2 from {threshold:g} HU, in slices of 3 mm.",
                     {"area": settings.least_mm2, "threshold": settings.threshold_hu})  # fmt: skip
    for label in labels.labels:
        found = calcium_of(
            image.grid, labels.voxels == label.value, pixel_mm2=row_mm * column_mm, slice_mm=slice_mm, settings=settings
        )
        total += found.agatston
        name = {"name": label.name}
        findings.append(
            Finding(Message("Agatston score of {name}", name), found.agatston, "1", None, method, (settings.of,))
        )
        volume = Message("Calcium volume of {name}", name)
        findings.append(Finding(volume, found.volume_mm3, "mm3", None, method, (settings.of,)))
        if settings.mass_factor is not None:
            mass = settings.mass_factor * found.mean_hu * found.volume_mm3 / 1000
            said = Message("Calibrated with {factor:g} mg per mL and HU.", {"factor": settings.mass_factor})
            findings.append(Finding(Message("Calcium mass of {name}", name), mass, "mg", None, said, (settings.of,)))
    grade = "none" if total == 0 else next(word for most, word in _CLASSES[1:] if total <= most)
    text = "Agatston score of all regions together: {total:.0f}, class: {grade} (Rumberger 1999)."
    message = Message(text, {"total": total, "grade": Message(grade)})
    checks.append(Check("agatston_total", round(total, 2), Verdict.ACCEPTED, message))
    return Analysis(tuple(findings), tuple(checks))


def _preconditions(subject: Subject) -> tuple[list[Check], list[Check]]:
    """Why there is no score, and what must be looked at."""
    image, series = subject.case.volumes["image"], subject.series
    refused, checks = [], []
    agent = text_of(series, "ContrastBolusAgent")
    if agent:
        text = Message("A contrast agent was given ({agent}): it is as bright as calcium.", {"agent": agent})
        refused.append(Check("unenhanced", agent, Verdict.REFUSED, text))
    elif series.format != "dicom":
        text = Message("The file does not say whether a contrast agent was given: look.")
        checks.append(Check("unenhanced", "not stated", Verdict.REVIEW, text))
    if image.geometry.axis_letters[0] not in "SI":
        text = Message("The score is defined on axial slices, and these are not.")
        refused.append(Check("axial", image.geometry.axis_letters[0], Verdict.REFUSED, text))
    thickness = number_of(series, "SliceThickness")
    resampled = any(step.name == "preprocess.resample" for step in image.history)
    step = image.geometry.spacing_mm[0]
    odd = abs(step - _STANDARD_MM) > 0.05 or (
        thickness is not None and abs(thickness - _STANDARD_MM) > 0.05 and not resampled
    )
    if odd:
        thick = step if thickness is None else thickness
        said = "The score is defined for slices of 3 mm; these are {thick:g} mm, {step:g} mm apart: resample first."
        refused.append(Check("slices_mm", step, Verdict.REFUSED, Message(said, {"thick": thick, "step": step})))
    elif resampled:
        text = Message("The slices were resampled to 3 mm: thin slices are noisier than thick ones.")
        checks.append(Check("slices_mm", "resampled", Verdict.REVIEW, text))
    voltage = number_of(series, "KVP")
    if voltage is not None and abs(voltage - _STANDARD_KVP) > 1:
        text = Message("130 HU is calcium at 120 kV only, and this is {kvp:g} kV.", {"kvp": voltage})
        refused.append(Check("tube_voltage", voltage, Verdict.REFUSED, text))
    said_of = [text_of(series, k) for k in ("ScanOptions", "CardiacSynchronizationTechnique")]
    options = " ".join(said_of).upper().replace("NONE", "")
    if not any(
        word in options for word in ("ECG", "EKG", "GAT", "CARD", "TRIG", "PROSP", "RETRO", "PACED", "REALTIME")
    ):
        text = Message("No word of ECG gating: motion spreads and blurs calcium.")
        checks.append(Check("gated", "not stated", Verdict.REVIEW, text))
    return refused, checks
