"""Whether a data set leaks between its splits."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from isocenter.acquire.columns import read_columns
from isocenter.acquire.dataset_files import SPLITS
from isocenter.acquire.manifest import names_only_images
from isocenter.acquire.table import is_table
from isocenter.data.dataset import Answers, Dataset
from isocenter.data.design import Design
from isocenter.data.provenance import Json
from isocenter.errors import InputError, IsocenterError, UnreadableFile
from isocenter.inference.placed import in_voxels
from isocenter.pipeline.images import MOST_NEAR, case_key, image_items, read_case
from isocenter.pipeline.inputs import open_for
from isocenter.pipeline.output import whole_folder
from isocenter.report.data_page import render_data
from isocenter.report.gallery import boxes_picture, case_picture
from isocenter.training.images.fingerprint import answers_of, fingerprint
from isocenter.training.leaks import Checked, Item, check, content_of, thumbnail_of
from isocenter.training.table import case_names, patient_column
from isocenter.types import Progress

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_SHOWN = 12


def data_check(
    data: str | Path,
    *,
    group: str | None = None,
    split: str | None = None,
    target: str | None = None,
    task: Answers | None = None,
    near: bool = True,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Checked:
    """Say what a data set is, what is wrong with it, what stands on both sides of a split, and what is repeated.

    Args:
        data: labelled images in any shape that `train` takes; a folder with `train`, `val` or `valid`, and `test`
            inside, that hold images; or a table of numbers with a column `split`.
        group: column of patients in a table; None: a usual name.
        split: column of splits in a table; None: `split`.
        target: column of the class or value in a table of images; None: a usual name.
        task: what shall be learnt; None: by the labels. Of `enhance`, `generate`, `anomaly`, `forecast`, images
            without labels do.
        near: look for near images as well.
        out: folder for a page with pictures and `data.json`, of labelled images; None: not written.
        on_progress: told each case.
    Raises: InputError for what is no data set, and a table of numbers without splits.
    """
    path = Path(data)
    if task is not None or not _is_numbers(path):
        found = _images_of(path, task, group=group, split=split, target=target)
        if found is not None:
            return _of_images(found, task or answers_of(found), near=near, out=out, on_progress=on_progress)
    if out is not None:
        raise InputError(f"{path}: the page shows labelled images, and this holds none; leave --out away")
    if path.is_dir():
        items, kind = list(_folder(path)), "image"
    elif is_table(path) or path.suffix.lower() in (".parquet", ".pq"):
        cells = read_columns(path).cells
        name = split or "split"
        if name not in cells:
            raise InputError(
                f"{path.name}: has no column {name!r}; name the one that says train, val or test with --split"
            )
        items, kind = list(_table(path, dict(cells), name, group)), "row"
    else:
        raise InputError(f"{path}: labelled images, a folder with train, val and test, or a table is wanted")
    if len({item.split for item in items}) < 2:
        raise InputError(
            f"{path}: holds one split only ({next(iter(items)).split if items else 'none'}): nothing can leak"
        )
    return check(items, kind=kind, near=near and kind == "image")


def _is_numbers(path: Path) -> bool:
    """A table of features."""
    if not (is_table(path) or path.suffix.lower() in (".parquet", ".pq")):
        return False
    return not names_only_images(read_columns(path).cells)


def _images_of(
    path: Path, task: Answers | None, *, group: str | None, split: str | None, target: str | None
) -> Dataset | None:
    """A data set of images as the task needs it; None for a folder that holds splits of loose ones.

    Raises: InputError for what is neither.
    """
    try:
        return open_for(task, path, group=group, target=target, split=split)
    except UnreadableFile:
        raise
    except InputError:
        if task is None and path.is_dir() and any(p.is_dir() and p.name.lower() in SPLITS for p in path.iterdir()):
            return None
        raise


def _of_images(
    data: Dataset, task: Answers, *, near: bool, out: str | Path | None, on_progress: Progress | None
) -> Checked:
    """Leaks and repeats of images, what they are like, and what is wrong with each."""
    seen = fingerprint(data, task, read_case, most=None, on_progress=on_progress)
    items = image_items(data, on_progress=on_progress)
    found = check(items, kind="image", near=near and len(items) <= MOST_NEAR)
    about: dict[str, Json] = {"kind": data.kind, "task": task, **seen.as_json(), "notes": list(data.notes)}
    problems = (*map(str, data.problems), *seen.failed, *_contradictions(found, data))
    if task == "segment" and not seen.labels:
        problems = (*problems, "every label map is empty: there is nothing to learn")
    splits = data.splits or {"": len(data.samples)}
    done = replace(found, about=about, problems=problems, splits={k or "all": v for k, v in splits.items()})
    if out is not None:
        _write_page(done, data, Path(out))
    return done


def _contradictions(found: Checked, data: Dataset) -> list[str]:
    """One image under two answers."""
    targets = {"/".join(part for part in case_key(s) if part): s.target for s in data.samples}
    texts = []
    for leak in (*found.leaks, *found.repeats):
        one, other = targets.get(leak.left, ""), targets.get(leak.right, "")
        if leak.kind == "image" and one != other:
            texts.append(f"{leak.left} and {leak.right} are one image, and are called {one!r} and {other!r}")
    return texts


def _write_page(found: Checked, data: Dataset, folder: Path) -> None:
    odd = sorted({p.name for p in folder.iterdir()} - {"data.html", "data.json"}) if folder.is_dir() else []
    if odd:
        raise InputError(f"{folder}: holds {odd[0]}, which is no part of a data check; name another folder")
    step = max(1, len(data.samples) // _SHOWN)
    pictures = []
    for sample in data.samples[::step][:_SHOWN]:
        try:
            loaded = read_case(sample)
            volume, labels = loaded.image, loaded.labels
        except (IsocenterError, OSError):
            continue
        title = f"{sample.case}: {sample.target}" if sample.target else sample.case
        if sample.objects is None:
            pictures.append((title, case_picture(volume, None if labels is None else labels.voxels)))
            continue
        stated = np.asarray([in_voxels(m, volume.geometry) for m in sample.objects], np.float64).reshape(-1, 2, 3)
        pictures.append((f"{title}: {len(stated)} objects", boxes_picture(volume, stated, stated[:0])))
    with whole_folder(folder) as empty:
        told = json.dumps(found.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
        (empty / "data.json").write_text(told, "utf-8")
        (empty / "data.html").write_text(render_data(found.as_json(), pictures, data.path.name), "utf-8")


def check_design(design: Design, folder: Path) -> Checked:
    """Leaks between the splits of a table's rows, and of the images that it names, if it does."""
    items = []
    for i, case in enumerate(design.cases):
        patient = design.patients[i] if design.known_patients else ""
        row = np.append(np.nan_to_num(design.matrix[i], nan=1e300), np.atleast_1d(design.target[i]))
        items.append(Item(case, design.split[i], patient, content_of(row)))
    found = check(items, kind="row", near=False)
    pictures = [
        Item(item.name, item.split, "", content_of(grid), thumbnail_of(grid))
        for item, image in zip(items, design.image, strict=False)
        if image and (grid := _picture(folder / image)) is not None
    ]
    if not pictures:
        return found
    images = check(pictures, kind="image")
    return Checked(found.leaks + images.leaks, found.repeats + images.repeats, found.items, found.splits)


