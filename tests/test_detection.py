"""Detection: data in the field's shapes, networks by hand-computed values, training and prediction by the CLI."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from isocenter.acquire.case import open_case  # noqa: E402
from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.acquire.labelled import read_images  # noqa: E402
from isocenter.analyse.place import part_of_image, place_words, size_words  # noqa: E402
from isocenter.data.dataset import Marked, Problem  # noqa: E402
from isocenter.data.geometry import Geometry, Space  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import GeometryError, InputError  # noqa: E402
from isocenter.explanation.objects import likeness, object_heat  # noqa: E402
from isocenter.formats import nifti  # noqa: E402
from isocenter.inference.detected import detected  # noqa: E402
from isocenter.inference.gate import gate_of_objects, object_concerns  # noqa: E402
from isocenter.inference.model import NetworkModel, Spec, load  # noqa: E402
from isocenter.inference.placed import in_voxels, moved, to_image, to_network  # noqa: E402
from isocenter.inference.predictor import CaseAnswer, Predictor, Running  # noqa: E402
from isocenter.inference.prepare import Preparation, prepare  # noqa: E402
from isocenter.networks import anchors as an  # noqa: E402
from isocenter.networks.catalogue import build  # noqa: E402
from isocenter.networks.detector import Found, Truth, Truths  # noqa: E402
from isocenter.networks.detr import paired  # noqa: E402
from isocenter.networks.roi_align import roi_align  # noqa: E402
from isocenter.ops.boxes import mean_edges  # noqa: E402
from isocenter.training.images import augment  # noqa: E402
from isocenter.training.images.plan import plan_of  # noqa: E402
from tests.command import cli  # noqa: E402
from tests.nodules import nodule_data  # noqa: E402

torch.set_num_threads(1)
SMALL = {"widths": (8, 16, 24, 32), "channels": 16, "first": 1}
SMALL_3D = tuple(
    part
    for setting in (
        "precision=bfloat16", "network.settings.widths=[8,16,24,32]", "network.settings.blocks=[1,1,1,1]",
        "network.settings.channels=16", "network.settings.hidden=48", "network.settings.cells=4",
        "network.settings.mask_cells=5", "network.settings.learnt_from=24",
    )
    for part in ("--set", setting)
)  # fmt: skip


def picture(path: Path, rng: np.random.Generator, *, size: int = 64) -> list[tuple[str, list[int]]]:
    """A grey picture of bright squares and dark discs; their boxes as x, y, w, h."""
    from PIL import Image

    image = rng.normal(120, 6, (size, size))
    rows: list[tuple[str, list[int]]] = []
    for kind in ("square", "disc", "square"):
        edge = int(rng.integers(10, 16))
        x, y = (int(v) for v in rng.integers(0, size - edge, 2))
        if any(abs(x - b[0]) < 18 and abs(y - b[1]) < 18 for _, b in rows):
            continue
        grid = np.ogrid[:size, :size]
        inside = (grid[0] >= y) & (grid[0] < y + edge) & (grid[1] >= x) & (grid[1] < x + edge)
        if kind == "disc":
            inside = (grid[0] - y - edge / 2 + 0.5) ** 2 + (grid[1] - x - edge / 2 + 0.5) ** 2 <= (edge / 2) ** 2
        image[inside] += 90 if kind == "square" else -90
        rows.append((kind, [x, y, edge, edge]))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)
    return rows


def coco_set(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    kinds = {"square": 3, "disc": 7}
    for split, count in counts.items():
        images, annotations = [], []
        for i in range(count):
            name = f"p{i:02d}_{split}.png"
            rows = picture(folder / split / name, rng)
            images.append({"id": 100 + i, "file_name": name, "width": 64, "height": 64})
            annotations += [
                {"id": len(annotations) + k, "image_id": 100 + i, "category_id": kinds[kind], "bbox": box, "area": box[2] * box[3]}
                for k, (kind, box) in enumerate(rows)
            ]  # fmt: skip
        data = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": v, "name": k} for k, v in kinds.items()],
        }
        (folder / split / "_annotations.coco.json").write_text(json.dumps(data), "utf-8")
    return folder


def voc_file(path: Path, boxes: list[tuple[str, tuple[int, int, int, int]]], *, size: int = 64) -> None:
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax>"
        "</bndbox></object>"
        for name, b in boxes
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><size><width>{size}</width><height>{size}</height></size>{items}</annotation>", "utf-8"
    )


class TestDataSets:
    def test_coco(self, tmp_path: Path) -> None:
        data = open_dataset(coco_set(tmp_path / "set", {"train": 3, "valid": 2}))
        assert data.kind == "COCO"
        assert data.splits == {"train": 3, "val": 2}
        first = data.samples[0]
        assert first.objects is not None
        plain = json.loads((tmp_path / "set" / "train" / "_annotations.coco.json").read_text("utf-8"))["annotations"][
            0
        ]["bbox"]
        assert first.objects[0].low == (0, plain[1], plain[0])
        assert first.objects[0].high == (1, plain[1] + plain[3], plain[0] + plain[2])
        assert {m.name for s in data.samples for m in s.objects or ()} == {"square", "disc"}

    def test_what_is_wrong_in_coco_is_named(self, tmp_path: Path) -> None:
        folder = coco_set(tmp_path / "set", {"train": 2})
        path = folder / "train" / "_annotations.coco.json"
        data = json.loads(path.read_text("utf-8"))
        data["annotations"] += [
            {"id": 900, "image_id": 100, "category_id": 3, "bbox": [5, 5, 0, 4]},
            {"id": 901, "image_id": 100, "category_id": 3, "bbox": [500, 5, 4, 4]},
            {"id": 902, "image_id": 100, "category_id": 99, "bbox": [5, 5, 4, 4]},
            {"id": 903, "image_id": 100, "category_id": 3, "bbox": [5, None, 4, 4]},
            {"id": 904, "image_id": 777, "category_id": 3, "bbox": [5, 5, 4, 4]},
        ]
        data["images"].append({"id": 5, "file_name": "../../secret.png"})
        path.write_text(json.dumps(data), "utf-8")
        problems = "\n".join(map(str, open_dataset(folder).problems))
        for words in ("box 900 (square) has no area", "box 901 (square) lies outside", "902 (unnamed) is of no category",
                      "903 (square) has corners that are no numbers", "1 boxes are of images that are not listed", "is not there"):  # fmt: skip
            assert words in problems

    def test_voc(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for name in ("a", "b", "c"):
            picture(tmp_path / "images" / f"{name}.png", rng)
        voc_file(
            tmp_path / "annotations" / "a.xml",
            [("cell", (1, 1, 64, 64)), ("cell", (9, 9, 9, 9)), ("cell", (70, 1, 80, 9))],
        )
        voc_file(tmp_path / "annotations" / "b.xml", [])
        (tmp_path / "train.txt").write_text("a\n", "utf-8")
        (tmp_path / "val.txt").write_text("b\nzz\n", "utf-8")
        data = open_dataset(tmp_path)
        assert data.kind == "Pascal VOC"
        assert data.splits == {"train": 1, "val": 1}
        assert data.samples[0].objects == (Marked("cell", (0, 0, 0), (1, 64, 64)),)  # counted from 1, both ends within
        assert data.samples[1].objects == ()  # looked at, and empty
        told = "\n".join(map(str, data.problems))
        assert "a: the box 2 (cell) has no area" in told
        assert "a: the box 3 (cell) lies outside" in told
        assert "c: has an image and no boxes" in told
        assert "zz: stands in the list" in told

    def test_hostile_xml_is_refused(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for name in ("good", "bomb"):
            picture(tmp_path / f"{name}.png", rng)
        voc_file(tmp_path / "good.xml", [("cell", (1, 1, 9, 9))])
        entity = '<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;&x;&x;">]><annotation>&z;</annotation>'
        (tmp_path / "bomb.xml").write_text(entity, "utf-8")
        data = open_dataset(tmp_path)
        assert [s.case for s in data.samples] == ["good"]
        assert "bomb: bomb.xml: declares a document type" in str(data.problems[0])

    def test_points_in_millimetres(self, tmp_path: Path) -> None:
        geometry = Geometry.regular((20, 30, 40), spacing_mm=(2.0, 1.0, 0.5))
        nifti.write(Volume(np.zeros((1, 20, 30, 40), np.int16), geometry), tmp_path / "scan1.nii.gz")
        nifti.write(Volume(np.ones((1, 20, 30, 40), np.int16), geometry), tmp_path / "scan2.nii.gz")
        x, y, z = (geometry.affine @ np.array([10, 15, 20, 1.0]))[:3]
        table = tmp_path / "annotations.csv"
        table.write_text(
            f"seriesuid,coordX,coordY,coordZ,diameter_mm\nscan1,{x},{y},{z},8\nscan9,1,2,3,4\nscan1,1,2,3,x\n", "utf-8"
        )
        data = open_dataset(table)
        assert data.kind == "a table of boxes"
        assert {s.case: len(s.objects or ()) for s in data.samples} == {"scan1": 1, "scan2": 0}
        assert Problem("has 1 rows and no image", "scan9") in data.problems
        assert any("row 4 (scan1): its corners are no numbers" in str(p) for p in data.problems)
        mark = data.samples[0].objects
        assert mark is not None
        box = in_voxels(mark[0], geometry)
        assert box[0] == pytest.approx([10.5 - 2, 15.5 - 4, 20.5 - 8])  # 8 mm are 4, 8 and 16 voxels
        assert box[1] == pytest.approx([10.5 + 2, 15.5 + 4, 20.5 + 8])
        with pytest.raises(GeometryError):
            in_voxels(mark[0], Geometry.regular((20, 30, 40), space=Space.PIXELS))

    def test_lidc_readers(self, tmp_path: Path) -> None:
        """Three of four readers drew one nodule, one drew another, one put a point: an object, and two that do not count."""
        from pydicom import dcmread

        from tests.phantoms import write_series

        files = write_series(
            tmp_path / "ct", np.zeros((12, 64, 64), np.int16), spacing=(2.0, 0.5, 0.5), origin=(10.0, 20.0, -30.0)
        )
        uid = dcmread(files[0]).SeriesInstanceUID

        def nodule(x: int, y: int, slices: tuple[int, ...], edge: int) -> str:
            rois = "".join(
                f"<roi><imageZposition>{-30 + 2 * k}</imageZposition><inclusion>TRUE</inclusion>"
                + "".join(
                    f"<edgeMap><xCoord>{x + a}</xCoord><yCoord>{y + b}</yCoord></edgeMap>"
                    for a in (0, edge)
                    for b in (0, edge)
                )
                + "</roi>"
                for k in slices
            )
            return f"<unblindedReadNodule><noduleID>1</noduleID>{rois}</unblindedReadNodule>"

        point = ("<unblindedReadNodule><roi><imageZposition>-20</imageZposition><edgeMap><xCoord>50</xCoord><yCoord>50</yCoord>"
                 "</edgeMap></roi></unblindedReadNodule>")  # fmt: skip
        sessions = [nodule(10, 20, (3, 4, 5), 8), nodule(11, 20, (3, 4, 5), 8) + point, nodule(10, 21, (3, 4, 5, 6), 8),
                    nodule(40, 40, (8, 9), 10)]  # fmt: skip
        body = "".join(f"<readingSession>{text}</readingSession>" for text in sessions)
        head = f"<ResponseHeader><SeriesInstanceUid>{uid}</SeriesInstanceUid></ResponseHeader>"
        (tmp_path / "ct" / "158.xml").write_text(
            f'<LidcReadMessage xmlns="http://www.nih.gov">{head}{body}</LidcReadMessage>', "utf-8"
        )
        data = open_dataset(tmp_path)
        assert data.kind == "LIDC-IDRI's marks"
        marked = data.samples[0].objects or ()
        assert [m.ignored for m in marked].count(False) == 1
        assert len(marked) == 3
        sure = next(m for m in marked if not m.ignored)
        box = in_voxels(sure, read_images(data.samples[0]).geometry)
        # Columns 10 to 18, 11 to 19, 10 to 18; an index is the middle of its voxel, half a voxel inside its edges.
        assert box[:, 2] == pytest.approx([10 + 1 / 3 + 0.5, 18 + 1 / 3 + 0.5])
        assert box[:, 1] == pytest.approx([20 + 1 / 3 + 0.5, 28 + 1 / 3 + 0.5])
        assert box[:, 0] == pytest.approx([3, 5 + 1 / 3 + 1])  # a contour stands for its whole slice

    def test_patients_by_an_expression(self, tmp_path: Path) -> None:
        folder = coco_set(tmp_path / "set", {"train": 3, "valid": 2})
        data = open_dataset(folder, group=r"(p\d+)_")
        assert data.samples[0].patient == data.samples[3].patient == "p00"
        done = cli("train", str(folder), "-o", str(tmp_path / "m"), "--group", r"(p\d+)_", "--set", "schedule.steps=1")
        assert done.returncode == 2
        assert "patient" in done.stderr
        with pytest.raises(InputError, match="parentheses"):
            open_dataset(folder, group=r"p\d+")
        with pytest.raises(InputError, match="matches no name"):
            open_dataset(folder, group=r"(zzz)")


class TestPlaces:
    def test_there_and_back(self) -> None:
        geometry = Geometry.regular((10, 20, 30), spacing_mm=(3.0, 1.0, 1.0))
        volume = Volume(np.random.default_rng(0).normal(size=(1, 10, 20, 30)).astype(np.float32), geometry)
        ready = prepare(volume, Preparation(orient=True, spacing_mm=(1.0, 1.0, 2.0)))
        boxes = np.array([[[2.0, 3.0, 4.0], [5.0, 9.0, 14.0]]])
        there = to_network(boxes, ready)
        assert np.prod(there[0, 1] - there[0, 0]) == pytest.approx(3 * 3 * 6 * 10 / 2)  # the same mm3 in voxels of 2
        assert to_image(there, ready) == pytest.approx(boxes)

    def test_corners_are_edges_of_voxels(self) -> None:
        fine, coarse = np.diag([1.0, 1, 1, 1]), np.diag([2.0, 2, 2, 1])
        coarse[:3, 3] = 0.5  # voxel 0 of the coarse grid covers voxels 0 and 1 of the fine one
        one = moved(np.array([[[0.0, 0, 0], [1.0, 1, 1]]]), source=coarse, target=fine)
        assert one[0] == pytest.approx(np.array([[0, 0, 0], [2, 2, 2]]))


class TestRoiAlign:
    def test_a_ramp_is_read_where_the_cells_lie(self) -> None:
        ramp = torch.arange(8.0).expand(1, 8, 8).clone() + 0.5  # the value at x is x
        found = roi_align(ramp, torch.tensor([[[1.0, 2.0], [5.0, 6.0]]]), size=2)
        assert found[0, 0].tolist() == [[3.0, 5.0], [3.0, 5.0]]  # cells from 2 to 4 and 4 to 6

    def test_in_three_dimensions(self) -> None:
        grid = torch.meshgrid(*[torch.arange(6.0) + 0.5] * 3, indexing="ij")
        features = torch.stack(grid)
        box = torch.tensor([[[1.0, 2.0, 0.5], [3.0, 5.0, 4.5]]])
        found = roi_align(features, box, size=1, samples=2)[0, :, 0, 0, 0]
        assert found.tolist() == pytest.approx([2.0, 3.5, 2.5])  # the middle of the box

    def test_beyond_the_edge_the_last_voxel_counts(self) -> None:
        found = roi_align(torch.ones(1, 4, 4), torch.tensor([[[-4.0, -4.0], [8.0, 8.0]]]), size=3)
        assert torch.allclose(found, torch.ones_like(found))

    def test_no_boxes(self) -> None:
        assert roi_align(torch.ones(2, 4, 4), torch.zeros(0, 2, 2), size=3).shape == (0, 2, 3, 3)


class TestAnchors:
    def test_shapes_follow_the_objects(self) -> None:
        edges = np.concatenate((np.tile([16.0, 16.0], (20, 1)), np.tile([16.0, 32.0], (20, 1))))
        shapes, alike = an.fitted(edges, ((4, 4), (8, 8)), count=2)
        assert shapes == ((4.0, 4.0), (4.0, 8.0)) or alike > 0.9
        assert alike > 0.9
        with pytest.raises(InputError, match="there is none"):
            an.fitted(np.zeros((0, 2)), ((4, 4),), count=2)

    def test_they_stand_about_their_voxels(self) -> None:
        levels = an.laid([(2, 3)], ((4, 4),), ((4.0, 2.0), (1.0, 1.0)))
        assert len(levels[0]) == 12
        assert levels[0][0].tolist() == [[2 - 8, 2 - 4], [2 + 8, 2 + 4]]
        assert levels[0][3].mean(dim=0).tolist() == [2.0, 6.0]  # second voxel of the first row, second anchor

    def test_every_object_is_answered_for(self) -> None:
        levels = an.laid([(16, 16), (8, 8)], ((4, 4), (8, 8)), ((4.0, 4.0),))
        boxes = torch.tensor([[[10.0, 10.0], [26.0, 26.0]], [[40.0, 40.0], [43.0, 43.0]], [[0.0, 0.0], [60.0, 60.0]]])
        answer = an.matched(levels, boxes, each=1)
        assert set(answer.tolist()) == {-1, 0, 1, 2}
        best = torch.cat(levels)[answer == 0]
        assert ((best.mean(dim=1) > 10) & (best.mean(dim=1) < 26)).all()  # their centres lie within
        assert (an.matched(levels, boxes[:0], each=1) == -1).all()


class TestPairs:
    def test_by_hand(self) -> None:
        """Two queries, two objects, each near the other's: the pairing is the cheapest in all, not the first."""
        boxes = torch.tensor([[[0.0, 0.0], [0.2, 0.2]], [[0.6, 0.6], [0.9, 0.9]], [[0.1, 0.5], [0.2, 0.6]]])
        goal = torch.tensor([[[0.62, 0.6], [0.9, 0.9]], [[0.0, 0.0], [0.2, 0.21]]])
        rows, columns = paired(torch.zeros(3, 3), boxes, goal, torch.tensor([0, 1]))
        assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 1, 1: 0}

    def test_no_object(self) -> None:
        rows, _ = paired(
            torch.zeros(3, 3), torch.rand(3, 2, 2), torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.int64)
        )
        assert len(rows) == 0


