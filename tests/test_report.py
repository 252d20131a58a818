"""The report: complete in both languages, nothing in it is markup that came from a file, pictures say where they are."""

import ast
import json
import re
import string
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from shutil import which
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

import isocenter
from isocenter.acquire.matching import Status
from isocenter.data.message import Message
from isocenter.report.chinese import ACQUIRE, ANALYSE, CHINESE, JUDGEMENT, PAGE
from isocenter.report.cohort import _WHY
from isocenter.report.document import age, date, number, plain, translate
from isocenter.report.gallery import strip
from isocenter.report.plots import chart
from tests.phantoms import write_series
from tests.test_run import RECIPE, phantom

SOURCES = Path(isocenter.__file__).parent
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
CHROMIUM += ["--disable-component-update", "--disable-sync"]


def said_in_sources() -> set[str]:
    """Every literal that a Message is made of, and every text of the template."""
    found: set[str] = set()
    for file in SOURCES.rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        texts: dict[str, list[ast.expr]] = {}
        for n in ast.walk(tree):
            for t in n.targets if isinstance(n, ast.Assign) else ():
                if isinstance(t, ast.Name):
                    texts.setdefault(t.id, []).append(n.value)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "id", "")
            places = {"Message": (0,), "refused": (1,), "noted": (1,), "mended": (1, 2)}.get(called, ())
            wanted = [node.args[place] for place in places if len(node.args) > place]
            wanted += [k.value for k in node.keywords if k.arg == "text" and called == "_check"]
            for value in wanted:
                meant = texts.get(value.id, []) if isinstance(value, ast.Name) else [value]
                meant = [m for m in meant if not isinstance(m, (ast.Call, ast.JoinedStr))]  # sentences of another kind
                for part in (c for m in meant for c in ast.walk(m)):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        found.add(part.value)
    templates = (SOURCES / "report" / "templates").glob("*.j2")
    template = "".join(file.read_text("utf-8") for file in templates)
    found |= set(get_args(Status)) | set(_WHY.values()) | set(_WHY)
    return found | set(re.findall(r"_\('((?:[^'])*)'\)", template))


