"""A cohort of 100 studies: time per study, two workers against one, memory."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cohorts import Patient
from tests.phantoms import thorax, write_series

RUN = """
import sys, threading, time, psutil
import isocenter
process, peak, stop = psutil.Process(), 0, False
seen = []
def watch():
    while not stop:
        seen.append((time.perf_counter(), process.memory_info().rss)); time.sleep(0.02)
if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    done = []
    def tell(what, n, total):
        if what.endswith(": ended"): done.append(time.perf_counter())
    start = time.perf_counter()
    found = isocenter.run_cohort("overview", sys.argv[1], sys.argv[3], studies=sys.argv[2], workers=int(sys.argv[4]), on_progress=tell)
    total = time.perf_counter() - start
    assert all(r.usable for r in found.results.values())
    n = len(done)
    first, last = (done[n // 4] - done[4]) / (n // 4 - 4), (done[-1] - done[3 * n // 4]) / (n - 1 - 3 * n // 4)
    high = lambda a, b: max(rss for t, rss in seen if a <= t <= b) / 1e6
    print(total, first, last, high(done[4], done[n // 4]), high(done[3 * n // 4], done[-1]))
"""


def table() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        voxels = thorax((300, 512, 512))[100:140, ::2, ::2].copy()
        rows = ["PatientID,StudyDate"]
        for n in range(100):
            patient = Patient(n)

            def named(slices: list, patient: Patient = patient) -> list:
                for i, ds in enumerate(slices, start=1):
                    ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = (
                        patient.id,
                        patient.uid,
                        f"{patient.uid}.1",
                    )
                    ds.StudyDate, ds.SOPInstanceUID = f"{patient.day:%Y%m%d}", f"{patient.uid}.1.{i}"
                    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
                return slices

            write_series(root / "studies" / f"s{n:03d}", voxels, spacing=(5.0, 1.4, 1.4), change=named)
            rows.append(f"{patient.id},{patient.day}")
        (root / "t.csv").write_text("\n".join(rows), "utf-8")
        (root / "run.py").write_text(RUN, "utf-8")
        taken = {}
        for workers in (1, 2):
            command = [
                sys.executable,
                root / "run.py",
                root / "t.csv",
                root / "studies",
                root / f"out{workers}",
                str(workers),
            ]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            taken[workers] = float(said[0])
            if workers == 1:
                first, last, early, late = map(float, said[1:])
                print(
                    f"| time per study, 40 x 256 x 256 | {taken[1] / 100:.2f} s; last quarter {last / first:.2f} of the first | constant |"
                )
                print(f"| peak memory, first and last quarter | {early:.0f} MB, {late:.0f} MB | flat |")
        print(f"| two workers | {taken[2] / taken[1]:.2f} of one's time | 0.6 |", flush=True)


if __name__ == "__main__":
    table()
