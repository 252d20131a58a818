"""The types that flow: their refusals are always on, and their laws hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.data.case import Case, Identity
from isocenter.data.features import Feature, FeatureTable
from isocenter.data.finding import Verdict, worst
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.message import Message
from isocenter.data.provenance import Step
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import GeometryError, InputError, UnitError


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Any grid: rotated, anisotropic, left- or right-handed."""
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    origin = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return Geometry.regular(shape, spacing_mm=spacing, origin_mm=origin, directions=axes)


def voxels_on(geometry: Geometry) -> np.ndarray:
    return np.arange(np.prod(geometry.shape), dtype=np.int16).reshape(1, *geometry.shape)


class TestGeometry:
    @given(geometries(), st.tuples(*[st.floats(-20, 20)] * 3))
    def test_to_index_undoes_to_world(self, geometry: Geometry, point: tuple[float, float, float]) -> None:
        index = np.asarray([point])
        assert np.allclose(geometry.world_to_index(geometry.index_to_world(index)), index, atol=1e-8)

    @given(geometries(), st.data())
    def test_crop_commutes_with_world(self, geometry: Geometry, data: st.DataObject) -> None:
        start = [data.draw(st.integers(-2, n - 1)) for n in geometry.shape]
        stop = [data.draw(st.integers(a + 1, n + 3)) for a, n in zip(start, geometry.shape, strict=True)]
        cropped = geometry.crop(start, stop)
        here = geometry.index_to_world(np.asarray([start], dtype=float))
        assert np.allclose(cropped.index_to_world(np.zeros((1, 3))), here)
        assert cropped.shape == tuple(b - a for a, b in zip(start, stop, strict=True))

    @given(geometries(), st.integers(0, 2))
    def test_flip_keeps_every_voxel_where_it_is(self, geometry: Geometry, axis: int) -> None:
        flipped = geometry.flip(axis)
        index = np.argwhere(np.ones(geometry.shape)).astype(float)
        mirrored = index.copy()
        mirrored[:, axis] = geometry.shape[axis] - 1 - index[:, axis]
        assert np.allclose(flipped.index_to_world(mirrored), geometry.index_to_world(index))
        assert flipped.flip(axis).distance_to(geometry) < 1e-9

    @given(geometries(), st.permutations([0, 1, 2]))
    def test_permute_keeps_every_voxel_where_it_is(self, geometry: Geometry, order: list[int]) -> None:
        turned = geometry.permute(tuple(order))
        index = np.asarray([[0.0, 1.0, 2.0]])
        assert np.allclose(turned.index_to_world(index[:, order]), geometry.index_to_world(index))

    @given(geometries())
    def test_voxel_volume_is_the_product_of_spacings(self, geometry: Geometry) -> None:
        assert geometry.voxel_volume_mm3 == pytest.approx(np.prod(geometry.spacing_mm))

    def test_axial_stack_by_hand(self) -> None:
        geometry = Geometry.regular((3, 4, 5), spacing_mm=(2.0, 0.5, 0.25), origin_mm=(10.0, 20.0, 30.0))
        assert geometry.index_to_world(np.asarray([[1.0, 2.0, 4.0]])).tolist() == [[11.0, 21.0, 32.0]]
        assert geometry.axis_letters == ("S", "P", "L")
        assert geometry.flip(2).axis_letters == ("S", "P", "R")

    def test_letters_are_used_once_even_when_two_axes_are_nearest_to_one(self) -> None:
        turn = np.deg2rad(44)
        axes = np.asarray([[0, np.cos(turn), np.sin(turn)], [0, -np.sin(turn), np.cos(turn)], [1, 0, 0]], dtype=float)
        letters = Geometry.regular((2, 2, 2), directions=axes).axis_letters
        assert sorted({"L": 0, "R": 0, "A": 1, "P": 1, "S": 2, "I": 2}[letter] for letter in letters) == [0, 1, 2]

    @pytest.mark.parametrize(
        "bad",
        [
            {"shape": (0, 1, 1)},
            {"shape": (1, 1)},
            {"shape": (1, 1, 1.5)},
            {"affine": np.zeros((4, 4))},
            {"affine": np.diag([1.0, 1.0, 0.0, 1.0])},
            {"affine": np.full((4, 4), np.nan)},
            {"affine": np.eye(4) + np.eye(4)[[3]].T @ np.ones((1, 4))},
        ],
    )
    def test_refuses_what_is_no_grid(self, bad: dict) -> None:
        good = {"shape": (1, 1, 1), "affine": np.eye(4)}
        with pytest.raises(GeometryError):
            _build(good | bad)

    def test_pixels_have_no_millimetres(self) -> None:
        geometry = Geometry.regular((1, 2, 2), space=Space.PIXELS)
        with pytest.raises(UnitError, match="no millimetres"):
            _ = geometry.spacing_mm
        with pytest.raises(UnitError):
            _ = geometry.voxel_volume_mm3

    def test_difference_is_said_in_millimetres(self) -> None:
        a, b = Geometry.regular((2, 2, 2)), Geometry.regular((2, 2, 2), origin_mm=(0.0, 0.0, 3.0))
        with pytest.raises(GeometryError, match="up to 3 mm apart"):
            a.require_same(b, what="image and mask")

    def test_affine_cannot_be_changed(self) -> None:
        with pytest.raises(ValueError, match="read-only"):
            Geometry.regular((1, 1, 1)).affine[0, 0] = 2


def _build(kwargs: dict) -> Geometry:
    # past the annotations that the tests check too: the refusal must not depend on them
    geometry = object.__new__(Geometry)
    for name, value in ({"space": Space.PATIENT, "frame_uid": None} | kwargs).items():
        object.__setattr__(geometry, name, value)
    geometry.__post_init__()
    return geometry


