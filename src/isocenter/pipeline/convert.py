"""One volume, frame or segmentation from one format into another."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from isocenter.acquire.case import open_cases
from isocenter.acquire.policy import REPAIR, Policy
from isocenter.data.case import Case, Result, one_of
from isocenter.data.labels import LabelMap
from isocenter.data.volume import Volume
from isocenter.errors import AmbiguousSelection, InputError, UnsupportedFormat
from isocenter.formats import itksnap, nifti, nrrd, proof, raster

_log = logging.getLogger(__name__)
_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".png")

Converted = Volume | tuple[LabelMap, ...]


def convert(
    path: str | Path,
    output: str | Path,
    *,
    series: str | None = None,
    frame: int | None = None,
    label: str | None = None,
    policy: Policy = REPAIR,
) -> Converted:
    """Write one volume, or the segments of a SEG or RTSTRUCT; it is read back with a second library before it is kept.

    Files of `path` that cannot be used, and what the series doctor says of the series, are named in the log.

    Args:
        path: anything that `open` opens, several studies too where `series` names one of theirs.
        output: a file ending in .nii.gz, .nii, .nrrd, .seg.nrrd or .png; what stood there is replaced, but never the
            input itself. Labels as NIfTI come with ITK-SNAP's label descriptions beside them, volumes with voxels that
            were not measured with a mask of those.
        series: UID of the series to take (`UID#n` where it was split), or of a SEG or RTSTRUCT.
        frame: of a cine, counted from 0.
        label: the one segment to write.
        policy: what is done about defects.
    Returns: what was written: a volume, or label maps.
    Raises: AmbiguousSelection with the list where several series fit; UnsupportedFormat for another ending.
    """
    target = Path(output)
    ending = next((e for e in _ENDINGS if target.name.lower().endswith(e)), None)
    if ending is None:
        raise UnsupportedFormat(
            f"{target.name}: written are {', '.join(_ENDINGS)}; give the output one of these endings"
        )
    cases = open_cases(path, policy=policy)
    for refused in cases[0].refused_files:
        _log.warning("not used: %s", refused.message)
    if target.resolve() in {file.resolve() for file in _input_files(cases)}:
        raise InputError(f"{target}: is the input itself; give the output another name")
    found = _result(cases, series)
    if found is not None:
        layers = _chosen(_labels(cases, found), label)
        _write(target, lambda partial: _write_labels(layers, partial, ending))
        if ending in (".nii", ".nii.gz"):
            _write_beside(target, layers)
        return layers
    if label is not None:
        raise InputError(f"--label {label} names a segment of a SEG or RTSTRUCT; an image was chosen")
    chosen = one_of([s for case in cases for s in case.series], series, where=str(path))
    for defect in chosen.defects:
        _log.warning("%s: %s", chosen.key, defect.said)
    volume = chosen.volume() if frame is None else chosen.cine().frame(frame)
    _write(target, lambda partial: _write_volume(volume, partial, ending))
    if volume.not_measured is not None and ending != ".png":
        _write_not_measured(volume, target, ending)
    return volume


def _input_files(cases: Sequence[Case]) -> list[Path]:
    return [f for case in cases for s in case.series for f in s.files] + [
        r.file for case in cases for r in case.results
    ]


def _result(cases: Sequence[Case], uid: str | None) -> Result | None:
    """The SEG or RTSTRUCT that `uid` names, or the only thing there is."""
    results = [r for case in cases for r in case.results]
    if uid is None:
        return results[0] if len(results) == 1 and not any(case.series for case in cases) else None
    named = [r for r in results if uid in (r.uid, r.instance_uid)]
    if len(named) > 1:
        listed = "\n".join(f"  {r.instance_uid}  {r.kind}  {', '.join(r.names[:6])}" for r in named)
        raise AmbiguousSelection(f"{len(named)} results have the UID {uid}; name one by its own:\n{listed}")
    return named[0] if named else None


def _labels(cases: Sequence[Case], result: Result) -> tuple[LabelMap, ...]:
    """The result's segments on the grid of its image, which may lie in another study of the path."""
    case = next(c for c in cases if result in c.results)
    if any(s.uid == result.series_uid for s in case.series):
        return case.labels(result)
    others = [s for c in cases for s in c.series if s.uid == result.series_uid]
    return case.labels(result, on=others[0] if len(others) == 1 else None)


def _chosen(layers: tuple[LabelMap, ...], label: str | None) -> tuple[LabelMap, ...]:
    """Only the segment called `label`, or all."""
    if label is None:
        return layers
    names = [lb.name for labels in layers for lb in labels.labels]
    for labels in layers:
        found = [lb for lb in labels.labels if lb.name == label]
        if found:
            mask = labels.voxels == found[0].value
            return (LabelMap.of_mask(mask, labels.geometry, name=label, history=labels.history),)
    raise AmbiguousSelection(f"no segment is called {label!r}; there are {', '.join(names)}")


def _write_labels(layers: tuple[LabelMap, ...], path: Path, ending: str) -> None:
    if ending == ".seg.nrrd":
        nrrd.write_segments(layers, path)
        proof.prove_segments(layers, path)
        return
    if len(layers) > 1:
        names = "; ".join(", ".join(lb.name for lb in labels.labels) for labels in layers)
        raise UnsupportedFormat(
            f"segments overlap ({names}), and this format holds one a voxel: write .seg.nrrd, or name one (--label)"
        )
    if ending in (".nii", ".nii.gz"):
        nifti.write(layers[0], path)
        proof.prove_nifti_labels(layers[0], path)
    elif ending == ".png":
        raster.write(layers[0], path)
        proof.prove_picture(layers[0], path)
    else:
        nrrd.write(layers[0], path)
        proof.prove_nifti_labels(layers[0], path)


def _write_beside(target: Path, layers: tuple[LabelMap, ...]) -> None:
    """Names and colours, which NIfTI cannot hold, for ITK-SNAP."""
    name = target.name.removesuffix(".gz").removesuffix(".nii")
    itksnap.write(layers[0].labels, target.with_name(name + itksnap.ENDING))


def _write_not_measured(volume: Volume, target: Path, ending: str) -> None:
    """The mask of voxels that no scanner measured, beside the volume: its own file cannot hold it."""
    assert volume.not_measured is not None, "asked for where there is one"
    mask = LabelMap.of_mask(volume.not_measured, volume.geometry, name="not measured", history=volume.history)
    beside = target.with_name(target.name[: -len(ending)] + ".not-measured" + ending)
    _write(beside, lambda partial: _write_labels((mask,), partial, ending))
    share = float(volume.not_measured.mean())
    _log.warning("%.2f %% of the voxels were not measured; %s marks them", share * 100, beside.name)


def _write_volume(volume: Volume, path: Path, ending: str) -> None:
    if ending == ".seg.nrrd":
        raise UnsupportedFormat(".seg.nrrd holds segments; name a SEG or RTSTRUCT (--series), or write .nrrd")
    if ending == ".png":
        raster.write(volume, path)
        proof.prove_picture(volume, path)
        return
    (nrrd if ending == ".nrrd" else nifti).write(volume, path)
    proof.prove_volume(volume, path)


def _write(target: Path, write: Callable[[Path], None]) -> None:
    """Write and prove beside the target; only then it takes the target's name."""
    partial = target.with_name(f".partial-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