class TestNetworks:
    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize("name", ["retinanet", "faster_rcnn", "mask_rcnn", "detr"])
    def test_learns_one_picture_by_heart(self, name: str, dims: int) -> None:
        """Two bright objects of two classes in noise: after some steps each is found where it is, masks included."""
        torch.manual_seed(0)
        size = (64,) * dims if dims == 2 else (32,) * 3
        corners = [[8.0] * dims, [20.0] * dims], [[size[0] * 0.5 + 4] * dims, [size[0] * 0.5 + 14] * dims]
        boxes = torch.tensor(corners)
        image = 0.1 * torch.randn(1, 1, *size)
        masks = torch.zeros(size, dtype=torch.int64)
        for i, box in enumerate(boxes):
            place = tuple(slice(int(a), int(b)) for a, b in zip(box[0], box[1], strict=True))
            image[(0, 0, *place)] += 2 - 4 * i
            masks[place] = i + 1
        settings = {"widths": (8, 16, 24), "hidden": 32, "layers": 1, "heads": 4, "queries": 6, "dropout": 0.0} if name == "detr" else {
            **SMALL, "widths": (8, 16, 24), "anchors": ((3.0,) * dims,)}  # fmt: skip
        if "rcnn" in name:
            settings |= {"hidden": 64, "cells": 4, "learnt_from": 16, "proposals": 40, "mask_cells": 5}
        network = build(name, settings, channels=1, outputs=2, dims=dims)
        truth = Truth(boxes, torch.tensor([0, 1]), masks)
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
        first = None
        for _ in range({"detr": 250, "retinanet": 60}.get(name, 120)):
            with torch.autocast("cpu", torch.bfloat16, enabled=dims == 3):  # which takes a third of the time
                loss = network(image, Truths([truth]))
            first = first or float(loss.detach())
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
        assert float(loss.detach()) < 0.5 * first
        for part in network.modules():  # running statistics of one picture are not settled after some steps
            if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                part.train()
        network.training = False
        with torch.inference_mode():
            found = network.find(image)[0]
        for kind in (0, 1):
            best = int(np.argmax(np.where(found.classes == kind, found.scores, -1)))
            assert found.classes[best] == kind
            assert np.abs(found.boxes[best] - boxes[kind].numpy()).max() < 4
        if name == "mask_rcnn":
            assert found.masks is not None
            assert found.masks.shape == (len(found), *(10,) * dims)
            assert found.masks[0].mean() > 0.6

    def test_wrong_anchors_are_refused(self) -> None:
        with pytest.raises(InputError, match="2 edges"):
            build("retinanet", {"anchors": ((1.0, 2.0, 3.0),)}, channels=1, outputs=1, dims=2)


