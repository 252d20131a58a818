"""`report.json`: the contract with other programs. Its fields are described in docs/en/report-json.md."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from isocenter.data.examination import Candidate, Examination
from isocenter.data.provenance import Json
from isocenter.version import __version__

SCHEMA_VERSION = 1


def report(
    examination: Examination,
    *,
    masks: Mapping[str, Json],
    transforms: Mapping[str, Json],
    images: Sequence[str],
    lineage: Mapping[str, Json],
) -> dict[str, Json]:
    """The examination as plain data.

    Args:
        examination: what came out.
        masks: name -> files, labels and proof, as they were written.
        transforms: name of the moved volume -> matrix and files of the map that moved it.
        images: file names of the key images.
        lineage: what the run adds: hashes of the input, key of the result.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "isocenter": __version__,
        "not_for_clinical_use": True,
        "case": examination.case.name,
        "patient": asdict(examination.case.identity),
        "recipe": dict(examination.recipe),
        "verdict": examination.verdict.value,
        "reasons": [str(reason) for reason in examination.reasons],
        "series": [_series(candidate) for candidate in examination.candidates],
        "findings": [
            {
                "statement": str(f.statement),
                "value": f.value,
                "unit": f.unit,
                "interval": list(f.interval) if f.interval else None,
                "method": str(f.method),
                "evidence": list(f.evidence),
                "not_measured": f.not_measured,
            }
            for f in examination.findings
        ],
        "features": [asdict(feature) for feature in examination.features],
        "curves": [
            {
                "statement": str(c.statement),
                "unit": c.unit,
                "times_s": list(c.times_s),
                "values": list(c.values),
                "times_stated": c.timed,
            }
            for c in examination.curves
        ],
        "checks": {check.name: check.value for check in examination.checks},
        "check_results": [
            {"name": c.name, "value": c.value, "verdict": c.verdict.value, "message": str(c.message)}
            for c in examination.checks
        ],
        "masks": dict(masks),
        "transforms": dict(transforms),
        "images": list(images),
        "files_refused": [
            {"file": refused.file.name, "message": refused.message} for refused in examination.case.refused_files
        ],
        "lineage": {
            **(examination.lineage or {}),
            **lineage,
            "steps": [step.as_json() for step in examination.steps],
        },
    }


def _series(candidate: Candidate) -> dict[str, Json]:
    series = candidate.series
    return {
        "uid": series.uid,
        "volume": series.index,
        "format": series.format,
        "modality": series.modality,
        "description": series.description,
        "shape": list(series.shape),
        "channels": series.channels,
        "spacing_mm": list(series.spacing_mm) if series.spacing_mm else None,
        "files": len(series.files),
        "attributes": dict(series.attributes),
        "frames": series.frames,
        "verdict": series.verdict,
        "defects": [{"code": d.code, "message": str(d.said)} for d in series.defects],
        "chosen": candidate.chosen,
        "reason": str(candidate.reason),
    }
