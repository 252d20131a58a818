"""Ejection fraction from curves of frames and from label maps, beside the drawn one, at the two measured frames.

python -m benchmarks.ejection LOOPS.csv --label 3 --curves gru=predictions.csv --shares gru=other.csv --masks two=cases.csv

LOOPS.csv is what `isocenter data simulate-motion` wrote; curves are `predictions.csv` of `isocenter predict` for a model of its
`voxels LABEL`, shares of one of its `share LABEL`; or `cases.csv` of one that was cross-validated (`--folds`); masks are `cases.csv` of a segmentation of the two measured
images of each patient, `PATIENT_frameNN`, from `isocenter evaluate` or `--folds`.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isocenter.evaluation.shared import resampled

Pair = tuple[float, float]
"""Voxels at end-diastole and at end-systole."""


@dataclass(frozen=True)
class Row:
    """One method.

    Args:
        name: of it.
        patients: that it answered for.
        error: mean absolute error of the ejection fraction, with its interval by patient.
        bias: mean error.
        voxels: mean absolute error of the volume at the two frames, as a share of the drawn one; None where none is said.
    """

    name: str
    patients: int
    error: tuple[float, float | None, float | None]
    bias: float
    voxels: float | None


def drawn(loops: Path, label: str) -> dict[str, tuple[Pair, Pair]]:
    """Of each patient: the numbers of the measured frames, and the drawn voxels in them."""
    found = {}
    for row in _rows(loops):
        first, last = (int(n) for n in row["real_frames"].split(";"))
        sizes = [float(v) for v in row[f"voxels {label}"].split(";")]
        found[row["case"]] = ((first, last), (sizes[first], sizes[last]))
    return found


def from_curves(predictions: Path, truth: Mapping[str, tuple[Pair, Pair]]) -> dict[str, Pair]:
    """What a model says at the measured frames."""
    said: dict[str, dict[int, float]] = defaultdict(dict)
    for row in _rows(predictions):
        case, _, frame = row["case"].rpartition("#") if "frame" not in row else (row["case"], "", row["frame"])
        if row.get("predicted"):
            said[Path(case).name][int(frame)] = float(row["predicted"])
    return {
        case: (own[int(truth[case][0][0])], own[int(truth[case][0][1])])
        for case, own in said.items()
        if case in truth and {int(n) for n in truth[case][0]} <= set(own)
    }


def from_masks(cases: Path, label: str, truth: Mapping[str, tuple[Pair, Pair]]) -> dict[str, Pair]:
    """Voxels of the label in the two measured frames of each patient, by their share of what was drawn."""
    column = f"volume_difference/{label}"
    said: dict[str, list[float]] = defaultdict(list)
    for row in sorted(_rows(cases), key=lambda row: row["case"]):
        said[row["case"].rpartition("_")[0]].append(float(row[column]) if row[column] else -1.0)
    return {
        case: (sizes[0] * (1 + said[case][0]), sizes[1] * (1 + said[case][1]))
        for case, (_, sizes) in truth.items()
        if len(said[case]) == 2
    }


def judged(name: str, said: Mapping[str, Pair], truth: Mapping[str, tuple[Pair, Pair]], *, sized: bool = True) -> Row:
    """Errors over the patients that are there.

    Args:
        name: of the method.
        said: what it says.
        truth: what was drawn.
        sized: it says voxels, not shares of the first frame.
    """
    cases = sorted(said)
    own = np.asarray([fraction(said[c]) for c in cases])
    drawn_here = np.asarray([fraction(truth[c][1]) for c in cases])
    away = own - drawn_here
    pairs = np.asarray([[said[c], truth[c][1]] for c in cases])
    voxels = float((np.abs(pairs[:, 0] - pairs[:, 1]) / pairs[:, 1]).mean()) if sized else None
    error = np.abs(away)
    interval = resampled(lambda i: float(error[i].mean()), np.asarray(cases), None, 0)
    return Row(name, len(cases), (float(error.mean()), interval.low, interval.high), float(away.mean()), voxels)


def by_heart(truth: Mapping[str, tuple[Pair, Pair]]) -> dict[str, Pair]:
    """Of each patient the mean of all others, which needs no image: what a method must be better than."""
    drawn_here = {case: fraction(pair) for case, (_, pair) in truth.items()}
    whole = sum(drawn_here.values())
    return {case: (1.0, 1 - (whole - own) / (len(drawn_here) - 1)) for case, own in drawn_here.items()}


def fraction(pair: Pair) -> float:
    """Ejection fraction."""
    return (pair[0] - pair[1]) / pair[0]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--curves", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--shares", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--masks", action="append", default=[], metavar="NAME=FILE")
    given = parser.parse_args()
    truth = drawn(given.loops, given.label)
    rows = [judged("the mean of the other patients", by_heart(truth), truth, sized=False)]
    for text, sized in (*((t, True) for t in given.curves), *((t, False) for t in given.shares)):
        name, _, path = text.partition("=")
        rows.append(judged(name, from_curves(Path(path), truth), truth, sized=sized))
    for text in given.masks:
        name, _, path = text.partition("=")
        rows.append(judged(name, from_masks(Path(path), given.label, truth), truth))
    print("| method | patients | mean error of the ejection fraction | bias | mean error of the volume |")
    print("|---|---|---|---|---|")
    for row in rows:
        value, low, high = row.error
        ends = "" if low is None else f" ({low:.3f} to {high:.3f})"
        voxels = "" if row.voxels is None else f"{row.voxels:.1%}"
        print(f"| {row.name} | {row.patients} | {value:.3f}{ends} | {row.bias:+.3f} | {voxels} |")


if __name__ == "__main__":
    main()
