"""What becomes of every file of the public collections: a line each. `python -m tests.outcomes DATA` writes the list anew."""

import sys
from collections.abc import Iterator
from pathlib import Path

from isocenter.acquire import open_cases
from isocenter.errors import IsocenterError

LIST = Path(__file__).parent / "reference" / "outcomes.txt"
FOLDERS = ("dicom", "nifti_formats")


def outcomes(data: Path) -> Iterator[str]:
    """`path: what it is`, or the beginning of the sentence that refuses it."""
    for file in sorted(f for name in FOLDERS for f in (data / name).rglob("*") if f.is_file()):
        yield f"{file.relative_to(data).as_posix()}: {_outcome(file)}"


def _outcome(file: Path) -> str:
    try:
        cases = open_cases(file)
    except IsocenterError as error:
        return "refused: " + str(error).removeprefix(f"{file}: ").removeprefix(f"{file.name}: ").split("\n")[0][:70]
    said = []
    for case in cases:
        said += [f"{result.kind} of {len(result.names)}" for result in case.results]
        for series in case.series:
            shape = "x".join(map(str, (series.frames, series.channels, *series.shape)))
            try:
                series.cine()
            except IsocenterError as error:
                said.append("refused: " + str(error).split(": ", 1)[-1][:70])
                continue
            codes = ",".join(sorted({d.code for d in series.defects}))
            said.append(f"{series.modality or series.format} {shape} {series.verdict} {codes}".strip())
    return "; ".join(dict.fromkeys(said))[:300]


if __name__ == "__main__":
    LIST.parent.mkdir(exist_ok=True)
    LIST.write_text("\n".join(outcomes(Path(sys.argv[1]))) + "\n", "utf-8")
