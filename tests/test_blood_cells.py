"""The detector that ships: what it says of itself, and of real smears; objects as boxes on a picture."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
pytest.importorskip("safetensors")

from PIL import Image  # noqa: E402

from isocenter.acquire.case import open_case  # noqa: E402
from isocenter.data.geometry import Geometry, Space  # noqa: E402
from isocenter.data.labels import Label, LabelMap  # noqa: E402
from isocenter.data.palette import colour_of  # noqa: E402
from isocenter.data.provenance import Step  # noqa: E402
from isocenter.errors import InputError  # noqa: E402
from isocenter.formats import model_folder  # noqa: E402
from isocenter.inference.model import load  # noqa: E402
from isocenter.inference.predictor import Predictor, Running  # noqa: E402
from isocenter.report.marks import legend_of, marks_of  # noqa: E402
from isocenter.training.images.plan import read_plan  # noqa: E402
from isocenter.zoo import model_path, names  # noqa: E402
from tests.command import cli  # noqa: E402


def test_it_is_small_and_states_itself() -> None:
    assert "blood-cells" in names()
    folder = model_path("blood-cells")
    assert sum(p.stat().st_size for p in folder.iterdir()) < 6e6
    card = model_folder.read_card(folder)
    assert (card.licence, card.training["licence"]) == ("MIT", "MIT")
    assert card.classes == ("Platelets", "RBC", "WBC")
    assert "test" not in card.metrics  # what was judged chose the threshold, too
    row = card.metrics["validated"]["metrics"]["map50"]
    assert row["value"] >= 0.90
    assert row["low"] < row["value"] < row["high"]
    low, high = card.gate["object_edge"]["RBC"]
    assert 40 < low < high < 65
    assert read_plan(folder / "plan.json").spec.model_dump(mode="json")["network"] == card.network["network"]
    assert load(folder).modules
    done = cli("model", "describe", "blood-cells")
    assert "validation    map50 0.90" in done.stdout
    assert done.stdout.count(" map50 ") == 2  # of training and of validation, each once


@pytest.fixture(scope="module")
def smear() -> Path:
    import os

    root = Path(os.environ.get("ISOCENTER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    picture = root / "bccd" / "images" / "BloodImage_00099.jpg"
    if not picture.is_file():
        pytest.skip(f"real data 'bccd' are not at {root}; set ISOCENTER_DATA to where they are")
    return picture


def test_cells_of_a_smear(smear: Path, tmp_path: Path) -> None:
    """18 cells have boxes on this picture: 15 red ones, a white one and two platelets."""
    done = cli("run", "blood-cells", smear, "-o", tmp_path / "r", "--lang", "zh")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "r" / smear.stem
    told = json.loads((folder / "report.json").read_text("utf-8"))
    counts = {str(f["statement"]).removeprefix("Number of "): f["value"] for f in told["findings"][:3]}
    assert counts["WBC"] == 1
    assert 14 <= counts["RBC"] <= 20
    assert told["verdict"] == "accepted"
    assert sum("Score of" in str(f["statement"]) for f in told["findings"]) == min(20, sum(counts.values()))
    page = (folder / "report.html").read_text("utf-8")
    assert "白细胞" in page
    assert "key_image_overlay_1.png" in told["images"]


def test_another_magnification_is_for_review(smear: Path, tmp_path: Path) -> None:
    """The same picture enlarged: its size in pixels is that of the training, its cells are not."""
    image = Image.open(smear)
    w, h = image.size
    image.crop((w // 4, h // 4, w // 4 + w // 2, h // 4 + h // 2)).resize((w, h), Image.Resampling.BICUBIC).save(
        tmp_path / "large.png"
    )
    done = cli("run", "blood-cells", tmp_path / "large.png", "-o", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "r" / "large" / "report.json").read_text("utf-8"))
    assert told["verdict"] == "review"
    assert any("magnification" in reason for reason in told["reasons"])


def test_what_is_no_smear_is_told_by_the_model_itself(smear: Path, tmp_path: Path) -> None:
    """A close-up of the ground between cells, and a grey picture: by `predict`, too, which runs no recipe."""
    picture = Image.open(smear)
    picture.crop((0, 0, 60, 60)).resize((640, 640)).save(tmp_path / "close.png")
    picture.convert("L").save(tmp_path / "grey.png")
    predictor = Predictor("blood-cells", Running(flips=False))
    answer = predictor(open_case(tmp_path / "close.png").volume(), "close")
    assert any("images of the training hold 3 to 22.9" in c.text for c in answer.concerns)
    with pytest.raises(InputError, match="trained on images in colour"):
        predictor(open_case(tmp_path / "grey.png").volume(), "grey")


def test_a_grey_picture_is_refused(smear: Path, tmp_path: Path) -> None:
    Image.open(smear).convert("L").save(tmp_path / "grey.png")
    done = cli("run", "blood-cells", tmp_path / "grey.png", "-o", tmp_path / "r")
    assert done.returncode == 2
    assert "colour" in done.stdout + done.stderr


def found_labels(*, drawn: str = "boxes", depth: int = 1, left: Callable[[int], bool] = lambda _: True) -> LabelMap:
    rows = [
        {"value": 1, "class": "b", "score": 0.9, "low": [0, 2.0, 3.0], "high": [1, 6.0, 9.0]},
        {"value": 2, "class": "a", "score": 0.5, "low": [0, 0.0, 0.0], "high": [1, 3.0, 3.0]},
    ]
    grid = Geometry.regular((depth, 12, 12), space=Space.PIXELS)
    told = {"objects": rows, "classes": ["a", "b"], "drawn": drawn, "affine": grid.affine.tolist()}
    labels = tuple(Label(row["value"], f"x {row['value']}") for row in rows if left(row["value"]))  # type: ignore[arg-type]
    return LabelMap(np.zeros((depth, 12, 12), np.int32), grid, labels, (Step("segment.network_objects", {}, told),))  # type: ignore[arg-type]


def test_marks_have_the_colour_of_their_class() -> None:
    first, second = marks_of(found_labels())
    assert (first.number, first.low, first.high) == (1, (2.0, 3.0), (6.0, 9.0))
    assert (first.colour, second.colour) == (colour_of(1), colour_of(0))
    assert legend_of((first, second)) == [("a", colour_of(0)), ("b", colour_of(1))]
    assert [m.number for m in marks_of(found_labels(left=lambda value: value == 2))] == [2]


def test_outlines_are_for_boxes_of_pictures() -> None:
    assert marks_of(None) == ()
    assert marks_of(found_labels(drawn="masks")) == ()
    assert marks_of(found_labels(depth=3)) == ()


def test_marks_lie_where_the_labels_do() -> None:
    """A network that looked at a part of the picture: its boxes are drawn on the whole one."""
    labels = found_labels()
    (step,) = labels.history
    part = labels.geometry.crop((0, 4, 5), (1, 8, 7))
    moved = replace(step, results={**step.results, "affine": part.affine.tolist()})
    first, _ = marks_of(replace(labels, history=(moved,)))
    assert (first.low, first.high) == ((6.0, 8.0), (10.0, 14.0))
