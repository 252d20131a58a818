"""Recipes on organs: known volumes, sides, what is refused; alignment; what is given beside a study."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import isocenter
from isocenter import preprocess as p
from isocenter import segment as s
from isocenter.acquire.given import given_labels
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.transform import Transform
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage, GeometryError, InputError, NotEnoughMemory, RecipeError, UnitError
from isocenter.formats import nifti
from isocenter.preprocess.align import apply, apply_to_labels, apply_to_points
from tests.phantoms import write_series

SPACING = (2.5, 1.6, 1.6)
SHAPE = (110, 150, 220)


def chest(*, cut: int = 0, kernel: str = "") -> tuple[np.ndarray, dict[str, float]]:
    """A body on a table with two ellipsoid lungs, a trachea and a stomach bubble, in HU; and true volumes in mL."""
    z, y, x = (
        np.arange(n, dtype=float)[(None,) * i + (slice(None),) + (None,) * (2 - i)] * sp
        for i, (n, sp) in enumerate(zip(SHAPE, SPACING, strict=True))
    )
    middle = [n * sp / 2 for n, sp in zip(SHAPE, SPACING, strict=True)]
    rng = np.random.default_rng(0)
    hu = np.full(SHAPE, -1000.0)
    hu[np.broadcast_to(((y - middle[1]) / 100) ** 2 + ((x - middle[2]) / 160) ** 2 < 1, SHAPE)] = 40
    hu[np.broadcast_to((np.abs(y - middle[1] - 108) < 2) & (np.abs(x - middle[2]) < 150), SHAPE)] = 200  # table
    sizes = {"right lung": (-70, (100, 65, 50)), "left lung": (70, (95, 60, 45))}
    for side, (off, (a, b, c)) in sizes.items():
        inside = ((z - middle[0] + 10) / a) ** 2 + ((y - middle[1]) / b) ** 2 + ((x - middle[2] - off) / c) ** 2 < 1
        hu[inside] = -850 if side else 0
    hu[
        np.broadcast_to(((y - middle[1] + 20) ** 2 + (x - middle[2]) ** 2 < 81) & (z > middle[0] + 20), SHAPE)
    ] = -1000  # trachea
    hu[((z - 20) ** 2 + (y - middle[1] + 60) ** 2 + (x - middle[2] - 50) ** 2) < 400] = -1000  # air in the stomach
    hu += rng.normal(0, 20, SHAPE)
    true = {side: 4 / 3 * np.pi * a * b * c / 1000 for side, (_, (a, b, c)) in sizes.items()}
    return np.clip(hu, -1024, 3000).astype(np.int16)[cut:], true


def image(hu: np.ndarray) -> Volume:
    return Volume(hu[None], Geometry.regular(hu.shape, spacing_mm=SPACING), Quantity.HU)


@pytest.fixture(scope="module")
def whole() -> tuple[np.ndarray, dict[str, float]]:
    return chest()


class TestLungs:
    def found(self, volume: Volume) -> LabelMap:
        return s.lungs(volume, s.Lungs(), within=s.body(volume, s.Body()))

    def test_known_volumes_within_one_percent_and_sides_right(self, whole: tuple) -> None:
        volume = image(whole[0])
        labels = self.found(volume)
        for side, true in whole[1].items():
            size = labels.mask(side).sum() * volume.geometry.voxel_volume_mm3 / 1000
            assert size == pytest.approx(true, rel=0.01), side
        x = {
            side: volume.geometry.index_to_world(np.argwhere(labels.mask(side)).astype(float)).mean(axis=0)[0]
            for side in whole[1]
        }
        assert x["right lung"] < x["left lung"]  # LPS: the left is positive
        assert labels.mask("airways").sum() * volume.geometry.voxel_volume_mm3 / 1000 == pytest.approx(25, rel=0.3)

    @pytest.mark.parametrize("to", ["SPL", "IAR", "LPS", "PSR", "ARI"])
    def test_sides_are_the_patients_however_the_axes_lie(self, whole: tuple, to: str) -> None:
        volume = image(whole[0])
        turned = p.orient(volume, p.Orient(to=to))
        labels = self.found(turned)
        world = turned.geometry.index_to_world(np.argwhere(labels.mask("left lung")).astype(float)).mean(axis=0)
        there = volume.geometry.index_to_world(np.argwhere(self.found(volume).mask("left lung")).astype(float)).mean(
            axis=0
        )
        assert world == pytest.approx(there, abs=1)

    def test_the_larger_lung_may_be_the_left_one(self, whole: tuple) -> None:
        volume = image(np.ascontiguousarray(whole[0][:, :, ::-1]))
        labels = self.found(volume)
        for side, other in (("right lung", "left lung"), ("left lung", "right lung")):
            size = labels.mask(side).sum() * volume.geometry.voxel_volume_mm3 / 1000
            assert size == pytest.approx(whole[1][other], rel=0.01), side

    def test_a_lung_that_is_cut_has_no_side(self, whole: tuple) -> None:
        labels = self.found(image(whole[0][30:]))
        assert [label.name for label in labels.labels] == ["lung", "airways"]
        assert labels.history[-1].results["cut_off"] == ["I"]

    def test_lungs_that_touch_are_parted(self, whole: tuple) -> None:
        hu = whole[0].copy()
        middle = [n // 2 for n in SHAPE]
        hu[middle[0] - 3 : middle[0] + 3, middle[1] - 3 : middle[1] + 3, middle[2] - 40 : middle[2] + 40] = -850
        labels = self.found(image(hu))
        assert labels.history[-1].results["fused"]
        for side, true in whole[1].items():
            assert labels.mask(side).sum() * image(hu).geometry.voxel_volume_mm3 / 1000 == pytest.approx(true, rel=0.03)

    def test_no_lung_no_body_no_unit(self) -> None:
        solid = image(np.full((40, 60, 60), 40, np.int16))
        with pytest.raises(DegenerateImage, match="no lung"):
            self.found(solid)
        with pytest.raises(DegenerateImage, match="no body"):
            s.body(image(np.full((40, 60, 60), -1000, np.int16)), s.Body())
        with pytest.raises(UnitError):
            s.body(replace(solid, quantity=Quantity.ARBITRARY), s.Body())
        with pytest.raises(InputError, match="within"):
            s.lungs(solid, s.Lungs())


def report(out: Path) -> dict:
    (file,) = out.glob("*/report.json")
    return json.loads(file.read_text("utf-8"))


class TestChestRecipe:
    @pytest.mark.parametrize(
        ("kernel", "more", "comparable"),
        [("STANDARD", {}, True), ("LUNG", {}, False), ("", {}, False), ("STANDARD", {"ContrastBolusAgent": "X"}, False),
         ("STANDARD", {"SliceThickness": 5}, False)],
    )  # fmt: skip
    def test_emphysema_only_where_it_can_be_compared(
        self, whole: tuple, tmp_path: Path, kernel: str, more: dict, comparable: bool
    ) -> None:
        def named(slices: list) -> list:
            for ds in slices:
                ds.Manufacturer, ds.SliceThickness = "GE MEDICAL SYSTEMS", 1.25
                if kernel:
                    ds.ConvolutionKernel = kernel
                for key, value in more.items():
                    setattr(ds, key, value)
            return slices

        write_series(tmp_path / "s", whole[0], spacing=SPACING, change=named)
        (result,) = isocenter.run("chest-ct", [tmp_path / "s"], tmp_path / "out")
        said = report(tmp_path / "out")
        assert result.usable, result.reasons
        assert said["checks"]["emphysema"] == ("comparable" if comparable else "not comparable")
        values = {f["statement"]: f["value"] for f in said["findings"]}
        assert ("Share of lung under -950 HU" in values) is comparable
        if comparable:
            assert values["15th percentile of lung density"] == pytest.approx(-850 - 1.04 * 20, abs=3)

    def test_a_cut_lung_says_at_least(self, whole: tuple, tmp_path: Path) -> None:
        write_series(tmp_path / "s", whole[0][30:], spacing=SPACING)
        (result,) = isocenter.run("chest-ct", [tmp_path / "s"], tmp_path / "out")
        assert result.verdict == "review"
        assert (
            next(f["statement"] for f in report(tmp_path / "out")["findings"]) == "Lung volume in the field, at least"
        )

    def test_a_thigh_is_refused(self, real_data: object, tmp_path: Path) -> None:
        (result,) = isocenter.run("chest-ct", [real_data("sts_dicom")], tmp_path / "out")
        assert result.verdict == "refused"
        assert "no lung was found" in result.reasons[0]

    def test_a_real_chest(self, real_data: object, tmp_path: Path) -> None:
        (result,) = isocenter.run("chest-ct", [real_data("chest_ct")], tmp_path / "out")
        said = report(tmp_path / "out")
        values = {f["statement"]: f["value"] for f in said["findings"]}
        assert result.verdict == "review"
        assert values["Volume of right lung"] == pytest.approx(932, rel=0.02)
        assert values["Volume of left lung"] == pytest.approx(1912, rel=0.02)
        assert said["checks"]["emphysema"] == "not comparable"


def head(shape: tuple = (24, 60, 60)) -> Volume:
    """Blobs of several brightnesses, 3 x 2 x 2 mm."""
    rng = np.random.default_rng(4)
    geometry = Geometry.regular(shape, spacing_mm=(3.0, 2.0, 2.0), origin_mm=(-60, -60, -36))
    place = geometry.index_to_world(np.argwhere(np.ones(shape, np.bool_)).astype(float)).reshape(*shape, 3)
    grid = np.zeros(shape)
    for _ in range(25):
        centre, size = rng.uniform(-28, 28, 3), rng.uniform(5, 14)
        grid += rng.uniform(50, 300) * (np.linalg.norm(place - centre, axis=-1) < size)
    return Volume((grid + rng.normal(0, 3, shape))[None].astype(np.float32), geometry)


def turned(degrees: float, shift: tuple) -> np.ndarray:
    matrix, t = np.eye(4), np.deg2rad(degrees)
    matrix[:2, :2] = [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]
    matrix[:3, 3] = shift
    return matrix


class TestAlign:
    @pytest.mark.parametrize("kind", ["rigid", "affine"])
    def test_a_known_move_is_found(self, kind: str) -> None:
        moving = head()
        matrix = turned(7, (4, -6, 3))
        if kind == "affine":
            matrix[:3, :3] = matrix[:3, :3] @ np.diag([1.06, 0.95, 1.0])
        fixed, _ = apply(Transform(matrix), moving, moving.geometry)
        out, transform = p.register(moving, fixed, p.Register(kind=kind))
        points = fixed.geometry.corners() * 0.5
        assert np.abs(transform.points(points) - (points @ matrix[:3, :3].T + matrix[:3, 3])).max() < 1.0
        assert out.history[-1].results["repeat_mm"] < 2
        assert out.history[-1].results["mutual_information"] > out.history[-1].results["mutual_information_before"]

    def test_a_bend_is_found_better_by_a_deformable_map(self) -> None:
        moving = head()
        geometry = moving.geometry
        field = np.zeros((3, *geometry.shape), np.float32)
        field[0] = 5 * np.sin(np.linspace(0, np.pi, geometry.shape[1]))[None, :, None]
        bent = Transform(np.eye(4), field, geometry)
        fixed, _ = apply(bent, moving, geometry)
        errors = {}
        for kind in ("affine", "deformable"):
            _, transform = p.register(moving, fixed, p.Register(kind=kind, control_mm=25))
            inner = geometry.index_to_world(
                np.argwhere(fixed.grid[6:18, 15:45, 15:45] > 30)[::50] + np.asarray([6.0, 15, 15])
            )
            errors[kind] = np.linalg.norm(transform.points(inner) - bent.points(inner), axis=1).mean()
        assert errors["deformable"] < 0.7 * errors["affine"]

    def test_the_map_carries_image_labels_and_points_alike(self) -> None:
        moving = head()
        transform = Transform(turned(10, (6, 0, -3)))
        labels = LabelMap.of_mask(np.asarray(moving.grid > 200), moving.geometry, name="b")
        moved, seen = apply(transform, moving, moving.geometry)
        carried = apply_to_labels(transform, labels, moving.geometry)
        both = np.asarray(moved.grid > 200)
        assert 2 * (both & carried.foreground).sum() / (both.sum() + carried.foreground.sum()) > 0.9
        points = moving.geometry.corners() * 0.3
        assert transform.points(apply_to_points(transform, points)) == pytest.approx(points, abs=1e-2)
        assert moved.not_measured is not None
        assert np.array_equal(moved.not_measured, ~seen)

    def test_points_come_back_through_a_bend(self) -> None:
        geometry = head().geometry
        field = np.random.default_rng(0).normal(0, 1, (3, *geometry.shape)).astype(np.float32)
        transform = Transform(turned(5, (1, 2, 3)), field * 0.5, geometry)
        points = geometry.corners() * 0.4
        assert transform.points(transform.inverse_points(points)) == pytest.approx(points, abs=2e-3)
        steep = Transform(np.eye(4), np.cumsum(-2.5 * np.ones((3, *geometry.shape), np.float32), axis=3), geometry)
        assert steep.smallest_volume_change < 1

    def test_flat_pictures_register_too(self) -> None:
        whole = head()
        flat = Volume(whole.voxels[:, 12:13], Geometry.regular((1, 60, 60), spacing_mm=(1, 2, 2), space=Space.DETECTOR))
        shift = np.eye(4)
        shift[0, 3] = 6.0
        fixed, _ = apply(Transform(shift), flat, flat.geometry)
        _, transform = p.register(flat, fixed, p.Register())
        assert transform.points(np.asarray([[40.0, 50, 0]]))[0, :2] == pytest.approx([46, 50], abs=0.5)

    def test_spaces_that_differ_are_refused(self) -> None:
        flat = Volume(np.ones((1, 1, 9, 9)), Geometry.regular((1, 9, 9), space=Space.PIXELS))
        with pytest.raises(GeometryError, match="space"):
            p.register(head(), flat, p.Register())
        with pytest.raises(GeometryError, match="invertible"):
            Transform(np.zeros((4, 4)))

    def test_a_recipe_aligns_and_keeps_the_map(self, tmp_path: Path) -> None:
        moving = head()
        fixed, _ = apply(Transform(turned(6, (3, -4, 2))), moving, moving.geometry)
        nifti.write(fixed, tmp_path / "a.nii.gz")
        nifti.write(moving, tmp_path / "b.nii.gz")
        (result,) = isocenter.run(
            "register", [tmp_path / "a.nii.gz"], tmp_path / "out", given={"moving": tmp_path / "b.nii.gz"}
        )
        said = report(tmp_path / "out")
        assert result.verdict == "review"  # neither file names its patient
        assert np.asarray(said["transforms"]["moved"]["matrix"]) == pytest.approx(turned(6, (3, -4, 2)), abs=0.3)
        from isocenter.ops.itk import sitk

        read = sitk.ReadTransform(str(tmp_path / "out" / "a" / "moved.tfm"))
        assert read.TransformPoint((10.0, 20.0, 5.0)) == pytest.approx(
            (np.asarray(said["transforms"]["moved"]["matrix"]) @ [10, 20, 5, 1])[:3].tolist(), abs=1e-6
        )
        assert any("checkerboard" in name for name in said["images"])

    def test_two_patients_are_refused(self, tmp_path: Path) -> None:
        voxels = np.clip(head().voxels[0], 0, 2000).astype(np.int16)
        for name in ("a", "b"):

            def named(slices: list, name: str = name) -> list:
                for ds in slices:
                    ds.PatientID = name
                return slices

            write_series(tmp_path / name, voxels, change=named)
        (result,) = isocenter.run("register", [tmp_path / "a"], tmp_path / "out", given={"moving": tmp_path / "b"})
        assert result.verdict == "refused"
        assert "another patient" in result.reasons[0]


class TestGiven:
    def picture(self, folder: Path, name: str, array: np.ndarray) -> Path:
        Image.fromarray(array).save(folder / name)
        return folder / name

    def test_the_cardiothoracic_ratio_by_hand(self, tmp_path: Path) -> None:
        y, x = np.mgrid[:200, :200]
        lungs = np.where(
            (((x - 50) / 40) ** 2 + ((y - 100) / 70) ** 2 < 1) | (((x - 150) / 40) ** 2 + ((y - 100) / 70) ** 2 < 1),
            255,
            0,
        )
        heart = np.where((x - 105) ** 2 / 35**2 + (y - 130) ** 2 / 30**2 < 1, 255, 0)
        body = np.clip(180 - 120 * (lungs > 0) + np.random.default_rng(0).normal(0, 3, lungs.shape), 0, 255)
        file = self.picture(tmp_path, "x.png", body.astype(np.uint8))
        masks = {
            n: self.picture(tmp_path, f"{n}.png", m.astype(np.uint8)) for n, m in (("heart", heart), ("lungs", lungs))
        }
        (result,) = isocenter.run("xray", [file], tmp_path / "out", given=masks)
        said = report(tmp_path / "out")
        (ratio,) = [f for f in said["findings"] if f["statement"] == "Cardiothoracic ratio"]
        assert ratio["value"] == pytest.approx(69 / 179, abs=0.001)
        assert ratio["interval"][0] < ratio["value"] < ratio["interval"][1]
        assert result.verdict == "review"
        assert said["checks"]["view"] == "not stated"

    def test_counts_of_generated_cells(self, tmp_path: Path) -> None:
        y, x = np.mgrid[:480, :640]
        smear = np.full((480, 640, 3), (228, 225, 222), float)
        centres = [
            (80, 90),
            (80, 250),
            (90, 430),
            (250, 120),
            (250, 300),
            (250, 345 + 30),
            (260, 540),
            (400, 200),
            (400, 420),
        ]
        for i, (cy, cx) in enumerate(centres):
            smear[(y - cy) ** 2 + (x - cx) ** 2 < 45**2] = (190, 120, 125) if i else (200, 140, 160)
        smear[(y - 80) ** 2 + (x - 90) ** 2 < 30**2] = (90, 40, 150)
        noisy = np.clip(smear + np.random.default_rng(0).normal(0, 4, smear.shape), 0, 255).astype(np.uint8)
        isocenter.run("microscopy", [self.picture(tmp_path, "s.png", noisy)], tmp_path / "out")
        values = {f["statement"]: f["value"] for f in report(tmp_path / "out")["findings"]}
        assert values["Number of cells"] == 9
        assert values["Number of stained nuclei"] == 1

    def test_masks_of_the_study_itself_are_taken(self, real_data: object, tmp_path: Path) -> None:
        case = isocenter.open(real_data("sts_dicom"))
        uid = next(series.uid for series in case.series if series.modality == "CT")
        (result,) = isocenter.run("volume", [real_data("sts_dicom")], tmp_path / "out", series=uid)
        (size,) = [f for f in report(tmp_path / "out")["features"] if f["name"] == "volume"]
        truth = next(r for r in case.results if r.series_uid == uid)
        (labels,) = case.labels(truth)
        assert result.usable
        assert size["value"] == pytest.approx(labels.foreground.sum() * labels.geometry.voxel_volume_mm3 / 1000)

    def test_a_mask_on_another_grid_is_for_review(self, tmp_path: Path) -> None:
        whole = head()
        mask = LabelMap.of_mask(np.asarray(whole.grid > 150), whole.geometry, name="m")
        nifti.write(whole, tmp_path / "i.nii.gz")
        finer = Geometry.regular((48, 120, 120), spacing_mm=(1.5, 1.0, 1.0), origin_mm=(-60.5, -60.5, -36.75))
        fine = LabelMap(mask.voxels.repeat(2, 0).repeat(2, 1).repeat(2, 2), finer, mask.labels)
        nifti.write(fine, tmp_path / "m.nii.gz")
        (result,) = isocenter.run(
            "volume", [tmp_path / "i.nii.gz"], tmp_path / "out", given={"masks": tmp_path / "m.nii.gz"}
        )
        assert result.verdict == "review"
        assert "brought onto the image's" in " ".join(result.reasons)

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda a: a[:100], "size"),
            (lambda a: np.stack([a, a // 2, a], -1), "colour picture"),
            (lambda a: a.astype(np.int32), "an image, not a label map"),
        ],
    )
    def test_what_is_no_mask_is_refused(self, tmp_path: Path, make: object, words: str) -> None:
        base = (np.arange(200 * 200).reshape(200, 200) % 256).astype(np.uint8)
        array = make(base)
        if array.dtype == np.int32:
            nifti.write(
                Volume((np.arange(1500, dtype=np.float32)).reshape(1, 1, 30, 50), Geometry.regular((1, 30, 50))),
                tmp_path / "m.nii",
            )
            file = tmp_path / "m.nii"
        else:
            file = self.picture(tmp_path, "m.png", array)
        with pytest.raises((InputError, GeometryError), match=words):
            given_labels(file, "m", Geometry.regular((1, 200, 200), space=Space.DETECTOR))

    def test_names_that_a_recipe_does_not_know_are_refused(self, tmp_path: Path) -> None:
        nifti.write(head(), tmp_path / "i.nii.gz")
        with pytest.raises(InputError, match="takes no 'mask'"):
            isocenter.run("volume", [tmp_path / "i.nii.gz"], tmp_path / "out", given={"mask": tmp_path / "i.nii.gz"})
        with pytest.raises(InputError, match="--with moving"):
            isocenter.run("register", [tmp_path / "i.nii.gz"], tmp_path / "out")
        (result,) = isocenter.run("volume", [tmp_path / "i.nii.gz"], tmp_path / "out")
        assert result.verdict == "refused"
        assert "--with masks=" in result.reasons[0]

    def test_names_beside_a_mask_are_read(self, tmp_path: Path) -> None:
        from isocenter.formats import itksnap

        labels = LabelMap(
            np.asarray([[[0, 3], [5, 3]]], np.uint8),
            Geometry.regular((1, 2, 2)),
            (Label(3, "liver"), Label(5, "spleen")),
        )
        nifti.write(labels, tmp_path / "m.nii.gz")
        (plain,) = given_labels(tmp_path / "m.nii.gz", "organ", labels.geometry)
        assert [label.name for label in plain.labels] == ["organ 3", "organ 5"]
        itksnap.write(labels.labels, tmp_path / "m.label.txt")
        (named,) = given_labels(tmp_path / "m.nii.gz", "organ", labels.geometry)
        assert [label.name for label in named.labels] == ["liver", "spleen"]

    def test_memory_is_refused_before_it_is_taken(self, tmp_path: Path) -> None:
        nifti.write(head(), tmp_path / "i.nii.gz")
        text = "name: tv\ntitle: {en: a, zh: a}\ndescription: {en: a, zh: a}\nsteps:\n  - preprocess: total_variation\n"
        (tmp_path / "tv.yaml").write_text(text, "utf-8")
        (result,) = isocenter.run(tmp_path / "tv.yaml", [tmp_path / "i.nii.gz"], tmp_path / "out", memory_gib=0.001)
        assert result.verdict == "refused"
        assert "11 times the volume" in result.reasons[0]
        assert isocenter.run(tmp_path / "tv.yaml", [tmp_path / "i.nii.gz"], tmp_path / "out", memory_gib=1)[0].usable
        with pytest.raises(NotEnoughMemory):
            isocenter.try_step("n4", tmp_path / "i.nii.gz", tmp_path / "n4.png", memory_gib=0.001)


class TestWiring:
    HEAD = "name: w\ntitle: {en: a, zh: a}\ndescription: {en: a, zh: a}\n"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("steps:\n  - preprocess: onto\n    to: other\n", "names a volume that no step"),
            ("steps:\n  - segment: otsu\n    as: a\n    on: nowhere\n", "names a volume"),
            (
                "given:\n  m: {kind: labels, description: {en: a, zh: a}}\nsteps:\n  - preprocess: invert\n    as: m\n",
                "is taken",
            ),
            (
                "given:\n  image: {kind: volume, description: {en: a, zh: a}}\nsteps:\n  - segment: otsu\n    as: a\n",
                "is taken",
            ),
            ("steps:\n  - preprocess: invert\n    as: original\n", "is taken"),
            ("steps:\n  - segment: otsu\n    as: a\nreport:\n  compare: [image, a]\n", "names a volume"),
            ("steps:\n  - segment: watershed\n    as: a\n", "of"),
        ],
    )
    def test_misuse_is_named(self, tmp_path: Path, text: str, words: str) -> None:
        from isocenter.recipe import parse

        with pytest.raises(RecipeError, match=words):
            parse(self.HEAD + text, source="w.yaml")

    def test_volumes_by_name(self, tmp_path: Path) -> None:
        nifti.write(head(), tmp_path / "i.nii.gz")
        text = self.HEAD + (
            "steps:\n  - preprocess: invert\n    on: original\n    as: dark\n  - preprocess: gaussian\n    on: dark\n    sigma_mm: 2\n"
            "  - segment: otsu\n    on: dark\n    as: ground\n  - segment: otsu\n    as: bright\n  - features: volume\n    of: ground\n"
            "  - preprocess: histogram_matching\n    to: dark\n"
        )
        (tmp_path / "w.yaml").write_text(text, "utf-8")
        (result,) = isocenter.run(tmp_path / "w.yaml", [tmp_path / "i.nii.gz"], tmp_path / "out")
        assert result.usable, result.reasons
        steps = report(tmp_path / "out")["lineage"]["steps"]
        assert [s["parameters"].get("on") for s in steps[1:4]] == ["original", "dark", "dark"]


class TestTry:
    def test_every_step_that_needs_no_second_file_can_be_tried(self, tmp_path: Path) -> None:
        nifti.write(head((8, 40, 40)), tmp_path / "i.nii.gz")
        settings = {
            "gaussian": {"sigma_mm": 2}, "mean": {"radius_mm": 2}, "median": {"radius_mm": 2}, "bilateral": {"sigma_mm": 1}, "gamma": {"gamma": 2},
            "unsharp_mask": {"sigma_mm": 2}, "window": {"low": 0, "high": 99}, "resample": {"spacing_mm": 3}, "pad": {"margin_mm": 4}, "threshold": {"low": 50, "unit": "arbitrary"},
            "multi_otsu": {"classes": ["a", "b"]}, "adaptive": {"sigma_mm": 9}, "k_means": {"classes": ["a", "b"]}, "fuzzy_c_means": {"classes": ["a", "b"]},
            "gaussian_mixture": {"classes": ["a", "b"]}, "confidence_connected": {"seeds_px": [[4, 20, 20]]}, "region_growing": {"seeds_px": [[4, 20, 20]], "low": -50, "high": 5000, "unit": "arbitrary"},
            "opening": {"radius_mm": 2}, "closing": {"radius_mm": 2}, "dilation": {"radius_mm": 2}, "erosion": {"radius_mm": 2}, "smooth": {"sigma_mm": 2}, "pick": {"labels": ["foreground"]},
        }  # fmt: skip
        special = {
            "stain",
            "network",
            "network_image",
            "network_objects",
            "network_unusual",
            "hippocampus",
            "brain",
            "body",
            "lungs",
            "thorax_field",
            "register",
            "onto",
            "histogram_matching",
            "watershed",
            "random_walker",
        }
        from isocenter.pipeline.attempt import STEPS

        for name in STEPS:
            if name not in special:
                found = isocenter.try_step(
                    name, tmp_path / "i.nii.gz", tmp_path / f"{name}.png", settings=settings.get(name)
                )
                with Image.open(found.picture) as picture:
                    assert picture.size[0] > 300, name

    def test_refusals_name_what_there_is(self, tmp_path: Path) -> None:
        nifti.write(head((4, 20, 20)), tmp_path / "i.nii.gz")
        for call, words in (
            (lambda: isocenter.try_step("medain", tmp_path / "i.nii.gz"), "did you mean 'median'"),
            (
                lambda: isocenter.try_step("median", tmp_path / "i.nii.gz", settings={"radius": 2}),
                "radius_mm, radius_px",
            ),
            (lambda: isocenter.try_step("onto", tmp_path / "i.nii.gz"), "--to"),
            (lambda: isocenter.try_step("watershed", tmp_path / "i.nii.gz"), "--mask"),
            (lambda: isocenter.try_step("otsu", tmp_path / "i.nii.gz", tmp_path / "x.jpg"), "PNG"),
        ):
            with pytest.raises(InputError, match=words):
                call()
