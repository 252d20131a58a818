"""How large the lungs are, and whether emphysema can be measured on this CT."""

import re

import numpy as np
from pydantic import Field

from isocenter.analyse.subject import Subject, labels_of, number_of, results_of, text_of
from isocenter.data.case import Series
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.message import Message
from isocenter.data.step import Settings

_SOFT_KERNELS = {
    "ge": r"^(STANDARD|SOFT)$",
    "siemens": r"^(B|BR|BF|QR)(1\d|2\d|3\d|40)[A-Z0-9\\]*$",
    "philips": r"^(A|B)$",
    "toshiba": r"^FC0?[1-5]$|^FC1[0-8]$",
    "canon": r"^FC0?[1-5]$|^FC1[0-8]$",
}
"""Kernels without edge enhancement, by maker: those of the COPDGene study (E. Regan et al., COPD 7(1):32-43, 2010: GE
STANDARD, Siemens B31f, Philips B) and the smoother ones of each maker's list."""


class LungVolumes(Settings):
    """Settings of `lung_volumes`."""

    label_maps = ("of",)

    of: str = "lungs"
    """The label map that `segment: lungs` made."""
    least_ml: float = Field(1500.0, gt=0)
    """Review below: both lungs of an adult after breathing in hold more."""
    most_ml: float = Field(9500.0, gt=0)
    """Review above."""
    least_ratio: float = Field(0.6, gt=0, lt=1)
    """Review below: the smaller lung over the larger; the left one is a tenth smaller in health."""


def lung_volumes(subject: Subject, settings: LungVolumes) -> Analysis:
    """State the volumes of the lungs: each where both are whole in the field, otherwise at least how much there is."""
    labels = labels_of(subject, settings.of)
    found = results_of(labels, "segment.lungs")
    size = labels.geometry.voxel_volume_mm3 / 1000
    there = {lb.name: int(np.count_nonzero(labels.voxels == lb.value)) * size for lb in labels.labels}
    cut_off = [str(edge) for edge in found["cut_off"]]
    method = Message("Voxels of the lung, with vessels and without trachea and bronchi, times the volume of one.")
    both = there.get("right lung", 0) + there.get("left lung", 0) + there.get("lung", 0)
    checks = [_whole(cut_off), _airways(found["airway_threshold_hu"], float(found["airways_ml"]))]
    if "right lung" in there:
        findings = [
            Finding(Message("Volume of {name}", {"name": name}), there[name], "mL", None, method, (settings.of,))
            for name in ("right lung", "left lung")
        ]
        findings.append(Finding(Message("Volume of both lungs"), both, "mL", None, method, (settings.of,)))
        checks += _plausible(there["right lung"], there["left lung"], settings)
        return Analysis(tuple(findings), tuple(checks))
    words = Message("Lung volume in the field, at least" if cut_off else "Lung volume, sides not told apart")
    finding = Finding(words, both, "mL", None, method, (settings.of,))
    if not found["both_sides"]:
        text = "Two lungs, one on each side, were not found: left and right are not stated."
        checks.append(Check("both_lungs", int(found["lungs"]), Verdict.REVIEW, Message(text)))
    return Analysis((finding,), tuple(checks))


def _whole(cut_off: list[str]) -> Check:
    if not cut_off:
        return Check("lungs_whole", "whole", Verdict.ACCEPTED, Message("The lungs lie whole within the volume."))
    text = "Lung touches the volume's edge ({edges}): volumes are at least what is stated, and sides are not stated."
    return Check("lungs_whole", "".join(cut_off), Verdict.REVIEW, Message(text, {"edges": ", ".join(cut_off)}))


def _airways(threshold: float | None, volume: float) -> Check:
    if threshold is None:
        text = "No trachea was found: its air, if it is in the field, counts as lung."
        return Check("airways", "not found", Verdict.REVIEW, Message(text))
    text = "Trachea and bronchi were taken out: {volume:.0f} mL, grown below {threshold:g} HU."
    message = Message(text, {"volume": volume, "threshold": threshold})
    return Check("airways", round(volume, 1), Verdict.ACCEPTED, message)