def _folder(path: Path) -> Iterator[Item]:
    """Images in `train`, `val`, `test`; the patient is not known."""
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        split = SPLITS.get(folder.name.lower())
        if split is None:
            continue
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in _PICTURES or file.name.lower().endswith((".nii", ".nii.gz", ".dcm", ".nrrd")):
                grid = _picture(file)
                if grid is not None:
                    yield Item(str(file.relative_to(folder)), split, "", content_of(grid), thumbnail_of(grid))


def _picture(path: Path) -> np.ndarray | None:
    """The grey values of an image, or None for what is none."""
    from isocenter.acquire.case import open_case

    try:
        volume = open_case(path).volume()
    except (IsocenterError, OSError):
        return None
    return np.asarray(volume.voxels.mean(axis=0) if volume.channels > 1 else volume.voxels[0])


def _canonical(text: str) -> str:
    """A number however it is written."""
    try:
        return repr(float(text))
    except ValueError:
        return text.strip()


def _table(path: Path, cells: dict[str, tuple[str, ...]], split: str, group: str | None) -> Iterator[Item]:
    """Rows of a table."""
    column = group or patient_column(cells)
    patients = cells.get(column or "")
    if group is not None and patients is None:
        raise InputError(f"{path.name}: has no column {group!r}; it has {', '.join(list(cells)[:12])}")
    names = case_names(cells)
    compared = [name for name in cells if name not in (split, column) and cells[name] != names]
    for row, text in enumerate(cells[split]):
        content = content_of(np.asarray([_canonical(cells[name][row]) for name in compared]))
        yield Item(names[row], SPLITS.get(text.strip().lower(), text), patients[row] if patients else "", content)
