"""Recipes: what they may say, and how they are told that they may not."""

import json
from pathlib import Path

import pytest

from isocenter import recipe
from isocenter.acquire.select import Select, choose
from isocenter.data.case import Case, Defect, Identity, Series
from isocenter.data.message import Message
from isocenter.errors import RecipeError

GOOD = """\
name: mine
title: {en: Mine, zh: 我的}
description: {en: What it does, zh: 作用}
select:
  modality: [CT]
steps:
  - preprocess: gaussian
    sigma_mm: 1.0
  - segment: otsu
    as: body
  - features: volume
    of: body
report:
  overlay: body
"""


def parse(text: str) -> recipe.Recipe:
    return recipe.parse(text, source="mine.yaml")


class TestReading:
    def test_a_good_recipe(self) -> None:
        found = parse(GOOD)
        assert [(s.stage, s.name, s.output, s.of) for s in found.steps] == [
            ("preprocess", "gaussian", None, None),
            ("segment", "otsu", "body", None),
            ("features", "volume", None, "body"),
        ]
        assert found.select.modality == ("CT",)
        assert found.sha256 != parse(GOOD + "\n").sha256

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("sigma_mm: 1.0", "sigma: 1.0", r"line 8: step 1, sigma: there is no such key \(did you mean 'sigma_mm'\?\)"),
            ("sigma_mm: 1.0", "sigma_mm: -1", r"line 8: step 1, sigma_mm: .*greater than 0; got -1"),
            ("sigma_mm: 1.0", "sigma_mm: .nan", r"line 8: .*finite"),
            ("  - preprocess: gaussian", "  - preprocess: gausian", r"line 7: preprocess has no step 'gausian' \(did you mean 'gaussian'"),
            ("  - preprocess: gaussian", "  - preproces: gaussian", r"line 7: each step names exactly one stage .*did you mean 'preprocess'"),
            ("    as: body\n", "", r"line 9: step 2, as: this key is needed"),
            ("    of: body", "    of: bodi", r"line 12: `of: bodi` names a label map .*did you mean 'body'"),
            ("  overlay: body", "  overlay: nobody", r"line 14: `overlay: nobody` names a label map that no step"),
            ("  modality: [CT]", "  modalty: [CT]", r"line 5: select.modalty: there is no such key \(did you mean 'modality'"),
            ("name: mine", "name: Mine!", r"line 1: name"),
            ("name: mine", "name: mine\nname: yours", r"line 2: the key 'name' stands twice"),
            ("title: {en: Mine, zh: 我的}", "title: {en: Mine}", r"line 2: title.zh: this key is needed"),
            ("sigma_mm: 1.0", "sigma_mm: [1", "not valid YAML"),
            ("steps:", "stages:", r"there is no such key \(did you mean 'steps'|steps: this key is needed"),
        ],
    )  # fmt: skip
    def test_an_error_names_line_key_and_nearest_spelling(self, old: str, new: str, says: str) -> None:
        with pytest.raises(RecipeError, match=says):
            parse(GOOD.replace(old, new))

    @pytest.mark.parametrize(
        "text",
        [
            GOOD.replace("sigma_mm: 1.0", "sigma_mm: !!python/object/apply:os.system ['touch CANARY']"),
            GOOD.replace("sigma_mm: 1.0", "sigma_mm: !!int '1'"),
            "a: &a [1]\nb: [*a, *a]\n",
            "[" * 5000,
            "- " * 3000 + "1",
            "just words",
            "",
            "name: " + "x" * 300_000,
        ],
    )
    def test_nothing_in_a_recipe_is_evaluated_or_unbounded(
        self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(RecipeError):
            parse(text)
        assert list(tmp_path.iterdir()) == []

    def test_a_path_or_a_name(self, tmp_path: Path) -> None:
        file = tmp_path / "我的 recipe.yaml"
        file.write_text(GOOD, "utf-8")
        assert recipe.load(file).name == "mine"
        with pytest.raises(RecipeError, match="did you mean 'brain-mr'"):
            recipe.load("brain-rm")
        with pytest.raises(RecipeError, match="cannot be read"):
            recipe.load(tmp_path / "none.yaml")
        with pytest.raises(RecipeError, match="no recipe"):
            recipe.load("../../secret")
        (tmp_path / "latin.yaml").write_bytes("name: ä".encode("latin-1"))
        with pytest.raises(RecipeError, match="UTF-8"):
            recipe.load(tmp_path / "latin.yaml")

    def test_shipped_recipes_are_valid_and_named_as_their_file(self) -> None:
        for name, found in recipe.shipped().items():
            assert found.name == name

    def test_the_schema_knows_every_step(self) -> None:
        text = json.dumps(recipe.json_schema())
        for stage, table in recipe.STAGES.items():
            for name, kind in table.items():
                assert f'"{stage}_{name}"' in text
                for field in kind.settings.model_fields:
                    assert f'"{field}"' in text


def series(uid: str, **more: object) -> Series:
    given = {
        "uid": uid, "format": "dicom", "modality": "MR", "description": uid, "shape": (160, 256, 256), "channels": 1,
        "spacing_mm": (1.0, 1.0, 1.0), "attributes": {}, "defects": (), "files": (), "read": lambda: None,
    } | more  # fmt: skip
    return Series(**given)


def chosen(select: Select, *those: Series) -> tuple[str | None, str, list[str]]:
    candidates, refusal = choose(Case("c", Path(), Identity(), those), select)
    taken = [c.series.uid for c in candidates if c.chosen]
    return (taken[0] if taken else None), str(refusal), [str(c.reason) for c in candidates]


class TestSelect:
    @pytest.mark.parametrize(
        ("select", "unfit", "says"),
        [
            ({"modality": ("MR",)}, {"modality": "CT"}, "CT where MR is wanted"),
            ({"image_type_not": ("LOCALIZER",)}, {"attributes": {"ImageType": ["ORIGINAL", "LOCALIZER"]}}, "is LOCALIZER"),
            ({"image_type": ("ORIGINAL",)}, {"attributes": {"ImageType": ["DERIVED"]}}, "lacks ORIGINAL"),
            ({"sequence": ("mprage",)}, {"description": "T2 TSE"}, "called T2 TSE"),
            ({"kernel": ("B3", "STANDARD")}, {"attributes": {"ConvolutionKernel": "B70f"}}, "kernel B70f"),
            ({"body_part": ("HEAD",)}, {"attributes": {"BodyPartExamined": "KNEE"}}, "KNEE"),
            ({"contrast": False}, {"attributes": {"ContrastBolusAgent": "Gd"}}, "with contrast"),
            ({"contrast": True}, {}, "without contrast"),
            ({"thickness_mm": (0.5, 3.0)}, {"spacing_mm": (5.0, 1.0, 1.0)}, "5.00 mm apart"),
            ({"thickness_mm": (0.5, 3.0)}, {"spacing_mm": None}, "no millimetres"),
            ({"least_slices": 40}, {"shape": (12, 256, 256)}, "only 12 slices"),
            ({}, {"defects": (Defect("missing-slice", Message("one is missing")),)}, "one is missing"),
            ({"modality": ("MR",)}, {"channels": 3}, "colour"),
        ],
    )  # fmt: skip
    def test_each_reason_to_pass_over(self, select: dict, unfit: dict, says: str) -> None:
        good = {"attributes": {"ImageType": ["ORIGINAL"], "ContrastBolusAgent": "Gd" if select.get("contrast") else ""}}
        good |= {"description": "MPRAGE"}
        name, _, reasons = chosen(
            Select(**select), series("good", **good), series("bad", **({"description": "x"} | unfit))
        )
        assert name == "good"
        assert says in reasons[1]

    def test_ties_break_in_order_and_say_so(self) -> None:
        thick, thin, short = series("thick", spacing_mm=(2.0, 1, 1)), series("thin"), series("short", shape=(99, 9, 9))
        name, _, reasons = chosen(Select(prefer=("thinnest", "most_slices")), thick, thin, short)
        assert name == "thin"
        assert "thinnest" in reasons[0]
        assert "most_slices" in reasons[2]

    def test_what_still_ties_is_refused_with_the_list(self) -> None:
        name, refusal, _ = chosen(Select(prefer=("thinnest",)), series("1.2.3"), series("4.5.6"))
        assert name is None
        assert "1.2.3" in refusal
        assert "4.5.6" in refusal

    def test_nothing_fits(self) -> None:
        name, refusal, _ = chosen(Select(modality=("CT",)), series("a"))
        assert name is None
        assert "MR where CT" in refusal
