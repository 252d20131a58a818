"""Our reader beside others: speed on a long CT series, and what each does with a spoilt one."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from tests.defects import ROWS, Slices
from tests.phantoms import write_series

Row = tuple[str, ...]
TRUE_MM = 2.5


def rich(slices: Slices) -> Slices:
    """Headers as scanners write them: over 90 elements, with sequences and private ones."""
    for at, ds in enumerate(slices):
        code, reference = Dataset(), Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CHEST", "L", "CT chest"
        reference.ReferencedSOPClassUID = ds.SOPClassUID
        reference.ReferencedSOPInstanceUID = f"1.2.3.{at}"
        ds.ProcedureCodeSequence = Sequence([code])
        ds.ReferencedImageSequence = Sequence([reference, reference])
        ds["ReferencedImageSequence"].is_undefined_length = True
        for keyword, value in {
            "InstitutionName": "Hospital", "StationName": "CT01", "ManufacturerModelName": "Phantom 64",
            "SoftwareVersions": "v1.2", "DeviceSerialNumber": "12345", "BodyPartExamined": "CHEST",
            "ScanOptions": "HELICAL MODE", "DataCollectionDiameter": 500, "ReconstructionDiameter": 360,
            "DistanceSourceToDetector": 949, "DistanceSourceToPatient": 541, "GantryDetectorTilt": 0, "TableHeight": 150,
            "RotationDirection": "CW", "ExposureTime": 500, "XRayTubeCurrent": 300, "Exposure": 150, "FilterType": "BODY",
            "GeneratorPower": 36, "FocalSpots": 1.2, "ConvolutionKernel": "STANDARD", "PatientPosition": "FFS",
            "AcquisitionNumber": 1, "SliceLocation": float(at), "PositionReferenceIndicator": "SN", "WindowCenter": 40,
            "WindowWidth": 400, "RescaleType": "HU", "ProtocolName": "Chest", "SeriesDate": "20260102",
            "AcquisitionDate": "20260102", "ContentDate": "20260102", "SeriesTime": "101600", "AcquisitionTime": "101700",
            "ContentTime": "101800", "PatientAge": "056Y", "PatientWeight": 70, "StudyDescription": "CT chest",
        }.items():  # fmt: skip
            setattr(ds, keyword, value)
        first = ds.private_block(0x0009, "PHANTOM 01", create=True)
        second = ds.private_block(0x0019, "PHANTOM 02", create=True)
        for number in range(8):
            first.add_new(number, "LO", f"private {number}")
            second.add_new(number, "DS", f"{number * 1.5}")
        second.add_new(0x20, "OB", bytes(400))
    return slices


def simpleitk(folder: Path) -> np.ndarray:
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()))


def monai(folder: Path) -> object:
    from monai.transforms import LoadImage

    return LoadImage(reader="PydicomReader")(str(folder))


def speed(folder: Path, median_seconds: Callable[..., float]) -> list[Row]:
    """Opening and inspecting a long series, as ratios."""
    import isocenter

    volume = isocenter.open(folder).volume()
    assert np.array_equal(volume.grid, simpleitk(folder)), "the values must be SimpleITK's"
    count = len(list(folder.iterdir()))
    open_s = median_seconds(lambda: isocenter.open(folder).volume())
    inspect_s = median_seconds(lambda: isocenter.inspect(folder))
    raw_s = median_seconds(lambda: [file.read_bytes() for file in folder.iterdir()])
    itk_s = median_seconds(lambda: simpleitk(folder), 3)
    rows: list[Row] = [
        (f"open a CT of {count} slices of 512 x 512", f"{open_s:.3f} s", f"{itk_s / open_s:.1f} times SimpleITK's speed (bar 6); {open_s / raw_s:.1f} times the raw read (bar 8)"),
        ("inspect it", f"{inspect_s:.3f} s", f"{open_s / inspect_s:.1f} times faster than opening; {itk_s / inspect_s:.0f} times SimpleITK (bar 12)"),
    ]  # fmt: skip
    with contextlib.suppress(ImportError):
        monai_s = median_seconds(lambda: monai(folder), 1)
        rows.append(
            ("the same by MONAI's LoadImage", f"{monai_s:.2f} s", f"{monai_s / open_s:.0f} times slower (bar 12)")
        )
    return rows


def compressed(folder: Path, median_seconds: Callable[..., float]) -> list[Row]:
    """A JPEG-LS series on one core and on all."""
    import isocenter
    from isocenter.ops import threads

    if not folder.exists():
        return []
    all_s = median_seconds(lambda: isocenter.open(folder).volume(), 3)
    threads.limit(1)
    one_s = median_seconds(lambda: isocenter.open(folder).volume(), 3)
    threads.limit(None)
    itk_s = median_seconds(lambda: simpleitk(folder), 1)
    note = f"{one_s:.2f} s on one; SimpleITK {itk_s:.2f} s"
    return [("open a chest CT of 275 slices in JPEG-LS, all cores", f"{all_s:.2f} s", note)]


def many(folder: Path, median_seconds: Callable[..., float]) -> list[Row]:
    """Inspecting folders of many series: the time must grow with the number of files."""
    import isocenter

    plane = np.zeros((100, 16, 16), np.int16)
    per_file = []
    for series in (20, 200):
        target = folder / str(series)
        for number in range(series):
            write_series(target / f"s{number}", plane, series=str(number + 1))
        seconds = median_seconds(lambda target=target: isocenter.inspect(target), 1)
        per_file.append(seconds / (series * 100))
    note = f"{per_file[1] / per_file[0]:.2f} times the time a file of 2,000 files of 20 series"
    return [("inspect 20,000 files of 200 series", f"{per_file[1] * 20_000:.1f} s", note)]


# What each reader does with a spoilt series: spacing found, and whether a word was said.


def _ours(folder: Path) -> str:
    import isocenter

    (first, *others) = isocenter.inspect(folder).series
    split = f", {len(others)} split off" if others else ""
    if first.spacing_mm is None:
        return f"{first.verdict}"
    return f"{first.verdict}: {first.spacing_mm[0]:.3f} mm, {first.defects[0].code if first.defects else 'nothing said'}{split}"


_ABOUT_IT = r"(?i)(warning|error|non.?uniform|missing|inconsist|differ|duplicat|tilt|localizer|same position).*"
_ABOUT_IT += r"(spacing|slice|gap|orient|position|tilt|instance|image number|photometric|monochrome)"


def _judge(spacing: float, said: str, *, tilt: bool) -> str:
    true = TRUE_MM * (np.cos(np.deg2rad(15)) if tilt else 1)
    right = abs(spacing - true) < 0.01
    warned = any(re.search(_ABOUT_IT, line) for line in said.splitlines())
    return f"{'' if right else '**'}{spacing:.3f} mm{'' if right else '**'}{', warns' if warned else ', silent'}"


def _captured(work: Callable[[], float], *, tilt: bool) -> str:
    """A peer's spacing, with whatever it says on any stream."""
    with tempfile.TemporaryFile() as stream:
        before = [os.dup(1), os.dup(2)]
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        words = io.StringIO()
        try:
            with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(words):
                warnings.simplefilter("always")
                spacing = work()
        except Exception as error:  # noqa: BLE001 - a peer that raises refuses
            return f"raises ({type(error).__name__})"
        finally:
            for number, old in zip((1, 2), before, strict=True):
                os.dup2(old, number)
                os.close(old)
        stream.seek(0)
        said = stream.read().decode("utf-8", "replace") + words.getvalue()
        said += "\n" + "\n".join(f"warning: {w.message}" for w in caught)
    return _judge(spacing, said, tilt=tilt)