class TestMovement:
    def test_boxes_go_where_the_picture_goes(self) -> None:
        """A bright disc is turned, scaled, shifted and flipped; its box is where it then is."""
        rng = np.random.default_rng(1)
        plan = plan_of({
            "task": "detect", "classes": ("disc",), "patch": (96, 96), "preparation": {"dims": 2}, "network": {"name": "retinanet"},
            "loss": {"name": "own"}, "laterality": "free",
            "augmentation": {"flip": (False, True, True), "rotate": 1.0, "rotate_degrees": 40.0, "scale": 1.0, "scale_range": (0.8, 1.2),
                             "shift": 0.05, "elastic": 0, "noise": 0, "blur": 0, "gamma": 0, "contrast": 0, "low_resolution": 0},
        }, "p")  # fmt: skip
        grid = np.ogrid[:96, :96]
        image = (((grid[0] + 0.5 - 40) / 9) ** 2 + ((grid[1] + 0.5 - 56) / 15) ** 2 <= 1).astype(np.float32)
        box = np.array([[[31.0, 41.0], [49.0, 71.0]]])
        for _ in range(20):
            drawn = augment.draw(plan, (96, 96), 1, rng)
            turned, _ = augment.apply(drawn, torch.from_numpy(image)[None, None], None)
            inside = turned[0, 0].numpy() > 0.5
            seen = [np.flatnonzero(inside.any(axis=1 - a)) for a in range(2)]
            wanted = np.array([[s[0] for s in seen], [s[-1] + 1 for s in seen]])
            assert np.abs(augment.moved_boxes(drawn, 0, box, (96, 96))[0] - wanted).max() < 1.6


