"""`make bench`: start-up, opening a series, memory, and the demo, each as a row of one table."""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.phantoms import thorax, write_series

from benchmarks import cohorts, filters, inference, readers

RUNS = 5
SHAPE = (300, 512, 512)
DATA = Path(os.environ.get("ISOCENTER_DATA", Path(__file__).parents[2] / "shared" / "data"))


def median_seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Median wall time over `runs`, after one warm-up."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def process(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=True)


def start_up() -> list[tuple[str, str, str]]:
    bare = median_seconds(process("-c", "pass"))
    rows = []
    for name, bar, arguments in (
        ("import isocenter", "0.2 s", ("-c", "import isocenter")),
        ("isocenter --help", "0.4 s", ("-m", "isocenter", "--help")),
    ):
        seconds = median_seconds(process(*arguments))
        rows.append((name, f"{seconds:.3f} s", f"bar {bar}; bare python {bare:.3f} s"))
    return rows


def demo(folder: Path) -> list[tuple[str, str, str]]:
    import json

    seconds = median_seconds(process("-m", "isocenter", "demo", "-o", str(folder)), 1)
    checks = json.loads((folder / "mni152" / "report.json").read_text("utf-8"))["checks"]
    dice = f"Dice grey {checks['dice_grey_matter']} (bar 0.90), white {checks['dice_white_matter']} (bar 0.93)"
    return [("isocenter demo", f"{seconds:.1f} s", f"bar 120 s; {dice}")]


def memory(series: Path, folder: Path) -> list[tuple[str, str, str]]:
    from tests.test_architecture import BIG, MEMORY

    (folder / "big.yaml").write_text(BIG, "utf-8")
    command = [sys.executable, "-c", MEMORY, folder / "big.yaml", series, folder / "out"]
    start = time.perf_counter()
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds = time.perf_counter() - start
    note = f"bar 4 float32 volumes above imports; 10 steps, 4 masks, SEG and report in {seconds:.0f} s"
    return [("memory of a run on it", f"{float(said.split()[-1]):.2f} volumes", note)]


def main() -> None:
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder / "series", thorax(SHAPE), spacing=(1.0, 0.7, 0.7), change=readers.rich)
        rows += start_up()
        rows += readers.speed(folder / "series", median_seconds)
        rows += readers.compressed(DATA / "chest_ct", median_seconds)
        rows += readers.many(folder / "many", median_seconds)
        rows += demo(folder / "demo")
        rows += memory(folder / "series", folder)
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | measured | beside it |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(
        "\nFilters beside the fastest library for each (bar 1.1)\n\n| filter | isocenter | fastest other | ratio |\n|---|---|---|---|"
    )
    filters.speed()
    print(
        "\nPeak memory of steps on 512 x 512 x 300, in volumes of float32 with the volume itself (bar 4)\n\n| step | volumes | time |\n|---|---|---|"
    )
    filters.memory()
    print("\nA cohort of 100 studies\n\n| what | measured | bar |\n|---|---|---|")
    cohorts.table()
    head, found = readers.defects()
    print(f"\nA CT of 12 slices, {readers.TRUE_MM} mm apart, spoilt in one way each (bold: a wrong distance)\n")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in found:
        print(f"| {' | '.join(row)} |")
    print("\nNetworks over a whole volume beside MONAI's sliding window, same weights (bars 5, 4 and 12 x)\n")
    inference.speeds()
    print("\nMemory of a prediction of 512 x 512 x 800 with 20 classes (bar 4 GiB)\n")
    inference.memory()


if __name__ == "__main__":
    main()
