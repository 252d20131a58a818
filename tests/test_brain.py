"""The recipe brain-mr: right on the average brain, steady on a whole head, and refusing what is no T1 head."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import isocenter
from isocenter import recipe
from isocenter.analyse.preconditions import T1Weighted, t1_weighted
from isocenter.analyse.subject import Subject
from isocenter.data.case import Case, Identity
from isocenter.data.examination import Examination
from isocenter.data.features import FeatureTable
from isocenter.data.finding import Verdict
from isocenter.data.geometry import Geometry
from isocenter.data.volume import Volume
from isocenter.demonstration import judge
from isocenter.formats import mni152, nifti
from isocenter.metrics.overlap import dice
from isocenter.pipeline.examine import examine
from tests.test_recipe import series

pytestmark = pytest.mark.slow


def run_on(volume: Volume, tmp_path: Path) -> Examination:
    nifti.write(volume, tmp_path / "head.nii.gz")
    return examine(isocenter.open(tmp_path / "head.nii.gz"), recipe.load("brain-mr"))


@pytest.fixture(scope="module")
def average_brain() -> Examination:
    return examine(isocenter.open(mni152.path_of("t1")), recipe.load("brain-mr"))


@pytest.fixture(scope="module")
def head(real_data: Callable[[str], Path]) -> Volume:
    return isocenter.open(real_data("head_mr")).volume()


@pytest.fixture(scope="module")
def examined_head(head: Volume, tmp_path_factory: pytest.TempPathFactory) -> Examination:
    return run_on(head, tmp_path_factory.mktemp("head"))


class TestAverageBrain:
    def test_dice_against_the_atlas(self, average_brain: Examination) -> None:
        checks = {c.name: c for c in judge(average_brain).checks}
        assert checks["dice_grey_matter"].value >= 0.90
        assert checks["dice_white_matter"].value >= 0.93
        assert average_brain.verdict is Verdict.ACCEPTED

    def test_the_same_without_the_atlas_files(
        self, average_brain: Examination, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = mni152.path_of

        def only_t1(kind: str) -> Path:
            assert kind == "t1", "the atlas maps must not be opened before the tissues are found"
            return real(kind)

        monkeypatch.setattr(mni152, "path_of", only_t1)
        again = examine(isocenter.open(mni152.path_of("t1")), recipe.load("brain-mr"))
        for name, labels in average_brain.case.label_maps.items():
            assert np.array_equal(labels.voxels, again.case.label_maps[name].voxels)

    def test_is_known_to_be_extracted(self, average_brain: Examination) -> None:
        brain = average_brain.case.label_maps["brain"]
        assert brain.history[-1].results["already_extracted"] is True
        assert brain.foreground.sum() == np.count_nonzero(average_brain.case.volumes["original"].grid)

    def test_intervals_hold_their_volumes(self, average_brain: Examination) -> None:
        for finding in average_brain.findings[:3]:
            low, high = finding.interval
            assert low < finding.value < high

    def test_a_drift_is_taken_out_again(self, average_brain: Examination, tmp_path: Path) -> None:
        plain = average_brain.case.volumes["original"]
        z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in plain.geometry.shape], indexing="ij")
        drift = np.exp(0.18 * z - 0.12 * y * x + 0.1 * x)
        found = run_on(replace(plain, voxels=(plain.voxels * drift).astype(np.float32), history=()), tmp_path)
        for label in ("grey matter", "white matter"):
            masks = [e.case.label_maps["tissue"].mask(label) for e in (average_brain, found)]
            assert dice(*masks) > 0.93


class TestWholeHead:
    def test_is_accepted_with_a_plausible_brain(self, examined_head: Examination) -> None:
        assert examined_head.verdict is Verdict.ACCEPTED, [str(r) for r in examined_head.reasons]
        volumes = {str(f.statement): f.value for f in examined_head.findings}
        assert 1100 < volumes["Brain tissue (grey and white matter)"] < 1350

    def test_turning_the_head_changes_nothing(self, head: Volume, examined_head: Examination, tmp_path: Path) -> None:
        a = np.deg2rad(20)
        turn = np.eye(4)
        turn[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        turn[:3, 3] = (60, -80, 300)
        turned = replace(head, geometry=Geometry(head.geometry.shape, turn @ head.geometry.affine))
        found = run_on(turned, tmp_path)
        masks = [e.case.label_maps["brain"].foreground for e in (examined_head, found)]
        assert dice(*masks) > 0.99
        for old, new in zip(examined_head.findings, found.findings, strict=True):
            assert new.value == pytest.approx(old.value, rel=0.01)

    def test_a_cut_brain_is_for_review(self, head: Volume, tmp_path: Path) -> None:
        stop = 170
        cut = Volume(head.voxels[:, :, :stop], head.geometry.crop((0, 0, 0), (128, stop, 256)))
        found = run_on(cut, tmp_path)
        assert found.verdict in (Verdict.REVIEW, Verdict.REFUSED)
        assert any("beyond the image" in str(reason) for reason in found.reasons)

    def test_turned_contrast_is_refused(self, head: Volume, tmp_path: Path) -> None:
        inverted = np.where(head.voxels > 20, 600 - np.minimum(head.voxels, 600), 0).astype(np.int16)
        found = run_on(Volume(inverted, head.geometry), tmp_path)
        assert found.verdict is Verdict.REFUSED
        assert found.findings == ()

    def test_a_thigh_is_refused(self, real_data: Callable[[str], Path]) -> None:
        thigh = isocenter.open(real_data("sts") / "STS_001" / "MR_T1_image.nii.gz")
        found = examine(thigh, recipe.load("brain-mr"))
        assert found.verdict is Verdict.REFUSED
        assert found.findings == ()

    def test_noise_is_refused(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        geometry = Geometry.regular((90, 100, 90), spacing_mm=(2.0, 2.0, 2.0))
        found = run_on(Volume(rng.normal(100, 20, (1, 90, 100, 90)).astype(np.float32), geometry), tmp_path)
        assert found.verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    ("modality", "attributes", "verdict"),
    [
        ("MR", {"ScanningSequence": ["GR", "IR"], "EchoTime": 4.13, "RepetitionTime": 2530, "InversionTime": 1100}, "accepted"),
        ("MR", {"ScanningSequence": "SE", "EchoTime": 12, "RepetitionTime": 550}, "accepted"),
        ("MR", {"ScanningSequence": "SE", "EchoTime": 95, "RepetitionTime": 5000}, "refused"),
        ("MR", {"ScanningSequence": "SE", "EchoTime": 14, "RepetitionTime": 3000}, "refused"),
        ("MR", {"ScanningSequence": ["SE", "IR"], "EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500}, "refused"),
        ("MR", {}, "accepted"),
        ("", {}, "accepted"),
        ("CT", {}, "refused"),
    ],
)  # fmt: skip
def test_t1_is_told_by_its_parameters(tmp_path: Path, modality: str, attributes: dict, verdict: str) -> None:
    chosen = series("s", modality=modality, attributes=attributes)
    subject = Subject(Case("c", tmp_path, Identity(), (chosen,)), chosen, FeatureTable())
    (check,) = t1_weighted(subject, T1Weighted()).checks
    assert check.verdict.value == verdict


def test_demo_prints_its_dice_and_writes_its_report(tmp_path: Path) -> None:
    result = isocenter.demo(tmp_path / "演示 demo", language="zh")
    data = json.loads((result.folder / "report.json").read_text("utf-8"))
    assert data["checks"]["dice_grey_matter"] >= 0.90
    assert data["checks"]["dice_white_matter"] >= 0.93
    assert data["verdict"] == "accepted"
    assert "平均脑" in (result.folder / "report.html").read_text("utf-8")
