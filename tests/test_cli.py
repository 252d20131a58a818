"""The command line as other programs see it: exit codes, standard output, standard error."""

import json
from pathlib import Path

import pytest
import yaml

import isocenter
from tests.command import cli
from tests.phantoms import write_series
from tests.test_run import RECIPE, phantom


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
    return tmp_path / "r.yaml"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    write_series(tmp_path / "好 study", phantom(), spacing=(2.0, 1.0, 1.0))
    return tmp_path / "好 study"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    (tmp_path / "bad.nii").write_bytes(b"no image")
    return tmp_path / "bad.nii"


class TestRun:
    def test_done_is_0_with_results_on_stdout_and_progress_on_stderr(
        self, recipe_file: Path, good: Path, tmp_path: Path
    ) -> None:
        (good / "note.txt").write_text("no image")
        done = cli("run", recipe_file, good, "-o", tmp_path / "out")
        assert done.returncode == 0
        assert done.stdout.split() == ["accepted", "好_study", str(tmp_path / "out" / "好_study" / "report.html")]
        assert "segment: threshold" in done.stderr
        assert "note.txt" in done.stderr
        assert "Zhang" not in done.stderr + done.stdout
        again = cli("run", recipe_file, good, "-o", tmp_path / "out")
        assert "done before" in again.stdout

    def test_some_failed_is_1(self, recipe_file: Path, good: Path, bad: Path, tmp_path: Path) -> None:
        done = cli("run", recipe_file, bad, good, "-o", tmp_path / "out")
        assert done.returncode == 1
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["failed", "accepted"]
        assert "not an image" in done.stderr

    @pytest.mark.parametrize("path", ["bad", "absent", "empty"])
    def test_nothing_usable_is_2_and_one_sentence(
        self, recipe_file: Path, bad: Path, tmp_path: Path, path: str
    ) -> None:
        (tmp_path / "empty").mkdir()
        given = {"bad": bad, "absent": tmp_path / "nope", "empty": tmp_path / "empty"}[path]
        done = cli("run", recipe_file, given, "-o", tmp_path / "out")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr

    def test_a_recipe_that_is_wrong_is_2_with_line_and_key(self, good: Path, tmp_path: Path) -> None:
        (tmp_path / "r.yaml").write_text(RECIPE.replace("sigma_mm", "sigma"), "utf-8")
        done = cli("run", tmp_path / "r.yaml", good, "-o", tmp_path / "out")
        assert done.returncode == 2
        assert "line 7" in done.stderr
        assert "did you mean 'sigma_mm'" in done.stderr
        assert not (tmp_path / "out").exists()

    def test_wildcards_are_filled_in_where_the_shell_did_not(
        self, recipe_file: Path, good: Path, tmp_path: Path
    ) -> None:
        assert cli("run", recipe_file, good.parent / "好*", "-o", tmp_path / "out").returncode == 0

    def test_a_named_series_beats_the_selection(self, recipe_file: Path, good: Path, tmp_path: Path) -> None:
        write_series(good, phantom(radius=8), spacing=(2.0, 1.0, 1.0), series="2")
        done = cli("run", recipe_file, good, "-o", tmp_path / "out")
        assert done.returncode == 2
        assert "2 series fit equally well" in done.stderr
        uid = "1.2.826.0.1.3680043.8.498.1.2"
        assert cli("run", recipe_file, good, "-o", tmp_path / "out", "--series", uid).returncode == 0
        data = json.loads((tmp_path / "out" / "好_study" / "report.json").read_text("utf-8"))
        assert [s["uid"] for s in data["series"] if s["chosen"]] == [uid]


class TestConvert:
    def test_one_volume(self, good: Path, tmp_path: Path) -> None:
        done = cli("convert", good, "-o", tmp_path / "a.nii.gz")
        assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "a.nii.gz"))
        assert isocenter.open(tmp_path / "a.nii.gz").volume().geometry.shape == phantom().shape

    def test_several_series_are_2_with_the_list_and_one_can_be_named(self, good: Path, tmp_path: Path) -> None:
        write_series(good, phantom(), series="2")
        done = cli("convert", good, "-o", tmp_path / "a.nii.gz")
        assert done.returncode == 2
        assert "498.1.2" in done.stderr
        assert not (tmp_path / "a.nii.gz").exists()
        named = cli("convert", good, "-o", tmp_path / "a.nii.gz", "--series", "1.2.826.0.1.3680043.8.498.1.2")
        assert named.returncode == 0


class TestRecipes:
    def test_list_show_schema(self, tmp_path: Path) -> None:
        assert "brain-mr" in cli("recipes").stdout
        shown = cli("recipes", "show", "brain-mr")
        assert yaml.safe_load(shown.stdout)["name"] == "brain-mr"
        assert json.loads(cli("recipes", "schema").stdout)["title"] == "Recipe"
        missing = cli("recipes", "show", "brian-mr")
        assert missing.returncode == 2
        assert "brain-mr" in missing.stderr


@pytest.mark.parametrize("arguments", [(), ("--help",), ("run", "--help"), ("demo", "--help"), ("recipes", "--help")])
def test_help_is_there(arguments: tuple[str, ...]) -> None:
    assert "Usage" in cli(*arguments).stdout


def test_version_is_printed() -> None:
    assert cli("--version").stdout.strip() == f"isocenter {isocenter.__version__}"


def test_usage_errors_are_2() -> None:
    assert cli("run").returncode == 2
    assert cli("nonsense").returncode == 2
