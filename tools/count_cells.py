"""Counts of the recipe `microscopy` beside the boxes of the BCCD smears: python -m tools.count_cells FOLDER [LIST]."""

import re
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from isocenter.acquire.case import open_case
from isocenter.pipeline.examine import examine
from isocenter.recipe import load


def boxes(file: Path) -> tuple[int, int]:
    """Red and white cells together, and white cells alone, in a VOC file."""
    names = re.findall(r"<name>(\w+)</name>", file.read_text("utf-8"))
    return names.count("RBC") + names.count("WBC"), names.count("WBC")


def counted(image: Path, file: Path) -> tuple[float, float, int, int]:
    """Cells, nuclei, boxes, and boxes that hold the centre of a counted cell."""
    found = examine(open_case(image), load("microscopy"))
    values = {str(f.statement): f.value for f in found.findings}
    labels = found.case.label_maps["cells"].voxels[0]
    centres = np.asarray(ndimage.center_of_mass(labels > 0, labels, range(1, int(labels.max()) + 1)))
    ends = [list(map(int, re.findall(r"<(?:xmin|ymin|xmax|ymax)>(\d+)<", part))) for part in _cells(file)]
    hit = [
        bool(np.any((centres[:, 1] >= a) & (centres[:, 0] >= b) & (centres[:, 1] <= c) & (centres[:, 0] <= d)))
        for a, b, c, d in ends
    ]
    return values["Number of cells"], values["Number of stained nuclei"], len(hit), sum(hit)


def _cells(file: Path) -> list[str]:
    return [p for p in file.read_text("utf-8").split("<object>")[1:] if "Platelets" not in p]


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "val.txt"
    stems = [Path(line.strip()).stem for line in (folder / names).read_text("utf-8").splitlines() if line.strip()]
    truth = np.asarray([boxes(folder / "annotations" / f"{s}.xml") for s in stems])
    found = np.asarray([counted(folder / "images" / f"{s}.jpg", folder / "annotations" / f"{s}.xml") for s in stems])
    print(
        f"boxes that hold the centre of a counted cell: {found[:, 3].sum() / found[:, 2].sum():.1%} of {found[:, 2].sum():.0f}"
    )
    for column, what in enumerate(("cells", "white cells")):
        error = found[:, column] - truth[:, column]
        print(
            f"{what}: {len(stems)} pictures, {truth[:, column].mean():.1f} boxes a picture; bias {error.mean():+.1f}, "
            f"mean absolute error {np.abs(error).mean():.1f}, exact in {np.mean(error == 0):.0%}, "
            f"limits of agreement {error.mean() - 1.96 * error.std():+.1f} to {error.mean() + 1.96 * error.std():+.1f}"
        )


if __name__ == "__main__":
    main()
