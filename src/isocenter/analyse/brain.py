"""Is this a brain, is its contrast T1, and how much of each tissue is there?"""

import numpy as np
from pydantic import Field

from isocenter.analyse.subject import Subject, labels_of, results_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.step import Settings


class BrainPlausibility(Settings):
    """Settings of `brain_plausibility`."""

    label_maps = ("of",)

    of: str = "brain"
    """The label map that `segment: brain` made."""
    least_ml: float = 900.0
    """Review below: the smallest healthy adult brains with their fluid (average about 1400 mL)."""
    most_ml: float = 2100.0
    """Review above; the MNI152 average brain itself has 1887 mL, because its template is larger than most heads."""
    least_information: float = 0.35
    """Review below: mutual information (nats) between template and head; about 0.6 for a good T1."""
    least_template_dice: float = 0.88
    """Review below: overlap of the refined mask with the registered template."""
    stretch: tuple[float, float] = (0.65, 1.35)
    """Review outside: how much the template was stretched along any direction."""
    most_outside_field: float = Field(0.002, ge=0, le=1)
    """Review above: share of the brain that lies beyond the image."""


def brain_plausibility(subject: Subject, settings: BrainPlausibility) -> Analysis:
    """Judge whether the brain extraction can be believed; a head that is no head is refused.

    Refused where half the template lies outside the image or the mutual information is under half the limit.

    Source of the volume range: A. M. Fjell, K. B. Walhovd, Rev. Neurosci. 21(3):187-221, 2010, and the spread of
        total intracranial volume in C. DeCarli et al., Neurobiol. Aging 26(4):491-510, 2005.
    """
    labels = labels_of(subject, settings.of)
    found = results_of(labels, "segment.brain")
    volume = float(np.count_nonzero(labels.voxels)) * labels.geometry.voxel_volume_mm3 / 1000
    information, outside = float(found["mutual_information"]), float(found["outside_field"])
    dice, scales = float(found["template_dice"]), [float(s) for s in found["scales"]]
    low, high = settings.stretch
    lost = information < settings.least_information / 2 or outside > 0.5
    checks = [
        _check(
            "brain_registration",
            round(information, 3),
            good=information >= settings.least_information,
            refused=lost,
            text="Agreement of template and head: mutual information {value:.2f} (at least {least:.2f}).",
            values={"value": information, "least": settings.least_information},
        ),
        _check(
            "brain_outside_field",
            round(outside, 4),
            good=outside <= settings.most_outside_field,
            refused=outside > 0.5,
            text="Share of the brain beyond the image: {value:.2%} (at most {most:.2%}); the true brain is larger.",
            values={"value": outside, "most": settings.most_outside_field},
        ),
        _check(
            "brain_volume_mL",
            round(volume, 1),
            good=settings.least_ml <= volume <= settings.most_ml,
            text="Extracted brain: {value:.0f} mL (plausible {low:.0f} to {high:.0f} mL).",
            values={"value": volume, "low": settings.least_ml, "high": settings.most_ml},
        ),
        _check(
            "brain_template_dice",
            round(dice, 3),
            good=dice >= settings.least_template_dice,
            text="Overlap of extracted and registered brain: Dice {value:.2f} (at least {least:.2f}).",
            values={"value": dice, "least": settings.least_template_dice},
        ),
        _check(
            "brain_stretch",
            round(scales[int(np.argmax(np.abs(np.asarray(scales) - 1)))], 3),
            good=low <= min(scales) and max(scales) <= high,
            text="The template was stretched by {a:.2f} to {b:.2f} (plausible {low:.2f} to {high:.2f}).",
            values={"a": min(scales), "b": max(scales), "low": low, "high": high},
        ),
    ]
    return Analysis(checks=tuple(checks))


class T1Contrast(Settings):
    """Settings of `t1_contrast`."""

    label_maps = ("of", "brain")

    of: str = "tissue"
    """The label map of the tissues, darkest first."""
    brain: str = "brain"
    """The label map of the brain."""
    depth_mm: float = Field(8.0, gt=0, le=40)
    """How far under the brain's surface the voxels lie that are mostly white matter."""
    most_drift: float = Field(0.4, gt=0, le=1)
    """Review above: share of the grey-white contrast by which white matter drifts from octant to octant."""


def t1_contrast(subject: Subject, settings: T1Contrast) -> Analysis:
    """Check on the picture that white matter is brighter than grey, and grey than fluid.

    The tissue classes are named by brightness alone. On a T1 the brightest class must lie deeper under the brain's
    surface than the middle one (white inside, cortex outside), and the darkest be the smallest; on a T2 the
    order is turned round and these fail.
    """
    from isocenter.ops.morphology import signed_distance

    labels, brain = labels_of(subject, settings.of), labels_of(subject, settings.brain)
    depth = -signed_distance(brain.foreground, spacing=brain.geometry.spacing_mm)
    names = [label.name for label in labels.labels]
    share = [float(np.mean(depth[labels.voxels == lb.value] >= settings.depth_mm)) for lb in labels.labels]
    counts = [int(np.count_nonzero(labels.voxels == lb.value)) for lb in labels.labels]
    text = (
        "White must be brighter than grey: {high:.0%} of {bright} lies deeper than {depth:g} mm, {low:.0%} of {middle}."
    )
    deeper = _check(
        "t1_white_inside",
        round(share[-1] - share[-2], 3),
        good=share[-1] > share[-2],
        refused=share[-1] <= share[-2],
        text=text,
        values={
            "bright": names[-1],
            "middle": names[-2],
            "depth": settings.depth_mm,
            "high": share[-1],
            "low": share[-2],
        },
    )
    smallest = _check(
        "t1_fluid_smallest",
        round(counts[0] / max(1, sum(counts)), 3),
        good=counts[0] <= min(counts[1:]),
        text="The darkest class ({dark}) takes {value:.0%} of the brain; on a T1 it is the smallest.",
        values={"dark": names[0], "value": counts[0] / max(1, sum(counts))},
    )
    return Analysis(checks=(deeper, smallest, _even(subject, labels, settings)))


