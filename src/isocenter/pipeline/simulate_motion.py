"""`data simulate-motion`: loops of a beating heart from pairs of end-diastole and end-systole, marked as simulated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from isocenter.acquire.datasets import open_dataset
from isocenter.acquire.labelled import read_images, read_mask
from isocenter.data.cine import Cine
from isocenter.data.dataset import Sample
from isocenter.data.geometry import Geometry
from isocenter.data.labels import LabelMap
from isocenter.data.volume import Volume
from isocenter.errors import GeometryError, InputError
from isocenter.formats import nifti
from isocenter.formats.delimited import csv_text
from isocenter.metrics.overlap import dice
from isocenter.ops.deform import between, displacement, pulled
from isocenter.pipeline.output import plain_name
from isocenter.pipeline.own_folder import own_folder
from isocenter.types import Array, Progress

TABLE, README = "loops.csv", "README.txt"
MARK = "simulated motion"
_SYSTOLE = 0.35
"""Share of the cycle in which the heart contracts: a convention, about a third at rest."""
_OUTLINE = 0.5
"""Weight of the outlines beside the image, by which both are brought together."""
_SAYS = """Simulated motion. Only the two frames that `real_frames` names were measured; every other frame was made from
them: a dense map between both (diffeomorphic demons on image and outlines, slice by slice) moves each toward the other,
and both are mixed. `overlap` is the Dice of the outlines at end-diastole, moved, with those drawn at end-systole. The
time course (contraction in {systole:.0%} of the cycle, one cycle of {seconds:g} s) is a convention, not this patient's.
Volumes are counts of voxels within the outlines, moved and mixed alike; `share` is that of the volume at end-diastole.
"""


@dataclass(frozen=True, eq=False)
class Loop:
    """One made loop.

    Args:
        frames: `t d h w`.
        geometry: of every frame.
        shares: how far each frame is contracted, 0 to 1.
        volumes: of each label, voxels in each frame.
        real: numbers of the frames that were measured.
        overlap: of each label, Dice of end-diastole brought onto end-systole with what was drawn there.
    """

    frames: Array = field(repr=False)
    geometry: Geometry
    shares: Array = field(repr=False)
    volumes: dict[str, Array] = field(repr=False)
    real: tuple[int, int]
    overlap: dict[str, float]


def simulate_motion(
    data: str | Path, out: str | Path, *, frames: int = 16, seconds: float = 0.9, on_progress: Progress | None = None
) -> list[str]:
    """Make a loop of each patient's two labelled images, the first of which is end-diastole by its natural order.

    Args:
        data: data set of label maps with two images a patient, on one grid.
        out: a new folder for `<patient>.nii.gz`, `loops.csv` and what they are.
        frames: of each loop.
        seconds: of one cycle.
        on_progress: told each patient.
    Returns: what was left out, or has no ejection fraction, and why.
    Raises: InputError where no patient has two labelled images.
    """
    if not 4 <= frames <= 200:
        raise InputError(f"--frames {frames}: from 4 to 200")
    opened = open_dataset(data)
    known = sorted((s for s in opened.samples if s.patient and s.mask is not None), key=lambda s: s.patient)
    pairs = {name: list(own) for name, own in groupby(known, key=lambda s: s.patient)}
    left = [f"{name}: has {len(own)} labelled images; two are wanted" for name, own in pairs.items() if len(own) != 2]
    pairs = {name: own for name, own in pairs.items() if len(own) == 2}
    if not pairs:
        raise InputError(f"{opened.path}: no patient has two labelled images, at end-diastole and end-systole")
    for name in [name for name in pairs if plain_name(name, otherwise="") != name]:
        left.append(f"{name!r}: a patient's name becomes a file's: letters, digits, - and _ alone")
        del pairs[name]
    rows: list[dict[str, str]] = []
    with own_folder(Path(out), "loops") as empty:
        for number, (patient, own) in enumerate(pairs.items()):
            if on_progress:
                on_progress(f"moving {patient}", number, len(pairs))
            try:
                loop = looped(own, frames)
            except (GeometryError, InputError) as error:
                left.append(f"{patient}: {error}")
                continue
            times = tuple(float(v) for v in np.arange(frames) * seconds / frames)
            cine = Cine(loop.frames[:, None], loop.geometry, times)
            nifti.write(cine, empty / f"{patient}.nii.gz", intent="simulated")
            row, odd = _row(patient, loop, seconds / frames)
            rows.append(row)
            left += odd
        if not rows:
            raise InputError(f"no loop could be made; the first: {left[0]}")
        columns = list(dict.fromkeys(name for row in rows for name in row))
        (empty / TABLE).write_text(csv_text([columns, *([row.get(c, "") for c in columns] for row in rows)]), "utf-8")
        (empty / README).write_text(_SAYS.format(systole=_SYSTOLE, seconds=seconds), "utf-8")
    return left


def looped(pair: Sequence[Sample], frames: int) -> Loop:
    """The loop of one patient.

    Raises: GeometryError for two images on different grids; InputError for other labels.
    """
    images = [read_images(sample) for sample in pair]
    images[0].geometry.require_same(images[1].geometry, what="the images at end-diastole and end-systole")
    masks = [_labels(sample, image) for sample, image in zip(pair, images, strict=True)]
    there = set().union(*(np.unique(mask.voxels).tolist() for mask in masks))
    names = {label.value: label.name for mask in masks for label in mask.labels if label.value in there}
    grey = [np.asarray(image.voxels[0], np.float32) for image in images]
    parts = {name: [(np.asarray(m.voxels) == value).astype(np.float32) for m in masks] for value, name in names.items()}
    shares, real = course(frames)
    volumes = {name: np.zeros(frames) for name in parts}
    made = np.zeros((frames, *grey[0].shape), np.float32)
    moved_on = {name: np.zeros(grey[0].shape, np.bool_) for name in parts}
    for z in range(grey[0].shape[0]):
        flat = [g[z] for g in grey]
        guide = _guide([{name: two[k][z] for name, two in parts.items()} for k in (0, 1)], flat)
        onward, back = displacement(guide[1], guide[0]), displacement(guide[0], guide[1])
        for name, two in parts.items():
            moved_on[name][z] = pulled(two[0][z], onward) >= 0.5
        for t, share in enumerate(shares):
            made[t, z] = between(flat[0], flat[1], onward, back, float(share))
            for name, two in parts.items():
                if two[0][z].any() or two[1][z].any():
                    moved = between(two[0][z], two[1][z], onward, back, float(share))
                    volumes[name][t] += float((moved >= 0.5).sum())
    overlap = {name: dice(moved_on[name], two[1] > 0) for name, two in parts.items()}
    return Loop(made, images[0].geometry, shares, volumes, real, overlap)


def course(frames: int) -> tuple[Array, tuple[int, int]]:
    """How far each frame of one cycle is contracted, and the numbers of end-diastole and end-systole."""
    end = max(1, round(_SYSTOLE * frames))
    t = np.arange(frames)
    down = np.sin(np.pi / 2 * np.minimum(t, end) / end) ** 2
    up = np.cos(np.pi / 2 * np.clip(t - end, 0, None) / (frames - end)) ** 2
    return np.where(t <= end, down, up), (0, end)


def _labels(sample: Sample, image: Volume) -> LabelMap:
    assert sample.mask is not None, "only labelled images are taken"
    return read_mask(sample.mask, image.geometry)


def _guide(parts: Sequence[dict[str, Array]], flat: Sequence[Array]) -> list[Array]:
    """Slices by which both are brought together: the image, and each outline as a step of its own."""
    low, high = float(min(f.min() for f in flat)), float(max(f.max() for f in flat))
    found = []
    for own, image in zip(parts, flat, strict=True):
        steps = sum(((k + 1) / len(own) * part for k, part in enumerate(own.values())), np.zeros_like(image))
        found.append(np.asarray((image - low) / ((high - low) or 1.0) + _OUTLINE * steps, np.float32))
    return found


def _row(patient: str, loop: Loop, step_s: float) -> tuple[dict[str, str], list[str]]:
    """A row of the table, and the labels whose ejection fraction is none."""

    def listed(values: Sequence[float] | Array, words: Callable[[float], str]) -> str:
        return ";".join(words(float(v)) for v in values)

    odd: list[str] = []
    row = {
        "case": patient, "image": f"{patient}.nii.gz", "patient": patient, "made": MARK,
        "real_frames": ";".join(map(str, loop.real)),
        "times": listed(np.arange(len(loop.shares)) * step_s, lambda v: f"{v:.4f}"),
        "phase": ";".join("contracting" if t < loop.real[1] else "relaxing" for t in range(len(loop.shares))),
        "contraction": listed(loop.shares, lambda v: f"{v:.4f}"),
    }  # fmt: skip
    for name, values in loop.volumes.items():
        row[f"voxels {name}"] = listed(values, lambda v: f"{v:.0f}")
        full, least = values[loop.real[0]], values[loop.real[1]]
        row[f"share {name}"] = listed([v / full for v in values], lambda v: f"{v:.4f}") if full > 0 else ""
        row[f"overlap {name}"] = f"{loop.overlap[name]:.3f}"
        ejects = 0 < least <= full
        row[f"ejection fraction {name}"] = f"{(full - least) / full:.4f}" if ejects else ""
        if not ejects:
            sizes = f"{full:.0f} voxels at end-diastole and {least:.0f} at end-systole"
            odd.append(
                f"{patient}: the ejection fraction of label {name}, which has {sizes} (the first image in natural "
                "order counts as end-diastole)"
            )
    return row, odd