class TestWindows:
    def test_an_object_on_a_seam_is_one(self) -> None:
        """A finder that boxes what is bright in its window; the object lies where four windows meet."""
        image = np.zeros((1, 1, 96, 96), np.float32)
        image[0, 0, 40:56, 44:60] = 1

        def find(windows: np.ndarray) -> list[Found]:
            inside = windows[0, 0] > 0.5
            if not inside.any():
                return [Found(np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0, np.int64))]
            seen = [np.flatnonzero(inside.any(axis=1 - a)) for a in range(2)]
            corners = np.array([[[s[0] for s in seen], [s[-1] + 1 for s in seen]]], float)
            return [Found(corners, np.array([0.9]), np.zeros(1, np.int64))]

        spec = Spec(task="detect", classes=("thing",), preparation=Preparation(dims=2), patch=(64, 64), answer="boxes",
                    network={"name": "retinanet"}, flips=(1, 2))  # type: ignore[arg-type]  # fmt: skip
        found = detected((find,), image, spec, overlap=0.5)
        assert len(found) == 1
        assert found.scores[0] == pytest.approx(0.9)
        assert found.boxes[0] == pytest.approx(np.array([[0, 40, 44], [1, 56, 60]]), abs=1e-6)


def test_sizes_belong_to_the_gate() -> None:
    sizes = [np.asarray([10.0, 12.0, 14.0]), np.asarray([20.0, 20.0, 20.0, 90.0]), np.asarray([5.0]), np.full(3, 15.0)]
    none = np.zeros(0)
    gate = gate_of_objects({"cell": sizes, "rare": [none, none, sizes[2], none], "absent": [none] * 4})
    # Medians 12, 20, 5, 15: of three gaps, .02 * 3 of the way from the ends. One image is no range.
    assert gate["object_edge"] == {"cell": [pytest.approx(5.42), pytest.approx(19.7)]}
    gate = {"object_edge": {"cell": [12.0, 20.0]}}
    assert object_concerns({"cell": np.full(3, 24.9)}, gate) == []
    assert object_concerns({"cell": np.full(1, 99.0), "rare": np.full(9, 99.0)}, gate) == []
    (odd,) = object_concerns({"cell": np.full(3, 9.5)}, gate)
    assert odd.level == "review"
    assert "about 9.5 voxels wide" in odd.text
    assert "12 to 20" in odd.text