class TestLanguages:
    def test_every_sentence_has_its_chinese(self) -> None:
        said = said_in_sources()
        assert len(said) > 100
        assert sorted(text for text in said if text not in CHINESE and re.search("[A-Za-z]{3}", text)) == []

    def test_a_sentence_stands_on_one_page(self) -> None:
        assert len(CHINESE) == sum(len(page) for page in (PAGE, ACQUIRE, ANALYSE, JUDGEMENT))

    def test_both_languages_name_the_same_values(self) -> None:
        def fields(text: str) -> set[str]:
            return {name for _, name, _, _ in string.Formatter().parse(text) if name}

        assert {en: zh for en, zh in CHINESE.items() if fields(en) != fields(zh)} == {}

    def test_translation_fills_in_values(self) -> None:
        message = Message("Volume of {label} within the brain", {"label": "grey matter"})
        assert translate(message, "zh") == "脑内灰质体积"
        assert translate(message, "en") == "Volume of grey matter within the brain"
        assert translate("{error}", "en") == "{error}"

    def test_sentences_inside_a_sentence_are_translated_too(self) -> None:
        inner = Message("{name}: {reason}", {"name": "T2", "reason": Message("only {n} slices", {"n": 3})})
        outer = Message("No series fits the recipe: {why}.", {"why": (inner, inner)})
        assert str(outer) == "No series fits the recipe: T2: only 3 slices; T2: only 3 slices."
        assert translate(outer, "zh") == "没有序列符合配方：T2：仅 3 层; T2：仅 3 层。"

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "–"),
            (0, "0.000"),
            (1234.56, "1,235"),
            (0.012345, "0.01235"),
            (12.3456, "12.35"),
            (1e-7, "1.000e-07"),
            (-3.14159, "-3.142"),
        ],
    )
    def test_numbers_have_four_digits(self, value: float | None, text: str) -> None:
        assert number(value) == text

    def test_dates_ages_and_parameters_read_well(self) -> None:
        assert [date("20260102"), date("?")] == ["2026-01-02", "?"]
        assert [age("047Y"), age("007M"), age("old")] == ["47 y", "7 m", "old"]
        assert plain([1.23456789, True, None, "a"]) == "1.235, yes, -, a"
        assert plain({"low": [1.0, 2.0], "high": 3}) == "low 1, 2; high 3"
        assert plain([{"class": "WBC"}]) == plain([{"class": "WBC"}]) == "1 entries, see report.json"
        assert plain(list(range(30))) == "30 entries, see report.json"

    def test_numbers_beside_an_axis_have_room(self) -> None:
        picture = chart([("a", [(0, 9000), (1, 11561)])], x="t", y="voxels", x_range=(0, 1), y_range=(9000, 11561))
        assert ">11,561<" in picture
        assert "e+04" not in picture
        starts = [float(x) for x in re.findall(r'<text x="([0-9.]+)" y="[0-9.]+" text-anchor="end"', picture)]
        assert min(starts) > 6 * len("11,561")
        assert ">0.5<" in chart([], x="", y="", x_range=(0, 1), y_range=(0, 2.5))

    def test_frames_in_colour_are_shown_as_they_are(self) -> None:
        """A dark clip stays dark; grey frames are stretched."""
        dark = np.random.default_rng(0).integers(0, 60, (4, 3, 1, 32, 32)).astype(np.uint8)
        shown = [np.asarray(Image.open(BytesIO(strip(f))).convert("L")).max() for f in (dark, dark[:, :1])]
        assert shown[0] < 80
        assert shown[1] > 200


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A report of a study whose header is full of markup."""

    def spoil(slices: list[Dataset]) -> list[Dataset]:
        for ds in slices:
            ds.SeriesDescription = "<script>document.title='owned'</script>{{7*7}}\x1b[31m"
            ds.PatientName = "<img src=x onerror=alert(1)>"
            ds.PatientID = "');alert(2)//"
            ds.Manufacturer = "</style><script>alert(3)</script>"
        return slices

    write_series(tmp_path / "s", phantom(), spacing=(2.0, 1.0, 1.0), change=spoil)
    (tmp_path / "s" / "<b>.txt").write_text("not an image")
    (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
    (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "s"], tmp_path / "out")
    return result.folder


class TestPage:
    def test_nothing_from_a_header_becomes_markup(self, hostile: Path) -> None:
        page = _Page()
        page.feed((hostile / "report.html").read_text("utf-8"))
        assert {tag for tag, _ in page.tags} & {"script", "b", "iframe", "object", "a", "form"} == set()
        assert all(not name.startswith("on") for _, attrs in page.tags for name in attrs)
        assert all(attrs["src"].startswith("data:image/png;base64,") for tag, attrs in page.tags if tag == "img")
        assert "<img src=x onerror=alert(1)>" in page.text
        assert "{{7*7}}" in page.text

    def test_is_self_contained_and_locked(self, hostile: Path) -> None:
        html = (hostile / "report.html").read_text("utf-8")
        assert "default-src 'none'" in html
        assert not re.search(r"(?:src|href)=[\"']?https?:", html)
        assert "Not for clinical use" in html
        assert "@page { size: A4" in html

    def test_a_browser_shows_it_without_running_anything(self, hostile: Path) -> None:
        browser = which("chromium")
        if browser is None:
            pytest.skip("chromium is not installed")
        command = [
            browser,
            *CHROMIUM,
            f"--user-data-dir={hostile / 'profile'}",
            "--dump-dom",
            (hostile / "report.html").as_uri(),
        ]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert "<title>Body" in dom
        assert "owned" in dom
        assert "<title>owned" not in dom

    def test_key_images_are_pictures_of_the_three_planes(self, hostile: Path) -> None:
        data = json.loads((hostile / "report.json").read_text("utf-8"))
        assert len(data["images"]) == 12
        for plane in ("axial", "coronal", "sagittal"):
            plain = np.asarray(Image.open(hostile / f"key_{plane}.png").convert("RGB")).astype(int)
            marked = np.asarray(Image.open(hostile / f"key_{plane}_overlay_2.png").convert("RGB")).astype(int)
            assert plain.shape == marked.shape
            coloured = np.ptp(marked, axis=2) > 60
            letters = np.ptp(plain, axis=2) > 60
            assert coloured.sum() > letters.sum() + 1000, "the overlay is to be seen"
            assert letters.sum() > 50, "orientation letters are to be seen"

    def test_left_is_on_the_right(self, tmp_path: Path) -> None:
        voxels = np.full((60, 60, 60), -1000, np.int16)
        voxels[5:55, 5:55, 5:55] = 0
        voxels[:, :, 45:50] = 200  # columns grow towards the patient's left
        write_series(tmp_path / "s", voxels, spacing=(1.0, 1.0, 1.0))
        (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
        (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "s"], tmp_path / "out")
        for plane in ("axial", "coronal"):
            picture = np.asarray(Image.open(result.folder / f"key_{plane}.png").convert("L")).astype(float)
            columns = picture[picture.shape[0] // 3 : -picture.shape[0] // 3].mean(axis=0)
            assert (
                columns[len(columns) * 3 // 4 - 10 : len(columns) * 5 // 6].max() > columns[: len(columns) // 2].max()
            )

    def test_chinese_page_has_no_english_heading_left(self, tmp_path: Path) -> None:
        write_series(tmp_path / "s", phantom(), spacing=(2.0, 1.0, 1.0))
        (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
        (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "s"], tmp_path / "out", language="zh")
        html = (result.folder / "report.html").read_text("utf-8")
        assert 'lang="zh-CN"' in html
        assert [h for h in re.findall(r"<h[123]>(.*?)</h[123]>", html) if re.search("[A-Za-z]", h)] == []
        assert "不得用于临床" in html

    def test_a_refused_report_says_why_and_what_was_looked_at(self, tmp_path: Path) -> None:
        write_series(tmp_path / "s", phantom(), change=lambda s: s[:5] + s[6:])
        (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
        strict = isocenter.Policy("strict")
        (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "s"], tmp_path / "out", language="zh", policy=strict)
        html = (result.folder / "report.html").read_text("utf-8")
        assert "拒绝" in html
        data = json.loads((result.folder / "report.json").read_text("utf-8"))
        assert data["verdict"] == "refused"
        assert "missing between slice 5" in data["reasons"][0]
        assert data["series"][0]["defects"][0]["code"] == "missing-slice"