class TestVolume:
    @given(geometries())
    def test_then_grows_history_by_one_and_leaves_the_old_value(self, geometry: Geometry) -> None:
        old = Volume(voxels_on(geometry), geometry)
        new = old.then(Step("test"), voxels=old.voxels + 1)
        assert (len(old.history), len(new.history)) == (0, 1)
        assert np.array_equal(new.voxels, old.voxels + 1)

    def test_values_are_read_only_native_and_contiguous(self) -> None:
        swapped = np.arange(24, dtype=">i2").reshape(1, 2, 3, 4).transpose(0, 3, 2, 1)
        volume = Volume(swapped, Geometry.regular((4, 3, 2)))
        assert volume.voxels.dtype.isnative
        assert volume.voxels.flags.c_contiguous
        assert np.array_equal(volume.voxels, swapped)
        with pytest.raises(ValueError, match="read-only"):
            volume.voxels[0, 0, 0, 0] = 1
        with pytest.raises(AttributeError):
            volume.voxels = swapped

    @pytest.mark.parametrize(
        "voxels", [np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 2), complex), np.zeros((0, 2, 2, 2))]
    )
    def test_refuses_voxels_that_do_not_fit(self, voxels: np.ndarray) -> None:
        with pytest.raises(GeometryError):
            Volume(voxels, Geometry.regular((2, 2, 2)))

    def test_refuses_a_unit_it_has_lost(self) -> None:
        volume = Volume(np.zeros((1, 1, 1, 1)), Geometry.regular((1, 1, 1)), Quantity.HU)
        volume.require_quantity(Quantity.HU)
        broken = volume.then(Step("preprocess.z_score"), quantity=Quantity.ARBITRARY)
        with pytest.raises(UnitError, match="preprocess.z_score"):
            broken.require_quantity(Quantity.HU)

    def test_colour_is_refused_where_grey_is_needed(self) -> None:
        with pytest.raises(GeometryError, match="3"):
            _ = Volume(np.zeros((3, 1, 2, 2)), Geometry.regular((1, 2, 2))).grid


class TestLabelMap:
    def test_refuses_a_value_that_its_table_does_not_name(self) -> None:
        voxels = np.zeros((1, 2, 2), np.uint8)
        voxels[0, 1, 1] = 7
        with pytest.raises(GeometryError, match=r"\[7\]"):
            LabelMap(voxels, Geometry.regular((1, 2, 2)), (Label(1, "brain"),))

    @pytest.mark.parametrize("labels", [(Label(0, "a"),), (Label(1, "a"), Label(1, "b"))])
    def test_refuses_a_table_that_is_not_one_to_one(self, labels: tuple[Label, ...]) -> None:
        with pytest.raises(GeometryError, match="value of its own"):
            LabelMap(np.zeros((1, 1, 1), np.uint8), Geometry.regular((1, 1, 1)), labels)

    def test_refuses_fractions(self) -> None:
        geometry = Geometry.regular((1, 1, 1))
        with pytest.raises(GeometryError, match="integers"):
            _label_map(np.zeros((1, 1, 1), np.float32), geometry)

    def test_mask_by_name_lists_what_exists(self) -> None:
        labels = LabelMap.of_mask(np.ones((1, 1, 2), np.bool_), Geometry.regular((1, 1, 2)), name="brain")
        assert labels.mask("brain").sum() == 2
        with pytest.raises(GeometryError, match="brain"):
            labels.mask("liver")


def _label_map(voxels: np.ndarray, geometry: Geometry) -> LabelMap:
    value = object.__new__(LabelMap)
    for name, item in {"voxels": voxels, "geometry": geometry, "labels": (), "history": ()}.items():
        object.__setattr__(value, name, item)
    value.__post_init__()
    return value


class TestSmallTypes:
    def test_feature_needs_a_value_or_a_reason(self) -> None:
        assert Feature("volume", 1.0, "mL", "IBSI:YEKZ", "brain").missing == ""
        with pytest.raises(InputError, match="reason"):
            Feature("volume", None, "mL", "IBSI:YEKZ", "brain")
        with pytest.raises(InputError, match="not a number"):
            Feature("volume", float("nan"), "mL", "IBSI:YEKZ", "brain")

    def test_feature_table_lists_what_was_measured(self) -> None:
        table = FeatureTable((Feature("volume", 1.0, "mL", "", "brain"),))
        assert table.get("volume", label="brain").value == 1.0
        with pytest.raises(InputError, match="volume of brain"):
            table.get("volume", label="liver")

    def test_worst_verdict(self) -> None:
        assert worst([]) is Verdict.ACCEPTED
        assert worst([Verdict.REVIEW, Verdict.ACCEPTED]) is Verdict.REVIEW
        assert worst([Verdict.REVIEW, Verdict.REFUSED]) is Verdict.REFUSED

    def test_message_formats_its_values(self) -> None:
        assert str(Message("{n} slices of {mm:.1f} mm", {"n": 3, "mm": 2.54})) == "3 slices of 2.5 mm"


class TestNotebook:
    def test_values_show_themselves_escaped(self, tmp_path) -> None:
        volume = Volume(np.zeros((1, 1, 2, 2)), Geometry.regular((1, 2, 2)), history=(Step("<b>"),))
        assert "&lt;b&gt;" in volume._repr_html_()
        case = Case("<i>", tmp_path, Identity(), ())
        assert "&lt;i&gt;" in case._repr_html_()
        labels = LabelMap.of_mask(np.ones((1, 1, 2), np.bool_), Geometry.regular((1, 1, 2)), name="<u>")
        assert "&lt;u&gt;" in labels._repr_html_()
        table = FeatureTable((Feature("<s>", 1.0, "mL", "", "brain"),))
        assert "&lt;s&gt;" in table._repr_html_()