def _plausible(right: float, left: float, settings: LungVolumes) -> list[Check]:
    total, ratio = right + left, min(right, left) / max(right, left)
    text = "Both lungs hold {total:.0f} mL (plausible {low:.0f} to {high:.0f} mL)."
    fits = settings.least_ml <= total <= settings.most_ml
    size = Check(
        "lungs_mL",
        round(total, 1),
        Verdict.ACCEPTED if fits else Verdict.REVIEW,
        Message(text, {"total": total, "low": settings.least_ml, "high": settings.most_ml}),
    )
    text = (
        "The smaller lung has {ratio:.0%} of the larger one's volume (at least {least:.0%}); collapse, consolidation "
        "or effusion is not air and is missed."
    )
    even = ratio >= settings.least_ratio
    message = Message(text, {"ratio": ratio, "least": settings.least_ratio})
    return [size, Check("lung_ratio", round(ratio, 3), Verdict.ACCEPTED if even else Verdict.REVIEW, message)]


class Emphysema(Settings):
    """Settings of `emphysema`."""

    label_maps = ("of",)

    of: str = "lungs"
    """The label map that `segment: lungs` made."""
    below_hu: float = -950.0
    """Lung darker than this counts as emphysema."""
    thickest_mm: float = Field(1.5, gt=0)
    """Thicker slices average emphysema away."""


def emphysema(subject: Subject, settings: Emphysema) -> Analysis:
    """State the share of lung under -950 HU and the 15th percentile, where this CT can be compared with others.

    Only for unenhanced, thin slices of a soft kernel and whole lungs; otherwise `not comparable`, and why: a sharp
    kernel's noise alone puts many voxels under -950 HU.

    Source: P. Gevenois et al., Am. J. Respir. Crit. Care Med. 154(1):187-192, 1996 (-950 HU); A. Dirksen et al., ibid.
        160(5):1468-1472, 1999 (15th percentile); kernels: K. Boedeker et al., Radiology 232(1):295-301, 2004.
    """
    labels = labels_of(subject, settings.of)
    image = subject.case.volumes["original"]
    why = _not_comparable(subject.series, settings)
    if results_of(labels, "segment.lungs")["cut_off"]:
        why.append(Message("the lungs are cut off"))
    kernel = text_of(subject.series, "ConvolutionKernel") or "?"
    thickness, kvp = (number_of(subject.series, k) for k in ("SliceThickness", "KVP"))
    said = {
        "kernel": kernel,
        "mm": "?" if thickness is None else f"{thickness:.3g}",
        "kvp": "?" if kvp is None else f"{kvp:g}",
    }
    if why:
        text = "Emphysema is not comparable ({why}); kernel {kernel}, slices of {mm} mm, {kvp} kVp."
        message = Message(text, {"why": tuple(why), **said})
        finding = Finding(Message("Emphysema"), None, "", None, message, (settings.of,))
        return Analysis((finding,), (Check("emphysema", "not comparable", Verdict.ACCEPTED, message),))
    lung = np.isin(labels.voxels, [lb.value for lb in labels.labels if lb.name.endswith("lung")])
    values = image.grid[lung]
    share = float(np.mean(values < settings.below_hu))
    percentile = float(np.percentile(values, 15))
    method = Message(
        "Lung without airways; kernel {kernel}, slices of {mm} mm, {kvp} kVp. Breath, dose and scanner move it.", said
    )
    below = Message("Share of lung under {below:g} HU", {"below": settings.below_hu})
    findings = (
        Finding(below, 100 * share, "%", None, method, (settings.of,)),
        Finding(Message("15th percentile of lung density"), percentile, "[hnsf'U]", None, method, (settings.of,)),
    )
    text = "Emphysema can be compared: kernel {kernel}, slices of {mm} mm, {kvp} kVp, no contrast agent stated."
    return Analysis(findings, (Check("emphysema", "comparable", Verdict.ACCEPTED, Message(text, said)),))


def _not_comparable(series: Series, settings: Emphysema) -> list[Message]:
    """Why emphysema measures of this series cannot be compared; empty if they can."""
    why = []
    kernel = text_of(series, "ConvolutionKernel").upper()
    maker = text_of(series, "Manufacturer").lower()
    pattern = next((p for name, p in _SOFT_KERNELS.items() if re.search(rf"\b{name}\b", maker)), None)
    if not kernel:
        why.append(Message("the kernel is not stated"))
    elif pattern is None:
        why.append(Message("the kernels of this maker are not known"))
    elif not re.match(pattern, kernel):
        why.append(Message("not a soft kernel"))
    thickness = number_of(series, "SliceThickness") or (series.spacing_mm[0] if series.spacing_mm else None)
    if thickness is None or thickness > settings.thickest_mm:
        why.append(Message("slices thicker than {mm:g} mm", {"mm": settings.thickest_mm}))
    if text_of(series, "ContrastBolusAgent"):
        why.append(Message("a contrast agent was given"))
    if series.format != "dicom":
        why.append(Message("the file does not say how it was acquired"))
    return why
