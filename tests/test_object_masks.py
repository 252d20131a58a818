"""Masks of objects: turned and cut with their boxes, drawn from outlines, painted onto the image's own grid."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.data.dataset import Marked  # noqa: E402
from isocenter.data.geometry import Geometry, Space  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import InputError  # noqa: E402
from isocenter.inference.detected import detected  # noqa: E402
from isocenter.inference.model import Spec  # noqa: E402
from isocenter.inference.object_masks import cut, outlined, turned  # noqa: E402
from isocenter.inference.painted import painted  # noqa: E402
from isocenter.inference.placed import boxed, to_image, to_network  # noqa: E402
from isocenter.inference.prepare import Preparation, prepare  # noqa: E402
from isocenter.networks.detector import DetectorSettings, Found, best_of  # noqa: E402
from isocenter.ops.polygon import inside  # noqa: E402
from isocenter.training.images.defaults.objects import room  # noqa: E402
from isocenter.training.images.fingerprint import Fingerprint  # noqa: E402
from tests.command import cli  # noqa: E402
from tests.test_detection import coco_set  # noqa: E402


def l_shape() -> np.ndarray:
    """A mask that is unlike itself however it is turned."""
    mask = np.zeros((6, 6, 6), np.float32)
    mask[:, :, :2] = 1
    mask[:2, :, :4] = 1
    mask[:1, :3] = 1
    return mask


@pytest.mark.parametrize(
    "axes", [np.diag([1.0, 1, 1]), np.diag([-1.0, -1, 1]), np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])]
)
def test_a_mask_is_turned_as_its_box_is(axes: np.ndarray) -> None:
    """An object painted on the image's grid, brought to the network's, found there as it lies, and painted again."""
    affine = np.eye(4)
    affine[:3, :3] = axes[:, ::-1]  # index (d, h, w) -> LPS
    grid = Geometry((14, 12, 13), affine, Space.PATIENT)
    truth = np.zeros(grid.shape, np.float32)
    truth[4:10, 3:9, 5:11] = l_shape()
    ready = prepare(Volume(truth[None], grid), Preparation(orient=True, intensity="none"))
    where = np.argwhere(ready.array[0] > 0.5)
    box = np.stack((where.min(axis=0), where.max(axis=0) + 1)).astype(float)[None]
    part = tuple(slice(int(a), int(b)) for a, b in box[0].T)
    found = Found(to_image(box, ready), np.ones(1), np.zeros(1, np.int64), turned(ready.array[0][part][None], ready))
    drawn, _, _ = painted(found, grid.shape, ("x",), least=0.5)
    assert np.array_equal(drawn > 0, truth > 0.5)


def test_a_mask_is_cut_with_its_box() -> None:
    """A bar that reaches half beyond the image: what is left is the inner half, not the whole bar squeezed."""
    mask = np.zeros((1, 8, 8), np.float32)
    mask[0, :, :4] = 1  # the left half of the box
    before = np.array([[[0.0, 0, -8], [1, 8, 8]]])
    after = np.array([[[0.0, 0, 0], [1, 8, 8]]])
    assert cut(mask, before, after).max() < 0.5  # the bar lay outside
    assert cut(mask, before, before) == pytest.approx(mask)


def test_an_object_in_the_padding_keeps_its_form() -> None:
    """The window is larger than the image: the finder boxes across its edge."""
    mask = np.zeros((1, 4, 4), np.float32)
    mask[0, 2:] = 1  # the lower half

    def find(windows: np.ndarray) -> list[Found]:
        corners = np.array([[[0.0, 8.0], [16.0, 24.0]]])
        return [Found(corners, np.ones(1), np.zeros(1, np.int64), mask)]

    spec = Spec(task="detect", classes=("x",), preparation=Preparation(dims=2), patch=(32, 32), answer="boxes",
                network={"name": "mask_rcnn"})  # type: ignore[arg-type]  # fmt: skip
    found = detected((find,), np.zeros((1, 1, 16, 32), np.float32), spec, flips=False)
    top = found.boxes[0, 0, 1]
    assert found.masks is not None
    drawn, _, _ = painted(found, (1, 16, 32), ("x",), least=0.5)
    assert top == 0  # 8 rows of padding lie above the image: the upper half of the box is cut away
    assert (drawn > 0).sum() == 8 * 16


def test_pixels_in_a_polygon() -> None:
    square = np.array([[0.5, 0.5], [0.5, 3.5], [3.5, 3.5], [3.5, 0.5]])
    found = inside([square], (5, 5))
    assert found[1:4, 1:4].all()
    assert found.sum() == 9
    assert inside([square, square], (5, 5)).sum() == 0  # even-odd


def test_outlines_become_masks_on_the_networks_grid() -> None:
    volume = Volume(np.zeros((1, 1, 20, 20), np.uint8) + np.arange(20, dtype=np.uint8), Geometry.regular((1, 20, 20), space=Space.PIXELS))  # fmt: skip
    ready = prepare(volume, Preparation(dims=2, size=(10, 10), intensity="none"))
    big = Marked("a", (0, 0, 0), (1, 16, 16), outline=((0, 0, 16, 0, 16, 16, 0, 16),))
    small = Marked("b", (0, 4, 4), (1, 8, 8), outline=((4, 4, 8, 4, 8, 8, 4, 8),))
    grid = outlined((small, big), ready)
    assert grid is not None
    assert (grid == 1).sum() == 4  # 4 x 4 pixels at half the size, on top of the larger one
    assert (grid == 2).sum() == 64 - 4
    assert outlined((small, replace(big, outline=())), ready) is None
    assert outlined((small, replace(big, outline=(), ignored=True)), ready) is not None


def outlined_set(folder: Path) -> Path:
    """Squares with polygons."""
    coco_set(folder, {"train": 6, "val": 3})
    for path in folder.rglob("*.json"):
        data = json.loads(path.read_text("utf-8"))
        for row in data["annotations"]:
            x, y, w, h = row["bbox"]
            row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        path.write_text(json.dumps(data), "utf-8")
    return folder


SMALL = ("--set", "schedule.steps=2", "--set", "schedule.batch=2", "--set", "network.settings.widths=[8,8,8,8]", "--set",
         "network.settings.channels=8", "--set", "network.settings.blocks=[1,1,1,1]")  # fmt: skip


def test_outlines_choose_the_network_that_draws(tmp_path: Path) -> None:
    done = cli("train", outlined_set(tmp_path / "drawn"), "-o", tmp_path / "m", *SMALL)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "m" / "plan.json").read_text())["network"]["name"] == "mask_rcnn"


def test_masks_are_not_learnt_from_boxes(tmp_path: Path) -> None:
    """A mask that nobody taught would be noise, drawn with a straight face."""
    data = coco_set(tmp_path / "boxes", {"train": 6, "val": 3})
    done = cli("train", data, "-o", tmp_path / "m", "--task", "detect", "--network", "mask_rcnn", *SMALL)
    assert done.returncode == 2
    assert "take faster_rcnn" in done.stderr


def test_folds_of_detection_join_what_was_found(tmp_path: Path) -> None:
    data = coco_set(tmp_path / "boxes", {"train": 6})
    done = cli("train", data, "-o", tmp_path / "m", "--task", "detect", "--folds", "2", *SMALL)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "m" / "evaluation.json").read_text())
    assert told["n_cases"] == 6


def test_a_box_beyond_its_image_is_named_and_left_out(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in "abcdef":
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    rows = [f"{n}.png,5,5,20,20,cell,{'val' if n in 'ef' else 'train'}" for n in "abcdef"]
    rows.append("a.png,500,5,520,20,cell,train")
    (tmp_path / "t.csv").write_text("image,xmin,ymin,xmax,ymax,class,split\n" + "\n".join(rows) + "\n", "utf-8")
    done = cli("train", tmp_path / "t.csv", "-o", tmp_path / "m", "--task", "detect", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "left out: a: the box of a cell" in done.stderr
    assert json.loads((tmp_path / "m" / "card.json").read_text())["training"]["cases"] == 4
    kept = boxed((Marked("c", (0, 1, 1), (1, 5, 5)), Marked("c", (0, 90, 1), (1, 95, 5))), ("c",),
                 Geometry.regular((1, 40, 40), space=Space.PIXELS))  # fmt: skip
    assert len(kept) == 1
    assert "lies outside its image" in kept.left_out[0]


def test_tables_of_boxes_refuse_other_splits_and_columns(tmp_path: Path) -> None:
    from PIL import Image

    for name in "abc":
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / f"{name}.png")
    head = "image,xmin,ymin,xmax,ymax,class,split\n"
    (tmp_path / "t.csv").write_text(head + "a.png,1,1,5,5,x,train\nb.png,1,1,5,5,x,testing\n", "utf-8")
    with pytest.raises(InputError, match="'testing' is none of train, val, test"):
        open_dataset(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(head + "a.png,1,1,5,5,x,train\nb.png,1,1,5,5,x,test\n", "utf-8")
    assert any(
        "1 images have no row, and so no split (c.png" in str(p) for p in open_dataset(tmp_path / "t.csv").problems
    )
    with pytest.raises(InputError, match="no column 'who'"):
        open_dataset(tmp_path / "t.csv", group="who")
    with pytest.raises(InputError, match="no column 'part'"):
        open_dataset(tmp_path / "t.csv", split="part")


def test_answers_that_are_no_numbers_are_not_nothing() -> None:
    boxes, scores = torch.zeros(3, 2, 2), torch.full((3, 1), float("nan"))
    with pytest.raises(InputError, match="no number"):
        best_of(boxes, scores, DetectorSettings(), (8, 8))


def test_crowded_images_get_room() -> None:
    seen = Fingerprint(
        2,
        None,
        ((1, 9, 9),) * 2,
        (),
        1,
        "arbitrary",
        whole_numbers=True,
        intensity=({},),
        owners=(0,) * 350 + (1,) * 10,
    )
    assert room(seen, "retinanet") == {"most": 700}
    assert room(seen, "mask_rcnn") == {"most": 700, "proposals": 700}
    assert room(seen, "detr") == {"queries": 700}
    assert room(replace(seen, owners=(0, 1)), "retinanet") == {}


def test_more_objects_than_a_report_holds_are_refused() -> None:
    count = 2001
    found = Found(
        np.tile(np.array([[[0.0, 0, 0], [1, 2, 2]]]), (count, 1, 1)), np.ones(count), np.zeros(count, np.int64)
    )
    with pytest.raises(InputError, match="2001 objects were found, and 2000"):
        painted(found, (1, 4, 4), ("x",), least=0.5)


def test_boxes_of_the_network_and_back() -> None:
    """A box that reaches beyond the image keeps its place: who cuts it, cuts its mask too."""
    grid = Geometry.regular((4, 10, 10), spacing_mm=(1.0, 1.0, 1.0))
    ready = prepare(Volume(np.random.default_rng(0).normal(size=(1, 4, 10, 10)).astype(np.float32), grid), Preparation(orient=True))  # fmt: skip
    box = np.array([[[0.0, -3, 2], [2, 4, 5]]])
    assert to_image(to_network(box, ready), ready) == pytest.approx(box)
