"""`isocenter inspect`: what a path holds and whether it can be trusted, in words and as data."""

from dataclasses import dataclass, field
from pathlib import Path

from isocenter.acquire.case import open_cases
from isocenter.acquire.policy import REPAIR, Policy
from isocenter.data.case import Case, RefusedFile, Series
from isocenter.data.notebook import html_table
from isocenter.data.provenance import Json
from isocenter.types import Progress


@dataclass(frozen=True, eq=False)
class Inspection:
    """What `inspect` found.

    Args:
        path: what was looked at.
        cases: one for each study.
    """

    path: Path
    cases: tuple[Case, ...] = field(repr=False)

    @property
    def series(self) -> tuple[Series, ...]:
        """Every volume, cine and picture of every case."""
        return tuple(series for case in self.cases for series in case.series)

    @property
    def files_refused(self) -> tuple[RefusedFile, ...]:
        """Files that are part of no series, and why."""
        return self.cases[0].refused_files

    def as_json(self) -> dict[str, Json]:
        """The contract with other programs; docs/en/inspect.md describes it."""
        results = [
            {"uid": r.uid, "path": str(r.file), "modality": r.kind, "labels": list(r.names), "of": r.series_uid or None}
            for case in self.cases
            for r in case.results
        ]
        return {
            "series": [_series(series) for series in self.series],
            "results": results,
            "files_refused": [{"file": str(r.file), "message": r.message} for r in self.files_refused],
        }

    def _repr_html_(self) -> str:
        said = ["; ".join(str(d.said) for d in s.defects) for s in self.series]
        rows = [
            (s.key, s.modality or "-", " x ".join(map(str, s.shape)), s.verdict, words)
            for s, words in zip(self.series, said, strict=True)
        ]
        return html_table(f"{self.path}", rows, head=("series", "modality", "d x h x w", "verdict", "defects"))


def _series(series: Series) -> dict[str, Json]:
    return {
        "uid": series.uid,
        "volume": series.index,
        "path": str(series.path),
        "modality": series.modality,
        "description": series.description,
        "shape": list(series.shape),
        "channels": series.channels,
        "frames": series.frames,
        "spacing_mm": None if series.spacing_mm is None else [round(s, 9) for s in series.spacing_mm],
        "verdict": series.verdict,
        "defects": [{"code": d.code, "message": str(d.said)} for d in series.defects],
    }


def inspect(path: str | Path, *, policy: Policy = REPAIR, on_progress: Progress | None = None) -> Inspection:
    """Say what a path holds and whether its geometry can be trusted; voxels are read only to compare copies.

    Args:
        path: anything that `open` opens, several studies too.
        policy: what is done about defects.
        on_progress: called while headers are read.
    Raises: UnreadableFile if nothing in it is an image.
    """
    return Inspection(Path(path), open_cases(path, policy=policy, on_progress=on_progress))
