"""The house: public names, what an import loads, who may import an untyped library, and memory."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import isocenter
from isocenter.errors import IsocenterError, MissingExtra
from isocenter.optional import require

SOURCES = Path(isocenter.__file__).parent
UNTYPED = {
    "SimpleITK": {"ops/itk.py"},
    "nibabel": {"formats/nifti.py", "formats/dicom_frames.py"},
    "nrrd": {"formats/nrrd.py"},
}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_public_names_are_pinned() -> None:
    assert sorted(isocenter.__all__) == [
        "Case", "Cine", "Feature", "FeatureTable", "Finding", "Geometry", "IsocenterError", "Label", "LabelMap",
        "Policy", "Quantity", "Space", "Volume", "__version__", "compress", "convert", "data_check", "demo", "evaluate", "explain",
        "extract_features", "generate", "ibsi", "inspect", "methods", "model_add", "open", "predict", "predict_images", "recipes", "robustness",
        "run", "run_cohort", "train", "train_images", "try_step",
    ]  # fmt: skip
    for name in isocenter.__all__:
        assert getattr(isocenter, name) is not None
    with pytest.raises(AttributeError, match="no public name"):
        _ = isocenter.nonsense


def test_import_is_light() -> None:
    loaded = python("import isocenter, sys; print(*sorted(sys.modules))").split()
    assert not {"numpy", "torch", "SimpleITK", "pydicom", "pydantic", "scipy"} & set(loaded)


def test_help_loads_neither_numpy_nor_pydantic() -> None:
    code = "import sys; import isocenter.cli.main; print(*sorted(sys.modules))"
    assert not {"numpy", "torch", "pydantic", "scipy", "matplotlib"} & set(python(code).split())


def test_a_recipe_loads_no_image_library() -> None:
    code = "import sys; from isocenter import recipe; recipe.shipped(); print(*sorted(sys.modules))"
    assert not {"SimpleITK", "torch", "sklearn", "scipy", "matplotlib", "nibabel"} & set(python(code).split())


def test_every_untyped_library_has_one_door() -> None:
    found: dict[str, set[str]] = {}
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.split(".")[0] in UNTYPED:
                    found.setdefault(name.split(".")[0], set()).add(file.relative_to(SOURCES).as_posix())
    assert found == UNTYPED


def test_nothing_loads_a_pickle_or_evaluates_text() -> None:
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", "") not in {"eval", "exec", "compile", "print"}, file
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {a.name for a in node.names} | {getattr(node, "module", "") or ""}
                assert not names & {"pickle", "joblib", "dill", "shelve", "marshal"}, file


def test_every_error_is_ours_and_drawn() -> None:
    from isocenter import errors

    kinds = [k for _, k in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(kind, IsocenterError) for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)


def test_an_absent_extra_is_one_clear_line() -> None:
    assert require("json", extra="learn").dumps([1]) == "[1]"
    with pytest.raises(MissingExtra, match=r"pip install 'isocenter\[learn\]'"):
        require("no_such_package_at_all", extra="learn")


def test_the_page_of_steps_is_current() -> None:
    from tools.steps_page import PAGE, page

    assert PAGE.read_text("utf-8") == page(), "run: python tools/steps_page.py"


MEMORY = """
import sys, threading, time, psutil, numpy as np
from pathlib import Path
import isocenter, matplotlib.figure, highdicom, nibabel, SimpleITK, scipy.ndimage, pydicom, PIL.Image
import isocenter.pipeline.run, isocenter.report.figures, isocenter.formats.dicom_seg, isocenter.formats.nifti
process, peak, stop = psutil.Process(), 0, False
def watch():
    global peak
    while not stop:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.002)
before = process.memory_info().rss
thread = threading.Thread(target=watch); thread.start()
(result,) = isocenter.run(sys.argv[1], [sys.argv[2]], sys.argv[3])
stop = True; thread.join()
assert result.usable, result.reasons
print((peak - before) / (4 * 300 * 512 * 512))
"""

BIG = """\
name: big
title: {en: Big, zh: 大}
description: {en: Memory, zh: 内存}
select: {modality: [CT]}
steps:
  - preprocess: gaussian
    sigma_mm: 1.0
  - preprocess: median
    radius_mm: 1.0
  - segment: threshold
    low: -400
    unit: HU
    name: body
    as: body
  - segment: components
    of: body
    as: body
  - segment: fill_holes
    of: body
    as: body
  - segment: opening
    of: body
    as: body
    radius_mm: 2
  - segment: closing
    of: body
    as: body
    radius_mm: 2
  - segment: gaussian_mixture
    within: body
    as: tissue
    classes: [lung, soft tissue]
  - segment: k_means
    as: clusters
    classes: [air, tissue]
  - segment: otsu
    as: otsu
  - features: volume
    of: tissue
  - features: intensity
    of: body
    on: original
report: {overlay: tissue}
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is measured as Linux counts it")
def test_a_run_on_300_slices_stays_under_four_volumes(tmp_path: Path) -> None:
    from tests.phantoms import thorax, write_series

    write_series(tmp_path / "s", thorax(), spacing=(1.0, 0.7, 0.7))
    (tmp_path / "big.yaml").write_text(BIG, "utf-8")
    command = [sys.executable, "-c", MEMORY, tmp_path / "big.yaml", tmp_path / "s", tmp_path / "out"]
    factor = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    assert factor < 4.0
