"""Counts of a recipe beside the boxes of the BCCD smears: python -m tools.count_cells FOLDER [LIST [RECIPE]]."""

import re
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from isocenter.acquire.case import open_case
from isocenter.pipeline.examine import examine
from isocenter.recipe import load

# Of each recipe: kind of cell -> the findings that count it together, and the boxes that do.
_COUNTED = {
    "microscopy": {
        "cells": (("Number of cells",), ("RBC", "WBC")), "white cells": (("Number of stained nuclei",), ("WBC",)),
    },
    "blood-cells": {
        "red cells": (("Number of RBC",), ("RBC",)), "white cells": (("Number of WBC",), ("WBC",)),
        "platelets": (("Number of Platelets",), ("Platelets",)),
    },
}  # fmt: skip


def boxes(file: Path) -> list[str]:
    """Class of each box in a VOC file."""
    return re.findall(r"<name>(\w+)</name>", file.read_text("utf-8"))


def counted(image: Path, file: Path, recipe: str) -> tuple[list[float], list[int], int, int]:
    """What the recipe counts, what is marked, how many cells are marked, and how many hold a counted one's centre."""
    found = examine(open_case(image), load(recipe))
    values = {str(f.statement): f.value for f in found.findings}
    names = boxes(file)
    said = [sum(values[s] for s in statements) for statements, _ in _COUNTED[recipe].values()]
    truth = [sum(names.count(name) for name in kinds) for _, kinds in _COUNTED[recipe].values()]
    labels = found.case.label_maps["cells"].voxels[0]
    with np.errstate(invalid="ignore"):  # a box below surer ones has no pixel left
        centres = np.asarray(ndimage.center_of_mass(labels > 0, labels, range(1, int(labels.max()) + 1))).reshape(-1, 2)
    ends = [list(map(int, re.findall(r"<(?:xmin|ymin|xmax|ymax)>(\d+)<", part))) for part in _cells(file)]
    hit = [
        bool(np.any((centres[:, 1] >= a) & (centres[:, 0] >= b) & (centres[:, 1] <= c) & (centres[:, 0] <= d)))
        for a, b, c, d in ends
    ]
    return said, truth, len(hit), sum(hit)


def _cells(file: Path) -> list[str]:
    return [p for p in file.read_text("utf-8").split("<object>")[1:] if "Platelets" not in p]


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "val.txt"
    recipe = sys.argv[3] if len(sys.argv) > 3 else "microscopy"
    stems = [Path(line.strip()).stem for line in (folder / names).read_text("utf-8").splitlines() if line.strip()]
    rows = [counted(folder / "images" / f"{s}.jpg", folder / "annotations" / f"{s}.xml", recipe) for s in stems]
    marked, hit = sum(row[2] for row in rows), sum(row[3] for row in rows)
    print(f"boxes that hold the centre of a counted cell: {hit / marked:.1%} of {marked}")
    for column, what in enumerate(_COUNTED[recipe]):
        said, truth = (np.asarray([row[part][column] for row in rows]) for part in (0, 1))
        error = said - truth
        print(
            f"{what}: {len(stems)} pictures, {truth.mean():.1f} boxes a picture; bias {error.mean():+.1f}, "
            f"mean absolute error {np.abs(error).mean():.1f}, exact in {np.mean(error == 0):.0%}, "
            f"limits of agreement {error.mean() - 1.96 * error.std():+.1f} to {error.mean() + 1.96 * error.std():+.1f}"
        )


if __name__ == "__main__":
    main()
