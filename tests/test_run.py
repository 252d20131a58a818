"""Runs: one folder a study, repeatable, safe to kill, proven, and told to machines as the contract says."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from pydicom.dataset import Dataset

import isocenter
from isocenter.data.geometry import Geometry
from isocenter.data.labels import Label, LabelMap
from isocenter.errors import InputError, ReadBackMismatch, UnsupportedFormat
from isocenter.formats import nifti, proof
from isocenter.pipeline.output import safe_name, whole_folder
from tests.phantoms import write_series

RECIPE = """\
name: body
title: {en: Body, zh: 身体}
description: {en: What is not air, zh: 非空气部分}
select: {modality: [CT], prefer: [thinnest]}
steps:
  - preprocess: gaussian
    sigma_mm: 1.0
  - segment: threshold
    low: -480
    unit: HU
    name: body
    as: body
  - segment: components
    of: body
    as: body
  - features: volume
    of: body
  - features: intensity
    of: body
    on: original
report: {overlay: body}
"""


def phantom(shape: tuple[int, int, int] = (14, 40, 44), radius: float = 12.0) -> np.ndarray:
    """A soft-tissue ball in air, off the middle so that no flip goes unseen; spacing 2, 1, 1 mm."""
    d, h, w = np.indices(shape)
    inside = ((d - 6) * 2.0) ** 2 + (h - 17.0) ** 2 + (w - 25.0) ** 2 <= radius**2
    return np.where(inside, 40, -1000).astype(np.int16)


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    file = tmp_path / "recipe 配方.yaml"
    file.write_text(RECIPE, "utf-8")
    return file


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "studies" / "张 study"
    write_series(folder, phantom(), spacing=(2.0, 1.0, 1.0))
    return folder


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text("utf-8"))


class TestContract:
    def test_report_json_holds_what_the_contract_names(self, recipe_file: Path, study: Path, tmp_path: Path) -> None:
        (result,) = isocenter.run(recipe_file, [study], tmp_path / "出 out")
        assert result.folder == tmp_path / "出 out" / "张_study"
        data = report_of(result.folder)
        for key in ("case", "series", "verdict", "findings", "features", "lineage", "checks"):
            assert key in data
        assert data["case"] == "张_study"
        assert data["verdict"] == "accepted"
        (series,) = data["series"]
        assert series["chosen"]
        assert series["modality"] == "CT"
        volume = next(f for f in data["features"] if f["name"] == "volume")
        assert volume["value"] == pytest.approx(4 / 3 * np.pi * 12**3 / 1000, rel=0.05)
        assert volume["unit"] == "mL"
        assert [s["name"] for s in data["lineage"]["steps"]][:2] == ["acquire.dicom", "preprocess.gaussian"]
        assert data["lineage"]["versions"]["isocenter"] == isocenter.__version__
        assert len(data["lineage"]["input"]["sha256"]) == 64

    def test_masks_lie_where_the_image_lies_in_three_readers(
        self, recipe_file: Path, study: Path, tmp_path: Path
    ) -> None:
        (result,) = isocenter.run(recipe_file, [study], tmp_path / "out")
        d, h, w = (axis.mean() for axis in np.nonzero(phantom() > -300))
        centre = np.asarray([-100.0 + w, -80.0 + h, 50.0 + 2 * d])  # LPS, as the series was written
        mask = nibabel.load(result.folder / "body.nii.gz")
        ras = nibabel.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0)).mean(axis=0)
        assert ras * (-1, -1, 1) == pytest.approx(centre, abs=0.2)
        image = SimpleITK.ReadImage(str(result.folder / "body.nii.gz"))
        stats = SimpleITK.LabelShapeStatisticsImageFilter()
        stats.Execute(image)
        assert stats.GetCentroid(1) == pytest.approx(centre, abs=0.2)
        seg = dcmread(result.folder / "body.dcm")
        positions = [
            float(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in seg.PerFrameFunctionalGroupsSequence
        ]
        assert np.mean(positions) == pytest.approx(centre[2], abs=1.0)
        assert seg.FrameOfReferenceUID == "1.2.826.0.1.3680043.8.498.1.9"
        assert seg.SegmentSequence[0].SegmentLabel == "body"
        assert "not for clinical use" in seg.SeriesDescription

    def test_dicom_seg_satisfies_dciodvfy(self, recipe_file: Path, study: Path, tmp_path: Path) -> None:
        from shutil import which

        if which("dciodvfy") is None:
            pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
        (result,) = isocenter.run(recipe_file, [study], tmp_path / "out")
        said = subprocess.run(
            ["dciodvfy", "-new", result.folder / "body.dcm"], capture_output=True, text=True, check=False
        )
        assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []

    def test_uids_are_the_same_for_the_same_input(self, recipe_file: Path, study: Path, tmp_path: Path) -> None:
        uids = {
            dcmread(isocenter.run(recipe_file, [study], tmp_path / name)[0].folder / "body.dcm").SOPInstanceUID
            for name in ("a", "b")
        }
        assert len(uids) == 1

    def test_no_seg_without_a_frame_of_reference_and_the_reason(self, recipe_file: Path, tmp_path: Path) -> None:
        def no_frame(slices: list[Dataset]) -> list[Dataset]:
            for ds in slices:
                del ds.FrameOfReferenceUID
            return slices

        write_series(tmp_path / "s", phantom(), spacing=(2.0, 1.0, 1.0), change=no_frame)
        (result,) = isocenter.run(recipe_file, [tmp_path / "s"], tmp_path / "out")
        assert not (result.folder / "body.dcm").exists()
        assert "frame of reference" in report_of(result.folder)["masks"]["body"]["dicom_absent"]

    def test_labels_found_on_another_grid_come_back_to_the_image(self, study: Path, tmp_path: Path) -> None:
        text = RECIPE.replace(
            "  - preprocess: gaussian\n    sigma_mm: 1.0",
            "  - preprocess: resample\n    spacing_mm: 3.0\n  - preprocess: orient\n    to: LPS",
        )
        text = text.replace("    on: original\n", "")
        (tmp_path / "r.yaml").write_text(text, "utf-8")
        (result,) = isocenter.run(tmp_path / "r.yaml", [study], tmp_path / "out")
        mask = np.asarray(nibabel.load(result.folder / "body.nii.gz").dataobj).T
        truth = phantom() > -300
        assert mask.shape == truth.shape
        assert 2 * (mask.astype(bool) & truth).sum() / (mask.sum() + truth.sum()) > 0.85


class TestManyStudies:
    def test_one_bad_study_does_not_stop_the_others(self, recipe_file: Path, study: Path, tmp_path: Path) -> None:
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "x.dcm").write_bytes(b"nothing")
        mr = tmp_path / "mr"
        write_series(mr, np.abs(phantom()), modality="MR")
        results = isocenter.run(recipe_file, [tmp_path / "bad", mr, study], tmp_path / "out")
        assert [r.verdict.value if r.verdict else None for r in results] == [None, "refused", "accepted"]
        assert "MR where CT is wanted" in results[1].reasons[0]
        refused = report_of(tmp_path / "out" / "mr")
        assert refused["verdict"] == "refused"
        assert refused["findings"] == []

    @pytest.mark.slow
    def test_two_workers_give_what_one_gives(self, recipe_file: Path, study: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        write_series(other, phantom(radius=9), spacing=(2.0, 1.0, 1.0), study="2")
        told: list[tuple[str, int, int]] = []
        for workers in (1, 2):
            isocenter.run(
                recipe_file, [study, other, tmp_path / "none"], tmp_path / f"w{workers}", workers=workers,
                on_progress=lambda *said: told.append(said),
            )  # fmt: skip
        for name in ("张_study", "other"):
            one, two = (report_of(tmp_path / f"w{n}" / name) for n in (1, 2))
            assert one["features"] == two["features"]
            assert one["masks"] == two["masks"]
        assert all(0 <= done <= total for _, done, total in told)
        assert told[-1][1] == told[-1][2]

    def test_names_collide_into_numbers_and_stay_stable(self, recipe_file: Path, tmp_path: Path) -> None:
        paths = [tmp_path / x / "same" for x in ("a", "b")]
        for i, path in enumerate(paths):
            write_series(path, phantom(radius=8 + i), spacing=(2.0, 1.0, 1.0), study=str(i + 1))
        for again in (False, True):
            results = isocenter.run(recipe_file, paths, tmp_path / "out")
            assert [r.case for r in results] == ["same", "same-2"]
            assert all(r.skipped is again for r in results)
        (only,) = isocenter.run(recipe_file, [paths[1]], tmp_path / "out")
        assert (only.case, only.skipped) == ("same-2", True)

    def test_a_folder_of_studies_is_a_case_each(self, recipe_file: Path, tmp_path: Path) -> None:
        for name in ("one", "two"):
            write_series(
                tmp_path / "all" / name, phantom(), spacing=(2.0, 1.0, 1.0), study=str(len(name) + ord(name[0]))
            )
        results = isocenter.run(recipe_file, [tmp_path / "all"], tmp_path / "out")
        assert sorted(r.case for r in results) == ["one", "two"]
        assert all(r.usable for r in results)

    def test_a_patients_name_never_names_a_folder(self, recipe_file: Path, tmp_path: Path) -> None:
        folder = tmp_path / "ZHANG_San_2026"
        write_series(folder, phantom(), spacing=(2.0, 1.0, 1.0))
        (result,) = isocenter.run(recipe_file, [folder], tmp_path / "out")
        assert result.case.startswith("study-")
        assert "zhang" not in str([p.name.lower() for p in (tmp_path / "out").iterdir()])

    @pytest.mark.parametrize(
        ("base", "safe"),
        [
            ("brain.nii.gz", "brain"),
            ("study.zip", "study"),
            ("a b/c", "a_b_c"),
            ("..", "study"),
            ("con", "con_"),
            ("病例 1", "病例_1"),
            ("a:b|c", "a_b_c"),
        ],
    )
    def test_safe_names(self, base: str, safe: str, tmp_path: Path) -> None:
        from isocenter.data.case import Case, Identity

        assert safe_name(Case(base, tmp_path, Identity(), ())) == safe

    def test_nothing_to_do_is_refused(self, recipe_file: Path, study: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no study"):
            isocenter.run(recipe_file, [], tmp_path / "out")
        with pytest.raises(InputError, match="worker"):
            isocenter.run(recipe_file, [study], tmp_path / "out", workers=0)
        (tmp_path / "file").write_text("x")
        with pytest.raises(InputError, match="output folder"):
            isocenter.run(recipe_file, [study], tmp_path / "file" / "out")


class TestRepeating:
    def test_done_is_skipped_until_something_changes(self, recipe_file: Path, study: Path, tmp_path: Path) -> None:
        def run(**more: object) -> bool:
            return isocenter.run(recipe_file, [study], tmp_path / "out", **more)[0].skipped

        assert [run(), run(), run(force=True), run(), run(language="zh"), run(language="zh")] == [
            False, True, False, True, False, True,
        ]  # fmt: skip
        recipe_file.write_text(RECIPE.replace("sigma_mm: 1.0", "sigma_mm: 1.5"), "utf-8")
        assert not run()
        file = next(study.iterdir())
        ds = dcmread(file)
        ds.PixelData = bytes(len(ds.PixelData))
        ds.save_as(file)
        assert not run()

    def test_what_was_there_stays_when_the_new_run_fails(
        self, recipe_file: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (first,) = isocenter.run(recipe_file, [study], tmp_path / "out")
        before = (first.folder / "report.json").read_bytes()

        def full_disk(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(nifti, "write", full_disk)
        (second,) = isocenter.run(recipe_file, [study], tmp_path / "out", force=True)
        assert second.verdict is None
        assert "No space" in second.reasons[0]
        assert (first.folder / "report.json").read_bytes() == before
        assert [p.name for p in (tmp_path / "out").iterdir()] == [first.case]

    def test_killed_between_the_two_renames_the_old_result_comes_back(self, tmp_path: Path) -> None:
        target = tmp_path / "case"
        (tmp_path / ".isocenter-previous-case").mkdir()
        (tmp_path / ".isocenter-previous-case" / "report.json").write_text("{}")
        (tmp_path / ".isocenter-partial-case").mkdir()
        with pytest.raises(KeyboardInterrupt), whole_folder(target):
            raise KeyboardInterrupt
        assert sorted(p.name for p in tmp_path.iterdir()) == ["case"]
        assert (target / "report.json").exists()

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
    def test_killed_at_any_moment_the_next_run_completes_it(
        self, recipe_file: Path, study: Path, tmp_path: Path
    ) -> None:
        command = [sys.executable, "-m", "isocenter", "run", recipe_file, study, "-o", tmp_path / "out", "--force"]
        for wait in (0.3, 0.8, 1.3, 1.6, 1.9):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(wait)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        (result,) = isocenter.run(recipe_file, [study], tmp_path / "out")
        assert result.usable
        assert [p.name for p in (tmp_path / "out").iterdir()] == [result.case]
        assert {p.name for p in result.folder.iterdir()} >= {"report.html", "report.json", "body.nii.gz", "body.dcm"}

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
    def test_killed_with_workers_no_worker_goes_on(self, recipe_file: Path, tmp_path: Path) -> None:
        import psutil

        studies = [tmp_path / f"s{i}" for i in range(8)]
        for i, folder in enumerate(studies):
            write_series(folder, phantom((40, 120, 120)), spacing=(2.0, 1.0, 1.0), study=str(i + 1))
        command = [
            sys.executable,
            "-m",
            "isocenter",
            "run",
            recipe_file,
            *studies,
            "-o",
            tmp_path / "out",
            "--workers",
            "2",
        ]
        process = psutil.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        children: list[psutil.Process] = []
        for _ in range(200):
            children = process.children(recursive=True)
            if len(children) >= 3:  # two workers and the tracker of their resources
                break
            time.sleep(0.05)
        assert len(children) >= 3
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=15)
        assert alive == []

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
    def test_a_worker_that_dies_takes_no_study_with_it(self, recipe_file: Path, tmp_path: Path) -> None:
        import psutil

        studies = [tmp_path / f"s{i}" for i in range(6)]
        for i, folder in enumerate(studies):
            write_series(folder, phantom((40, 120, 120)), spacing=(2.0, 1.0, 1.0), study=str(i + 1))
        command = [
            sys.executable,
            "-m",
            "isocenter",
            "run",
            recipe_file,
            *studies,
            "-o",
            tmp_path / "out",
            "--workers",
            "2",
        ]
        process = psutil.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        victim: psutil.Process | None = None
        for _ in range(400):
            working = [c for c in process.children() if "spawn_main" in " ".join(c.cmdline())]
            if len(working) == 2:
                victim = working[0]
                break
            time.sleep(0.02)
        assert victim is not None
        victim.kill()
        said = process.communicate(timeout=120)[0]
        assert process.returncode == 0
        assert said.count("accepted") == 6


class TestProof:
    def labels(self) -> LabelMap:
        voxels = np.zeros((4, 5, 6), np.uint8)
        voxels[1, 1:3, 1:4] = 1
        voxels[2, 3, 4:] = 2
        return LabelMap(voxels, Geometry.regular((4, 5, 6), spacing_mm=(2, 1, 1)), (Label(1, "a"), Label(2, "b")))

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (
                lambda image: nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine @ np.diag([1, -1, 1, 1])),
                "corners",
            ),
            (lambda image: nibabel.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), "mm off"),
            (lambda image: nibabel.Nifti1Image(np.asarray(image.dataobj) * 0, image.affine), "came or went"),
            (
                lambda image: nibabel.Nifti1Image(np.asarray(image.dataobj), np.diag([2, 1, 1, 1]) @ image.affine),
                "corners",
            ),
        ],
    )
    def test_a_file_that_says_something_else_is_refused(
        self, tmp_path: Path, spoil: Callable[[nibabel.Nifti1Image], nibabel.Nifti1Image], says: str
    ) -> None:
        file = tmp_path / "a.nii.gz"
        nifti.write(self.labels(), file)
        proof.prove_nifti_labels(self.labels(), file)
        spoiled = spoil(nibabel.load(file))
        nibabel.save(spoiled, tmp_path / "b.nii.gz")
        with pytest.raises(ReadBackMismatch, match=says):
            proof.prove_nifti_labels(self.labels(), tmp_path / "b.nii.gz")

    def test_a_seg_with_a_frame_out_of_place_is_refused(self, recipe_file: Path, study: Path, tmp_path: Path) -> None:
        (result,) = isocenter.run(recipe_file, [study], tmp_path / "out")
        voxels = np.asarray(nibabel.load(result.folder / "body.nii.gz").dataobj).T.astype(np.uint8)
        geometry = isocenter.open(study).volume().geometry
        labels = LabelMap(voxels, geometry, (Label(1, "body"),))
        proof.prove_seg(labels, result.folder / "body.dcm")
        seg = dcmread(result.folder / "body.dcm")
        frame = seg.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0]
        frame.ImagePositionPatient = [0, 0, 0]
        seg.save_as(tmp_path / "moved.dcm")
        with pytest.raises(ReadBackMismatch, match="mm off"):
            proof.prove_seg(labels, tmp_path / "moved.dcm")


class TestConvert:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd"])
    def test_what_is_written_is_what_was_read(self, study: Path, tmp_path: Path, ending: str) -> None:
        out = tmp_path / "新 folder" / f"a{ending}"
        meant = isocenter.convert(study, out)
        back = SimpleITK.ReadImage(str(out))
        assert np.array_equal(SimpleITK.GetArrayFromImage(back), meant.grid)
        assert meant.geometry.index_to_world(np.asarray([[3.0, 2.0, 1.0]]))[0] == pytest.approx(
            back.TransformIndexToPhysicalPoint((1, 2, 3)), abs=1e-4
        )
        assert [p.name for p in out.parent.iterdir()] == [out.name]

    def test_another_ending_is_refused(self, study: Path, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedFormat, match="nii.gz"):
            isocenter.convert(study, tmp_path / "a.mha")