def _simpleitk_spacing(folder: Path) -> float:
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return float(reader.Execute().GetSpacing()[2])


def _monai_spacing(folder: Path, reader: str) -> float:
    from monai.transforms import LoadImage

    affine = np.asarray(LoadImage(reader=reader)(str(folder)).affine)
    return float(np.linalg.norm(affine[:3, 2]))


def _dicom2nifti_spacing(folder: Path) -> float:
    import dicom2nifti
    import nibabel

    with tempfile.TemporaryDirectory() as out:
        dicom2nifti.dicom_series_to_nifti(str(folder), f"{out}/a.nii.gz", reorient_nifti=False)
        return float(nibabel.load(f"{out}/a.nii.gz").header.get_zooms()[2])


def _highdicom_spacing(folder: Path) -> float:
    import highdicom
    from pydicom import dcmread

    datasets = [dcmread(file) for file in folder.iterdir()]
    return float(
        highdicom.volume.Volume.from_attributes.__self__ and highdicom.get_volume_from_series(datasets).spacing[0]
    )


def _dcm2niix(folder: Path, *, tilt: bool) -> str:
    import nibabel

    tool = Path(sys.executable).with_name("dcm2niix")
    if not tool.exists():
        return "not installed"
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run([tool, "-z", "n", "-o", out, folder], capture_output=True, text=True, check=False)
        files = sorted(Path(out).glob("*.nii"), key=lambda f: f.stat().st_size, reverse=True)
        if not files:
            return "writes nothing"
        best = next((f for f in files if re.search("_(Eq|Tilt)", f.name)), files[0])
        image = nibabel.load(best)
        word = _judge(float(image.header.get_zooms()[2]), done.stdout + done.stderr, tilt=tilt)
        slices = f", {image.shape[2]} slices" if image.shape[2] != 12 else ""
        return f"{word}{slices}" + (f", {len(files)} files" if len(files) > 1 else "")


def defects() -> tuple[list[str], list[Row]]:
    """A row for each defect, a column for each reader."""
    peers: dict[str, Callable[[Path], float]] = {
        "SimpleITK": _simpleitk_spacing,
        "MONAI PydicomReader": lambda f: _monai_spacing(f, "PydicomReader"),
        "MONAI ITKReader": lambda f: _monai_spacing(f, "ITKReader"),
        "dicom2nifti": _dicom2nifti_spacing,
        "highdicom": _highdicom_spacing,
    }
    voxels = np.random.default_rng(0).integers(-1000, 1500, (12, 32, 32)).astype(np.int16)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for defect, (_, spoil) in ROWS.items():
            folder = Path(name) / "series"
            shutil.rmtree(folder, ignore_errors=True)
            write_series(folder, voxels, change=spoil)
            tilt = defect.startswith("gantry")
            found = [_captured(lambda work=work, folder=folder: work(folder), tilt=tilt) for work in peers.values()]
            rows.append((defect, _ours(folder), _dcm2niix(folder, tilt=tilt), *found))
    return ["defect", "isocenter", "dcm2niix", *peers], rows