def test_too_few_objects_are_for_review() -> None:
    """A single cell that fills the picture is no smear: no size can be told from so few."""
    sizes = {"cell": [np.full(n, 10.0) for n in (4, 9, 14, 20)], "rare": [np.full(n, 5.0) for n in (0, 1, 0, 2)]}
    gate = gate_of_objects(sizes)
    assert gate["objects"] == [pytest.approx(4.36, abs=0.05), pytest.approx(21.52, abs=0.05)]
    (odd,) = object_concerns({"cell": np.full(1, 300.0), "rare": np.zeros(0)}, gate)
    assert odd.level == "review"
    assert "1 object was found; images of the training hold 4.4 to 21.5" in odd.text
    assert object_concerns({"cell": np.full(5, 10.0), "rare": np.zeros(0)}, gate) == []
    lesions = gate_of_objects({"lesion": [np.full(n, 8.0) for n in (0, 1, 2, 1)]})  # many scans hold none
    assert object_concerns({"lesion": np.zeros(0)}, lesions) == []


def test_the_edge_of_a_box() -> None:
    boxes = np.asarray([[[0.0, 0, 0], [1, 4, 9]], [[0, 0, 0], [8, 8, 8]]])
    assert mean_edges(boxes[:1], 2) == pytest.approx([6.0])
    assert mean_edges(boxes[1:], 3) == pytest.approx([8.0])


