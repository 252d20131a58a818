"""Tumours from CT, PET, MR and all of them together: descriptive, over the few patients that there are.

python -m benchmarks.modalities FOLDER [BUDGET]      # 15m for each of the four

FOLDER holds a folder a patient with `CT_image.nii.gz`, `CT_mask.nii.gz` and so on for PET and MR_T1. Each patient is judged by a
network that never saw it; all of them look at voxels of 8 mm, so that their Dice are of like grids.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MODALITIES = ("CT", "PET", "MR_T1")
SETTINGS = ("--set", "preparation.spacing_mm=[8,8,8]")


def table(folder: Path, out: Path, chosen: tuple[str, ...]) -> Path:
    """A row a patient: an image of each modality, and the mask on the grid of the first."""
    names = [f"image_{name}" for name in chosen] if len(chosen) > 1 else ["image"]
    with out.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "patient", *names, "mask"])
        for patient in sorted(p for p in folder.resolve().iterdir() if p.is_dir()):
            images = [str(patient / f"{name}_image.nii.gz") for name in chosen]
            rows.writerow([patient.name, patient.name, *images, str(patient / f"{chosen[0]}_mask.nii.gz")])
    return out


def judged(data: Path, model: Path, budget: str, patients: int) -> dict[str, float]:
    """Dice of each patient."""
    command = ["train", data, "--task", "segment", "--folds", patients, "--budget", budget, "-o", model, *SETTINGS]
    subprocess.run([sys.executable, "-m", "isocenter", *map(str, command)], check=True, capture_output=True)
    with (model / "cases.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"]: float(row["dice"]) for row in csv.DictReader(file)}


def main() -> None:
    """Print the table."""
    folder, budget = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "15m"
    patients = sorted(p.name for p in folder.iterdir() if p.is_dir())
    print(f"{len(patients)} patients, each judged by a network that never saw it; {budget} for each row")
    print("| images | " + " | ".join(patients) + " | mean |")
    print("|---" * (len(patients) + 2) + "|")
    with tempfile.TemporaryDirectory() as temporary:
        for chosen in (*((name,) for name in MODALITIES), MODALITIES):
            name = " + ".join(chosen)
            data = table(folder, Path(temporary) / f"{'-'.join(chosen)}.csv", chosen)
            model = Path(temporary) / "-".join(chosen)
            found = judged(data, model, budget, len(patients))
            cells = [f"{found[p]:.2f}" for p in patients]
            print(f"| {name} | " + " | ".join(cells) + f" | {sum(found.values()) / len(found):.2f} |", flush=True)
            told = json.loads((model / "card.json").read_text("utf-8"))["training"]
            print(f"  {told['seconds']:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