def _even(subject: Subject, labels: LabelMap, settings: T1Contrast) -> Check:
    """Whether a drift of brightness is left that the bias correction did not take out.

    Compares the medians of the brightest class over the eight octants about the brain's centre with the contrast
    between the two brightest classes: what drifts by more than a share of it moves the cut between them.
    """
    image = subject.case.volumes["image"].grid
    bright, middle = labels.labels[-1].value, labels.labels[-2].value
    index = np.argwhere(labels.voxels == bright)
    values = image[tuple(index.T)]
    octant = (index > np.argwhere(labels.voxels > 0).mean(axis=0)) @ np.asarray([4, 2, 1])
    medians = [float(np.median(values[octant == i])) for i in range(8) if np.count_nonzero(octant == i) > 100]
    contrast = float(np.median(values)) - float(np.median(image[labels.voxels == middle]))
    drift = (max(medians) - min(medians)) / contrast if medians and contrast > 0 else 1.0
    return _check(
        "brightness_drift",
        round(drift, 3),
        good=drift <= settings.most_drift,
        text="White matter drifts over the brain by {value:.0%} of its contrast to grey (at most {most:.0%}).",
        values={"value": drift, "most": settings.most_drift},
    )


class TissueVolumes(Settings):
    """Settings of `tissue_volumes`."""

    label_maps = ("of", "brain")

    of: str = "tissue"
    """The label map of the tissues."""
    brain: str = "brain"
    """The label map of the brain."""
    shift: float = Field(0.05, gt=0, lt=0.5)
    """The interval is the range of the volume when cuts between tissues move by this share of their contrast."""


def tissue_volumes(subject: Subject, settings: TissueVolumes) -> Analysis:
    """State the volume of each tissue, of the whole brain, and the ratio of grey to white matter.

    The interval says how sensitive a volume is to where the cut between two tissues lies; it is no confidence interval.

    Raises: InputError if the volumes were not measured before.
    """
    labels = labels_of(subject, settings.of)
    method = Message(
        "Voxels of the class times the volume of one; range: cuts moved by {shift:.0%} of the contrast.",
        {"shift": settings.shift},
    )
    ranges = _ranges(subject, labels, settings.shift)
    findings = []
    values = {}
    for label in labels.labels:
        value = subject.features.get("volume", label=label.name).value
        assert value is not None, "a volume is never missing"
        values[label.name] = value
        low, high = ranges[label.name]
        statement = Message("Volume of {label} within the brain", {"label": label.name})
        interval = (value * low, value * high)
        findings.append(Finding(statement, value, "mL", interval, method, (settings.of,)))
    tissue = [values[label.name] for label in labels.labels[1:]]
    findings.append(
        Finding(
            Message("Brain tissue (grey and white matter)"),
            sum(tissue),
            "mL",
            None,
            Message("Sum of the two volumes."),
            (settings.of,),
        )
    )
    if tissue[1] > 0:
        ratio = Message("Ratio of grey to white matter")
        findings.append(
            Finding(ratio, tissue[0] / tissue[1], "1", None, Message("Ratio of the two volumes."), (settings.of,))
        )
    return Analysis(findings=tuple(findings))


def _ranges(subject: Subject, labels: LabelMap, shift: float) -> dict[str, tuple[float, float]]:
    """Smallest and largest volume of each label over all moves of the cuts, as a share of the unmoved one."""
    found = results_of(labels, "segment.gaussian_mixture")
    means, cuts = np.asarray(found["means"], dtype=float), np.asarray(found["cuts"], dtype=float)
    image = subject.case.volumes["image"]
    inside = labels.foreground
    moves = shift * np.diff(means)
    edges = np.sort(np.concatenate((cuts - moves, cuts, cuts + moves)))
    below = np.zeros(len(edges), np.int64)  # voxels at or under each edge
    for plane, mask in zip(image.grid, inside, strict=True):
        values = plane[mask]
        below += [int(np.count_nonzero(values <= edge)) for edge in edges]
    total = int(np.count_nonzero(inside))
    at = dict(zip(edges.tolist(), below.tolist(), strict=True))
    ends = [(0.0, 0.0, 0.0), *((at[c - m], at[c], at[c + m]) for c, m in zip(cuts, moves, strict=True))]
    ends.append((float(total),) * 3)
    shares = {}
    for i, label in enumerate(labels.labels):
        unmoved = max(1.0, ends[i + 1][1] - ends[i][1])
        smallest = max(0.0, ends[i + 1][0] - ends[i][2])
        largest = ends[i + 1][2] - ends[i][0]
        shares[label.name] = (smallest / unmoved, largest / unmoved)
    return shares


def _check(
    name: str,
    value: float,
    *,
    good: bool,
    text: str,
    values: dict[str, str | float],
    refused: bool = False,
) -> Check:
    verdict = Verdict.REFUSED if refused else Verdict.ACCEPTED if good else Verdict.REVIEW
    return Check(name, value, verdict, Message(text, values))