def _squares(answer: CaseAnswer, model: NetworkModel) -> int:
    assert answer.found is not None
    sure = answer.found.scores >= float(model.card.operating_point["threshold"])
    return int((sure & (answer.found.classes == model.spec.classes.index("square"))).sum())


class TestCommands:
    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("detect")
        coco_set(folder / "set", {"train": 14, "val": 5, "test": 6})
        done = cli(
            "train", str(folder / "set"), "-o", str(folder / "model"), "--network", "retinanet", "--set", "schedule.steps=150",
            "--set", "schedule.batch=4", "--set", "network.settings.widths=[8,16,32,32]", "--set", "schedule.learning_rate=0.004",
            "--set", "network.settings.blocks=[1,1,1,1]", "--set", "network.settings.channels=24", "--set", "schedule.ema=0.9",
            "--set", "precision=bfloat16",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "validation: ap50/disc" in done.stdout
        return folder

    def test_it_finds_what_it_learnt(self, trained: Path) -> None:
        done = cli("evaluate", str(trained / "model"), str(trained / "set"), "-o", str(trained / "judged"))
        assert done.returncode == 0, done.stderr
        told = json.loads((trained / "judged" / "evaluation.json").read_text("utf-8"))
        names = {"map50", "map75", "map", "ap50/square", "ap50/disc", "froc_cpm", "sensitivity@1"}
        assert names <= set(told["metrics"])
        assert told["split"] == "test"
        assert told["metrics"]["map50"]["value"] > 0.5  # bright and dark things in noise
        assert told["operating_point"]["chosen_on"] == "validation"
        page = (trained / "judged" / "evaluation.html").read_text("utf-8")
        assert "Free response" in page
        assert (trained / "model" / "training.html").is_file()

    def test_predictions_are_cocos(self, trained: Path) -> None:
        out = trained / "said"
        done = cli("predict", str(trained / "model"), str(trained / "set" / "test"), "-o", str(out))
        assert done.returncode == 0, done.stderr
        rows = json.loads((out / "detections.json").read_text("utf-8"))
        assert {"image_id", "category_id", "bbox", "score"} <= set(rows[0])
        assert all(len(row["bbox"]) == 4 and row["bbox"][2] > 0 and 0 <= row["score"] <= 1 for row in rows)
        with (out / "predictions.csv").open(encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert len(table) == 6
        assert sum(int(row["n_square"]) for row in table) > 0

    def test_a_picture_becomes_a_report(self, trained: Path) -> None:
        image = min((trained / "set" / "test").glob("*.png"))
        done = cli("run", str(trained / "model"), str(image), "-o", str(trained / "report"))
        assert done.returncode in (0, 1), done.stderr
        told = json.loads(next((trained / "report").rglob("report.json")).read_text("utf-8"))
        texts = [str(f["statement"]) for f in told["findings"]]
        assert "Number of square" in texts
        (first,) = (text for text in texts if "(no. 1)" in text)
        assert " px, at (" in first
        assert first.endswith(("in the picture", "middle of the width"))
        assert set(told["checks"]) >= {"network_gate", "network_quality"}

    def test_objects_of_another_size_are_for_review(self, trained: Path) -> None:
        model = load(trained / "model")
        known = model.card.gate["object_edge"]
        assert isinstance(known, dict)
        factor = model.spec.preparation.size[0] / 64  # type: ignore[index]
        for low, high in known.values():
            assert 9 < low / factor < high / factor < 16
        pictures = sorted((trained / "set" / "test").glob("*.png"))
        case = next(
            one for one in (open_case(p).volume() for p in pictures) if _squares(Predictor(model)(one), model) > 1
        )
        assert not [c for c in Predictor(model)(case).concerns if "wide" in c.text]
        other = replace(model, card=replace(model.card, gate={**model.card.gate, "object_edge": {"square": [30, 40]}}))
        (odd,) = [c for c in Predictor(other)(case).concerns if "wide" in c.text]
        assert odd.level == "review"
        with pytest.raises(InputError, match="magnification"):
            Predictor(other, Running(strict=True))(case)

    def test_what_speaks_of_whole_images_is_refused(self, trained: Path) -> None:
        image = str(min((trained / "set" / "test").glob("*.png")))
        for method in ("saliency", "grad-cam"):
            done = cli("explain", str(trained / "model"), image, "-o", str(trained / "why"), "--method", method)
            assert done.returncode == 2
            assert "objects are explained by d-rise" in done.stderr
        done = cli("model", "export", str(trained / "model"), "--as", "onnx", "-o", str(trained / "onnx"))
        assert done.returncode == 2
        assert "suppressed" in done.stderr

    def test_what_it_looked_at(self, trained: Path) -> None:
        image = min((trained / "set" / "test").glob("*.png"))
        done = cli("explain", str(trained / "model"), str(image), "-o", str(trained / "why"), "--about", "square")
        assert done.returncode == 0, done.stderr
        (told,) = json.loads((trained / "why" / "explanation.json").read_text("utf-8"))
        assert told["method"] == "d-rise"
        assert told["about"].startswith("square at (")
        assert told["deletion"] < told["insertion"]
        column, row = (int(v) for v in told["about"].removeprefix("square at (").removesuffix(")").split(", "))
        heat = open_case(trained / "why" / "d-rise.nii.gz").volume().grid[0]
        near = heat[max(0, row - 12) : row + 12, max(0, column - 12) : column + 12]
        assert near.mean() > 2 * heat.mean()
        done = cli("explain", str(trained / "model"), str(image), "-o", str(trained / "no"), "--about", "ring")
        assert done.returncode == 2
        assert "there are" in done.stderr

    def test_cases_it_learnt_from_cannot_judge_it(self, trained: Path) -> None:
        done = cli(
            "evaluate", str(trained / "model"), str(trained / "set"), "--split", "train", "-o", str(trained / "x")
        )
        assert done.returncode == 2
        assert "trained on" in done.stderr


class TestVolumes:
    def test_nodules_with_masks(self, tmp_path: Path) -> None:
        """Balls in noisy volumes, drawn in one label: Mask R-CNN learns from the pieces, and says mm."""
        rng = np.random.default_rng(0)
        geometry = Geometry.regular((24, 48, 48), spacing_mm=(2.0, 1.0, 1.0))
        for i in range(6):
            image, labels = rng.normal(0, 20, (24, 48, 48)), np.zeros((24, 48, 48), np.uint8)
            for low in (6, 30):
                c = np.array([rng.integers(6, 18), low + rng.integers(2, 8), rng.integers(10, 38)])
                grid = np.ogrid[:24, :48, :48]
                ball = ((grid[0] - c[0]) * 2) ** 2 + (grid[1] - c[1]) ** 2 + (grid[2] - c[2]) ** 2 <= 36
                image[ball] += 150
                labels[ball] = 1
            for part, grid3 in (("images", image), ("labels", labels)):
                (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
                nifti.write(Volume(grid3[None].astype(np.int16), geometry), tmp_path / "set" / part / f"n{i}.nii.gz")
        model, out = tmp_path / "model", tmp_path / "said"
        done = cli(
            "train", str(tmp_path / "set"), "--task", "detect", "-o", str(model), "--set", "schedule.steps=30", "--set", "schedule.batch=2",
            "--set", "schedule.ema=0.9", "--set", "patch=[24,48,48]", *SMALL_3D,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        card = json.loads((model / "card.json").read_text("utf-8"))
        assert card["model"] == "mask_rcnn"
        assert card["classes"] == ["object"]
        done = cli("predict", str(model), str(tmp_path / "set" / "images" / "n0.nii.gz"), "-o", str(out))
        assert done.returncode == 0, done.stderr
        with (out / "n0.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {"class", "score", "decided", "x_mm", "y_mm", "z_mm", "depth_mm", "height_mm", "width_mm"} == set(
            rows[0]
        )
        done = cli("evaluate", str(model), str(tmp_path / "set"), "-o", str(tmp_path / "e"))
        assert done.returncode == 2  # every case was learnt from


def test_touching_objects_stay_two_over_flips() -> None:
    """Two boxes that overlap by .41, found in every flip alike: both stay, with their scores."""
    boxes = np.asarray([[[10.0, 10.0], [30.0, 30.0]], [[10.0, 18.4], [30.0, 38.4]]])
    spec = Spec(task="detect", classes=("cell",), preparation=Preparation(dims=2), patch=(64, 64), answer="boxes",
                network={"name": "retinanet"}, flips=(2,))  # type: ignore[arg-type]  # fmt: skip
    calls: list[int] = []

    def find(window: np.ndarray) -> list[Found]:
        own = boxes.copy()
        if len(calls) % 2:  # every second look is flipped from left to right
            own[:, :, 1] = 64 - boxes[:, ::-1, 1]
        calls.append(1)
        return [Found(own, np.asarray([0.9, 0.8]), np.asarray([0, 0]))]

    found = detected((find,), np.zeros((1, 1, 64, 64), np.float32), spec)
    assert len(calls) == 2
    assert len(found) == 2
    assert found.scores == pytest.approx([0.9, 0.8])


class TestHeat:
    """A detector that says "bright" of a bright block, and is surer the more of it is shown."""

    BOX = np.asarray([(0.0, 20.0, 28.0), (1.0, 28.0, 36.0)])

    def find(self, image: np.ndarray) -> Found:
        shown = float(np.clip(image[0, 0, 20:28, 28:36].mean() / 10, 0, 1))
        return Found(self.BOX[None], np.asarray([shown]), np.asarray([0]))

    def test_it_lies_on_the_object(self) -> None:
        image = np.zeros((1, 1, 48, 48), np.float32)
        image[:, :, 20:28, 28:36] = 10
        heat = object_heat(self.find, image, self.BOX, 0, seed=1)
        assert heat.shape == (1, 48, 48)
        inside = np.zeros(heat.shape, bool)
        inside[:, 20:28, 28:36] = True
        assert heat[inside].mean() > 5 * heat[~inside].mean()
        assert np.array_equal(heat, object_heat(self.find, image, self.BOX, 0, seed=1))
        assert not object_heat(self.find, image, self.BOX, 1, seed=1).any()  # nothing of another class is found

    def test_likeness_by_hand(self) -> None:
        found = Found(
            np.asarray([self.BOX, self.BOX + np.asarray((0, 4, 0))]), np.asarray([0.4, 0.9]), np.asarray([0, 0])
        )  # half of each box is shared: a third of both
        assert likeness(found, self.BOX, 0) == pytest.approx(0.4)
        assert likeness(found.only(np.asarray([1])), self.BOX, 0) == pytest.approx(0.3)
        assert likeness(found, self.BOX, 1) == 0


class TestPlace:
    """In which part of the image an object lies, by the patient's axes whichever way the array runs."""

    BOX = np.asarray([(1.0, 2.0, 20.0), (3.0, 6.0, 26.0)])  # low slices, first rows, last columns

    def test_axial(self) -> None:
        geometry = Geometry.regular((12, 24, 30), spacing_mm=(2, 1, 1))
        assert str(part_of_image(self.BOX, geometry)) == "lower third, patient's left, front"
        assert place_words(self.BOX, geometry) == "(24, 5, 3), 22 L 4 P 3 S mm"
        assert size_words(self.BOX, geometry) == "6.0 x 4.0 x 4.0 mm"

    def test_turned(self) -> None:
        """Columns to the patient's right, rows up, slices from the back to the front (a coronal image, mirrored)."""
        affine = np.asarray([(0, 0, -1.0, 5), (-1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1)])
        words = str(part_of_image(self.BOX, Geometry((12, 24, 30), affine)))
        assert words == "lower third, patient's right, back"
        middle = np.asarray([(5.0, 11.0, 14.0), (7.0, 13.0, 16.0)])
        words = str(part_of_image(middle, Geometry((12, 24, 30), affine)))
        assert words == "middle third of the height, middle between the sides, middle between front and back"

    def test_a_slice_leaves_out_the_axis_across(self) -> None:
        box = np.asarray([(0.0, 2.0, 20.0), (1.0, 6.0, 26.0)])
        assert str(part_of_image(box, Geometry.regular((1, 24, 30)))) == "patient's left, front"

    def test_a_picture(self) -> None:
        box = np.asarray([(0.0, 20.0, 2.0), (1.0, 24.0, 6.0)])
        geometry = Geometry.regular((1, 24, 30), space=Space.PIXELS)
        assert str(part_of_image(box, geometry)) == "lower third, left in the picture"

    @given(st.integers(0, 11), st.integers(0, 23), st.integers(0, 29))
    def test_every_voxel_has_a_part(self, d: int, h: int, w: int) -> None:
        box = np.asarray([(d, h, w), (d + 1, h + 1, w + 1)], np.float64)
        words = str(part_of_image(box, Geometry.regular((12, 24, 30))))
        side = ("patient's right", "middle between the sides", "patient's left")[w // 10]
        assert words.split(", ")[:2] == [("lower third", "middle third of the height", "upper third")[d // 4], side]


def test_nodules_among_vessels_in_volumes(tmp_path: Path) -> None:
    """Mask R-CNN in three dimensions, from scratch: at one false alarm a scan it finds nine of ten nodules or more."""
    data = nodule_data(tmp_path / "data", {"train": 14, "val": 3, "test": 10})
    done = cli(
        "train", data, "-o", tmp_path / "m", "--task", "detect", "--network", "mask_rcnn", "--set", "schedule.steps=60",
        "--set", "schedule.validate_every=60", "--set", "schedule.ema=0.8", "--set", "patch=[40,40,40]", *SMALL_3D,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = cli("evaluate", tmp_path / "m", data, "-o", tmp_path / "ev")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "ev" / "evaluation.json").read_text("utf-8"))["metrics"]
    assert told["sensitivity@1"]["value"] >= 0.9
