"""Curves of contrast agent, classified by networks with and without memory: what only the order of frames tells.

python -m benchmarks.contrast [BUDGET]            # 4m for each network

A lesion takes up contrast agent and goes on in one of three ways (W. Kaiser, E. Zeitler, Radiology 170:681-686, 1989); each single
frame can be of any of them. The data are generated, so the right answer is known.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.sequences import contrast_data

NETWORKS = {"gru": "gru", "lstm": "lstm", "plain recurrent": "rnn", "no memory": "none"}
METRICS = ("accuracy", "auc")


def judged(cell: str, data: Path, folder: Path, budget: str) -> dict[str, dict[str, float]]:
    """Metrics of the test cases."""
    model = folder / cell
    for command in (
        ["train", data, "-o", model, "--budget", budget, "--set", f"network.settings.cell={cell}"],
        ["evaluate", model, data, "-o", folder / f"{cell}-ev"],
    ):
        subprocess.run([sys.executable, "-m", "isocenter", *map(str, command)], check=True, capture_output=True)
    found: dict[str, dict[str, float]] = json.loads((folder / f"{cell}-ev" / "evaluation.json").read_text())["metrics"]
    return found


def main() -> None:
    """Print the table."""
    budget = sys.argv[1] if len(sys.argv) > 1 else "4m"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = contrast_data(folder / "data", 240, edge=32)
        print(f"240 loops of 8 to 12 frames, 60 of them test cases; {budget} for each network")
        print("| network | " + " | ".join(METRICS) + " |")
        print("|---" * (len(METRICS) + 1) + "|")
        for name, cell in NETWORKS.items():
            found = judged(cell, data, folder, budget)
            cells = [f"{found[m]['value']:.3f} ({found[m]['low']:.3f} to {found[m]['high']:.3f})" for m in METRICS]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
