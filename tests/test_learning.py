"""From a table to a judged model: splits, leaks, models, their files, and the commands."""

import csv
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import isocenter
from isocenter.errors import InputError, UnreadableFile
from isocenter.evaluation.point import choose_threshold
from isocenter.formats import model_folder
from isocenter.pipeline.judgement import Asked
from isocenter.training.assemble import Promises
from isocenter.training.fit import Plan, folds_of
from isocenter.training.leaks import Item, check, content_of, thumbnail_of
from isocenter.training.steps import ComBat, CorrelationFilter, RelevantFeatures
from isocenter.training.table import Columns, read_design
from tests.test_features import cli

QUICK = Plan(model="logistic", folds=3, inner=2, select=0)


def write(path: Path, head: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def patients(
    path: Path, *, n: int = 90, seed: int = 0, split: bool = False, shift: float = 0.0, name: str = "P"
) -> Path:
    """Two rows a patient; `a` tells the state, `b` is noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        ill = i % 2
        part = ("train", "val", "test")[i % 3 if split else 0]
        for k in range(2):
            a = rng.normal(1.5 * ill + shift)
            rows.append(
                [f"{name}{i:03d}-{k}", f"{name}{i:03d}", part, "FM"[i // 2 % 2], a, rng.normal(), ["well", "ill"][ill]]
            )
    head = ["case", "patient", "split", "sex", "a", "b", "state"]
    keep = [j for j, name in enumerate(head) if split or name != "split"]
    return write(path, [head[j] for j in keep], [[row[j] for j in keep] for row in rows])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    table = patients(folder / "t.csv", split=True)
    isocenter.train(
        table, folder / "m", columns=Columns(target="state", positive="ill", drop=("sex",)), plan=QUICK,
        promises=Promises(criterion="sensitivity=0.9"),
    )  # fmt: skip
    return folder


class TestTables:
    def read(self, rows: list[list[str]], columns: Columns, **more: object):
        head, *body = rows
        cells = {name: tuple(row[i] for row in body) for i, name in enumerate(head)}
        return read_design(cells, "t.csv", columns, **more)

    def test_what_is_a_feature(self) -> None:
        found = self.read(
            [
                ["id", "x", "sex", "note", "y"],
                *[[str(i), str(i * 1.5), "MF"[i % 2], f"text {i}", "ab"[i % 2]] for i in range(20)],
            ],
            Columns(target="y"),
        )
        assert found.design.features == ("x", "sex = M")
        assert found.left_out == {"note": "holds 20 different texts"}
        assert found.design.task == "classify"
        assert not found.design.known_patients

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            (Columns(), "name what is predicted"),
            (Columns(target="z"), "no column 'z'"),
            (Columns(time="x"), "both --time and --event"),
            (Columns(target="c"), "nothing to tell apart"),
            (Columns(target="y", positive="q"), "no row of 'y' says 'q'"),
        ],
    )
    def test_refusals(self, columns: Columns, said: str) -> None:
        rows = [["x", "y", "c"], *[[str(i), "ab"[i % 2], "k"] for i in range(6)]]
        with pytest.raises(InputError, match=said):
            self.read(rows, columns)

    def test_words_for_nothing_and_numbers_that_are_none(self) -> None:
        rows = [["x", "z", "y"], *[[str(i), str(-i / 7), "ab"[i % 2]] for i in range(20)]]
        rows[3][0], rows[4][0] = "NaN", "n/a"
        found = self.read(rows, Columns(target="y"))
        assert found.design.features == ("x", "z")
        assert np.isnan(found.design.matrix[[2, 3], 0]).all()
        rows[5][0] = "abc"
        assert self.read(rows, Columns(target="y")).left_out["x"] == "is no number in row 6: 'abc'"
        rows[5][0] = "1e300"
        with pytest.raises(InputError, match=r"'x', row 6.*beyond"):
            self.read(rows, Columns(target="y"))

    def test_an_empty_target_is_named(self) -> None:
        with pytest.raises(InputError, match="row 4 has no 'y'"):
            self.read([["x", "y"], ["1", "a"], ["2", "b"], ["3", ""]], Columns(target="y"))

    def test_parquet_and_csv_say_the_same(self, tmp_path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from isocenter.acquire.columns import read_columns

        write(tmp_path / "t.csv", ["a", "b"], [[1.5, "x"], [2.5, ""]])
        pq.write_table(pa.table({"a": [1.5, 2.5], "b": ["x", None]}), tmp_path / "t.parquet")
        assert read_columns(tmp_path / "t.csv").cells == read_columns(tmp_path / "t.parquet").cells


class TestFolds:
    def test_a_patient_lies_in_one_fold(self, tmp_path: Path) -> None:
        from isocenter.acquire.columns import read_columns

        cells = read_columns(patients(tmp_path / "t.csv")).cells
        design = read_design(cells, "t", Columns(target="state")).design
        fold = folds_of(design, 5, seed=0)
        where: dict[str, set[int]] = {}
        for patient, number in zip(design.patients, fold, strict=True):
            where.setdefault(patient, set()).add(int(number))
        assert all(len(numbers) == 1 for numbers in where.values())
        shares = [design.target[fold == k].mean() for k in range(5)]
        assert max(shares) - min(shares) < 0.1

    def test_noise_is_not_learnt(self, tmp_path: Path) -> None:
        """Many features of noise: chosen on all rows they would part the classes; chosen inside the folds they do not."""
        rng = np.random.default_rng(0)
        rows = [[f"P{i}", *rng.normal(size=400), "ab"[i % 2]] for i in range(60)]
        table = write(tmp_path / "t.csv", ["patient", *(f"f{k}" for k in range(400)), "y"], rows)
        plan = Plan(model="logistic", folds=5, inner=2, select=10)
        found = isocenter.train(table, tmp_path / "m", columns=Columns(target="y"), plan=plan)
        assert found.card.metrics["auc"]["value"] < 0.7
        assert found.card.metrics["auc"]["low"] < 0.5

    def test_the_rows_of_test_are_never_looked_at(self, tmp_path: Path) -> None:
        one = patients(tmp_path / "one.csv", split=True)
        text = one.read_text().splitlines()
        spoilt = [line.replace(",ill", ",well") if ",test," in line else line for line in text]
        spoilt = [line if ",test," not in line else line.replace(",well", ",ill", 1) for line in spoilt]
        (tmp_path / "two.csv").write_text("\n".join(spoilt))
        columns = Columns(target="state", positive="ill", drop=("sex",))
        cards = [
            isocenter.train(tmp_path / f"{n}.csv", tmp_path / n, columns=columns, plan=QUICK).card
            for n in ("one", "two")
        ]
        assert cards[0].metrics["auc"] == cards[1].metrics["auc"]
        assert cards[0].calibration == cards[1].calibration


class TestSteps:
    def test_combat_takes_a_site_out_and_keeps_a_covariate(self) -> None:
        rng = np.random.default_rng(0)
        site = np.repeat([0, 1], 200)
        age = rng.normal(size=400)
        scale, shift = np.where(site == 1, 2.0, 1.0), np.where(site == 1, 3.0, 0.0)
        moved = np.column_stack([age + shift + scale * rng.normal(0, 0.5, 400) for _ in range(5)])
        matrix = np.column_stack((moved, age, site))
        found = ComBat(covariates=(5,)).fit(matrix).transform(matrix)
        gaps = [abs(found[site == 0, k].mean() - found[site == 1, k].mean()) for k in range(5)]
        assert max(gaps) < 0.35
        assert np.corrcoef(found[:, 0], age)[0, 1] > np.corrcoef(moved[:, 0], age)[0, 1] + 0.2
        left = found[:, 0] - age
        spreads = [left[site == s].std() for s in (0, 1)]
        assert spreads[1] / spreads[0] == pytest.approx(1, abs=0.15)
        unseen = np.column_stack((moved[:3], age[:3], np.full(3, 7)))
        with pytest.raises(InputError, match="not in training"):
            ComBat(covariates=(5,)).fit(matrix).transform(unseen)

    def test_filters(self) -> None:
        rng = np.random.default_rng(0)
        target = rng.integers(0, 2, 200)
        good = target + rng.normal(0, 0.5, 200)
        matrix = np.column_stack(
            (good, good * 2 + 1, rng.normal(size=200), np.ones(200), target + rng.normal(0, 1, 200))
        )
        thinned = CorrelationFilter(0.95).fit(matrix)
        assert thinned.kept_.tolist() == [0, 2, 4]
        assert RelevantFeatures(1).fit(matrix[:, [2, 4, 0]], target).kept_.tolist() == [2]


class TestPoint:
    def test_criteria(self) -> None:
        truth = np.asarray([0, 0, 0, 0, 1, 1, 1, 1])
        p = np.asarray([0.1, 0.2, 0.3, 0.7, 0.4, 0.6, 0.8, 0.9])
        at = choose_threshold(truth, p, "sensitivity=1")
        assert 0.3 < at <= 0.4
        assert 0.7 < choose_threshold(truth, p, "specificity=1") <= 0.8
        assert choose_threshold(truth, p, "cost=100") <= 0.4
        for wrong in ("sensitivity", "sensitivity=2", "youden=1", "recall=.5", "cost=x"):
            with pytest.raises(InputError, match="--at"):
                choose_threshold(truth, p, wrong)

    def test_youden_is_the_share_of_positives_where_chances_are_right(self) -> None:
        rng = np.random.default_rng(0)
        p = rng.uniform(size=4000)
        truth = (rng.uniform(size=4000) < p).astype(int)
        assert choose_threshold(truth, p, "youden") == truth.mean()

    def test_youden_is_not_drawn_to_a_lucky_case(self) -> None:
        # All but parted: one positive at 0.05 makes 0.04 the very best threshold, by a single case.
        truth = np.asarray([0] * 50 + [1] * 51)
        p = np.concatenate((np.full(50, 0.03), np.full(50, 0.97), [0.05]))
        assert 0.4 < choose_threshold(truth, p, "youden") < 0.6

    def test_youden_stays_where_the_index_is_large(self) -> None:
        truth = np.asarray([0] * 100 + [1] * 100)
        p = np.concatenate((np.full(100, 0.7), np.full(100, 0.9)))  # not calibrated: one half decides for nobody
        assert 0.7 < choose_threshold(truth, p, "youden") <= 0.9


class TestModels:
    @pytest.mark.parametrize("name", ["logistic", "svm", "svm-rbf", "tree", "boosting", "knn"])
    def test_every_kind_comes_back_from_its_file(self, tmp_path: Path, name: str) -> None:
        table = patients(tmp_path / "t.csv", n=40)
        plan = Plan(model=name, folds=2, inner=2, select=0)
        found = isocenter.train(table, tmp_path / "m", columns=Columns(target="state", drop=("sex",)), plan=plan)
        assert found.card.metrics["auc"]["value"] > 0.7
        said = isocenter.predict(tmp_path / "m", table, tmp_path / "p.csv")
        assert len(said.cases) == 80
        assert np.asarray(said.scores).sum(axis=1) == pytest.approx(np.ones(80))
        if name == "tree":
            assert "cases:" in (tmp_path / "m" / "tree.svg").read_text()

    def test_values(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(120, 3))
        y = 2 * x[:, 0] + rng.normal(0, 0.3, 120)
        table = write(tmp_path / "t.csv", ["patient", "a", "b", "c", "y"], [[f"P{i}", *x[i], y[i]] for i in range(120)])
        plan = Plan(model="linear", folds=3, inner=2, select=0)
        found = isocenter.train(table, tmp_path / "m", columns=Columns(target="y"), plan=plan)
        assert found.card.metrics["mae"]["value"] == pytest.approx(0.24, abs=0.05)
        new = rng.normal(size=(300, 3))
        truth = 2 * new[:, 0] + rng.normal(0, 0.3, 300)
        write(tmp_path / "n.csv", ["patient", "a", "b", "c", "y"], [[f"N{i}", *new[i], truth[i]] for i in range(300)])
        judged = isocenter.evaluate(tmp_path / "m", tmp_path / "n.csv", tmp_path / "e")
        assert judged.data["metrics"]["r2"]["value"] > 0.95
        assert judged.data["coverage"]["overall"]["value"] == pytest.approx(0.9, abs=0.06)

    def test_survival(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(150, 2))
        time = rng.exponential(np.exp(-x[:, 0]))
        end = rng.exponential(2, 150)
        rows = [[f"P{i}", *x[i], min(time[i], end[i]), int(time[i] <= end[i])] for i in range(150)]
        table = write(tmp_path / "t.csv", ["patient", "a", "b", "months", "died"], rows)
        columns = Columns(time="months", event="died")
        found = isocenter.train(
            table, tmp_path / "m", columns=columns, plan=Plan(model="cox", folds=3, inner=2, select=0)
        )
        assert found.card.metrics["c_index"]["value"] > 0.68
        assert any("events per parameter" in text for text in found.warnings)
        moved = [["N" + str(r[0]), r[1] + 0.01, *r[2:]] for r in rows]
        other = write(tmp_path / "n.csv", ["patient", "a", "b", "months", "died"], moved)
        judged = isocenter.evaluate(tmp_path / "m", other, tmp_path / "e", asked=Asked(columns=columns))
        assert {"c_index", "uno_c", "integrated_brier", "auc_at_horizon"} <= set(judged.data["metrics"])
        page = (tmp_path / "e" / "evaluation.html").read_text("utf-8")
        assert "no prognosis" in page
        assert "Kaplan-Meier" in page

    def test_boosted_hazards_come_back(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(150, 2))
        time, end = rng.exponential(np.exp(-np.abs(x[:, 0]) * 2)), rng.exponential(2, 150)
        rows = [[f"P{i}", *x[i], min(time[i], end[i]), int(time[i] <= end[i])] for i in range(150)]
        table = write(tmp_path / "t.csv", ["patient", "a", "b", "months", "died"], rows)
        plan = Plan(model="boosting", folds=3, inner=2, select=0)
        found = isocenter.train(table, tmp_path / "m", columns=Columns(time="months", event="died"), plan=plan)
        assert found.card.metrics["c_index"]["value"] > 0.65  # the effect has no direction: a line could not see it
        isocenter.predict(tmp_path / "m", table, tmp_path / "p.csv")
        rows = list(csv.DictReader((tmp_path / "p.csv").read_text("utf-8").splitlines()))
        shares = [float(v) for k, v in rows[0].items() if k.startswith("without_event")]
        assert shares == sorted(shares, reverse=True)

    @pytest.mark.parametrize("selector", ["lasso", "rfe"])
    @pytest.mark.parametrize("task", ["classify", "regress"])
    def test_selectors_find_what_matters(self, selector: str, task: str) -> None:
        rng = np.random.default_rng(0)
        matrix = rng.normal(size=(200, 12))
        value = 2 * matrix[:, 3] - 2 * matrix[:, 8] + rng.normal(0, 0.5, 200)
        target = (value > 0).astype(int) if task == "classify" else value
        assert RelevantFeatures(2, task, selector).fit(matrix, target).kept_.tolist() == [3, 8]

    def test_a_changed_model_is_refused(self, trained: Path, tmp_path: Path) -> None:
        shutil.copytree(trained / "m", tmp_path / "m")
        weights = tmp_path / "m" / "model.skops"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        with pytest.raises(UnreadableFile, match="it was changed"):
            isocenter.predict(tmp_path / "m", trained / "t.csv")

    def test_a_foreign_model_is_refused_even_with_its_hash(self, trained: Path, tmp_path: Path) -> None:
        import skops.io
        from sklearn.linear_model import SGDOneClassSVM  # a type that no model of ours holds
        from sklearn.preprocessing import FunctionTransformer

        for foreign in (FunctionTransformer(print), SGDOneClassSVM()):
            shutil.copytree(trained / "m", tmp_path / "m", dirs_exist_ok=True)
            data = skops.io.dumps(foreign)
            rehashed(tmp_path / "m", data)
            with pytest.raises(UnreadableFile, match="not loaded"):
                model_folder.read(tmp_path / "m")

    @pytest.mark.parametrize(
        ("kind", "field", "value"),
        [
            ("tree", "left_child", 10**6), ("tree", "left_child", 0), ("tree", "left_child", -2), ("tree", "feature", 99),
            ("boosting", "is_categorical", 1), ("boosting", "left", 10**6), ("boosting", "feature_idx", 77),
        ],
    )  # fmt: skip
    def test_a_tree_that_points_outside_itself_is_refused(
        self, tmp_path: Path, kind: str, field: str, value: int
    ) -> None:
        table = patients(tmp_path / "t.csv", n=40)
        plan = Plan(model=kind, folds=2, inner=2, select=0)
        isocenter.train(table, tmp_path / "m", columns=Columns(target="state", drop=("sex",)), plan=plan)
        with zipfile.ZipFile(tmp_path / "m" / "model.skops") as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        for name, data in parts.items():
            if name.endswith(".npy") and field.encode() in data[:400]:
                array = np.load(io.BytesIO(data), allow_pickle=False).copy()
                array[field][0] = value
                out = io.BytesIO()
                np.save(out, array)
                parts[name] = out.getvalue()
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
        rehashed(tmp_path / "m", whole.getvalue())
        with pytest.raises(UnreadableFile, match="not loaded"):
            model_folder.read(tmp_path / "m")

    def test_an_edited_card_is_refused(self, trained: Path, tmp_path: Path) -> None:
        shutil.copytree(trained / "m", tmp_path / "m")
        text = (tmp_path / "m" / "card.json").read_text("utf-8")
        (tmp_path / "m" / "card.json").write_text(text.replace('"threshold": 0.', '"threshold": 0.9'), "utf-8")
        with pytest.raises(InputError, match="edited"):
            isocenter.predict(tmp_path / "m", trained / "t.csv")

    def test_a_harmonised_model_predicts(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        rows = [
            [f"P{i}", "AB"[i // 30 % 2], rng.normal(i % 2 + 3 * (i // 30 % 2)), rng.normal(), "xy"[i % 2]]
            for i in range(120)
        ]
        table = write(tmp_path / "t.csv", ["patient", "hospital", "a", "b", "y"], rows)
        plan = Plan(model="logistic", folds=2, inner=2, select=0, harmonise=True)
        isocenter.train(table, tmp_path / "m", columns=Columns(target="y", site="hospital"), plan=plan)
        assert cli("predict", tmp_path / "m", table, "-o", tmp_path / "p.csv").returncode == 0
        rows[0][1] = "C"
        unseen = write(tmp_path / "u.csv", ["patient", "hospital", "a", "b", "y"], rows)
        done = cli("predict", tmp_path / "m", unseen, "-o", tmp_path / "p.csv")
        assert done.returncode == 2
        assert "not in training" in done.stderr


def rehashed(folder: Path, weights: bytes) -> None:
    """Put other weights into a model, with hashes that fit: what somebody with a will could do."""
    from dataclasses import replace
    from hashlib import sha256

    card = model_folder.read_card(folder)
    (folder / "model.skops").write_bytes(weights)
    card = replace(card, weights_sha256=sha256(weights).hexdigest())
    (folder / "card.json").write_text(json.dumps(card.as_json()), "utf-8")


class TestEvaluation:
    def test_the_contract(self, trained: Path, tmp_path: Path) -> None:
        judged = isocenter.evaluate(
            trained / "m", trained / "t.csv", tmp_path / "e", asked=Asked(columns=Columns(subgroups=("sex",)))
        )
        data = json.loads((tmp_path / "e" / "evaluation.json").read_text("utf-8"))
        assert {"task", "n_cases", "n_patients", "unit_of_interval", "metrics", "operating_point", "subgroups",
                "exchangeable", "cases"} <= set(data)  # fmt: skip
        assert {"auc", "accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc", "pr_auc",
                "brier", "calibration_slope"} <= set(data["metrics"])  # fmt: skip
        assert data["split"] == "test"
        assert (data["n_cases"], data["n_patients"], data["unit_of_interval"]) == (60, 30, "patient")
        assert data["operating_point"]["chosen_on"] == "validation"
        assert {row["level"] for row in data["subgroups"]} == {"F", "M"}
        assert data["metrics"]["brier"]["low"] is None  # 15 patients of a class
        assert data["metrics"]["auc"]["low"] is not None
        assert judged.data["coverage"]["promised"] == 0.9
        rows = list(csv.DictReader((tmp_path / "e" / data["cases"]).read_text("utf-8").splitlines()))
        assert len(rows) == 60
        page = (tmp_path / "e" / "evaluation.html").read_text("utf-8")
        assert all(
            word in page for word in ("ROC curve", "Calibration", "Decision curve", "Confusion", "Not for clinical")
        )

    def test_rows_that_trained_it_cannot_judge_it(self, trained: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="trained on these rows"):
            isocenter.evaluate(trained / "m", trained / "t.csv", tmp_path / "e", asked=Asked(split="train"))

    def test_patients_are_known_again_however_their_rows_are_written(self, trained: Path, tmp_path: Path) -> None:
        rows = list(csv.DictReader((trained / "t.csv").read_text("utf-8").splitlines()))
        kept = [r for r in rows if r["split"] == "train"][:30]
        head = ["patient", "a", "b", "state"]
        rounded = [[r["patient"], f"{float(r['a']):.3f}", f"{float(r['b']):.3f}", r["state"]] for r in kept]
        unnamed = [["X" + str(i), r["a"], r["b"], r["state"]] for i, r in enumerate(kept)]
        for name, body in (("rounded", rounded), ("unnamed", unnamed)):
            with pytest.raises(InputError, match="of the training"):
                isocenter.evaluate(trained / "m", write(tmp_path / f"{name}.csv", head, body), None)

    def test_folders_of_masks(self, tmp_path: Path) -> None:
        from isocenter.data.geometry import Geometry
        from isocenter.data.labels import Label, LabelMap
        from isocenter.formats import nifti

        rng = np.random.default_rng(0)
        geometry = Geometry.regular((6, 20, 20))
        for case in range(22):
            truth = np.zeros((6, 20, 20), np.uint8)
            truth[1:5, 4:14, 4:14] = 1
            truth[2:4, 15:18, 15:18] = 2
            for name, moved in (("reference", 0), ("one", 1), ("two", 1 + int(rng.integers(0, 4)))):
                grid = np.roll(truth, moved, axis=2)
                (tmp_path / name).mkdir(exist_ok=True)
                labels = LabelMap(grid, geometry, (Label(1, "a"), Label(2, "b")))
                nifti.write(labels, tmp_path / name / f"case{case:02d}.nii.gz")
        judged = isocenter.evaluate(
            predictions=[tmp_path / "one", tmp_path / "two"], reference=tmp_path / "reference", out=tmp_path / "e"
        )
        metrics = judged.data["metrics"]
        assert metrics["dice/1"]["value"] == pytest.approx(0.9)
        assert metrics["dice/2"]["value"] == pytest.approx(2 / 3)
        assert metrics["dice/1"]["low"] is not None
        assert judged.data["comparison"]["comparisons"][0]["verdict"] == "distinguishable"
        assert "dice" in (tmp_path / "e" / "evaluation.html").read_text("utf-8")
        (tmp_path / "one" / "case07.nii.gz").unlink()
        with pytest.raises(InputError, match="'case07'"):
            isocenter.evaluate(predictions=[tmp_path / "one"], reference=tmp_path / "reference")

    def test_a_few_test_rows_are_judged_all_the_same(self, trained: Path, tmp_path: Path) -> None:
        judged = isocenter.evaluate(trained / "m", patients(tmp_path / "few.csv", n=6, seed=9, name="Q"), None)
        assert judged.data["n_patients"] == 6
        assert judged.data["exchangeable"] is None

    def test_coarse_rows_of_strangers_are_no_old_acquaintances(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for name in ("A", "B"):
            rows = [
                [f"{name}{i}", int(rng.integers(0, 3)) + i % 2, int(rng.integers(0, 3)), "xy"[i % 2]] for i in range(60)
            ]
            write(tmp_path / f"{name}.csv", ["patient", "stage", "grade", "y"], rows)
        isocenter.train(tmp_path / "A.csv", tmp_path / "m", columns=Columns(target="y"), plan=QUICK)
        assert isocenter.evaluate(tmp_path / "m", tmp_path / "B.csv", None).data["n_cases"] == 60

    def test_a_perfect_area_has_no_interval_of_nothing(self, tmp_path: Path) -> None:
        write(tmp_path / "r.csv", ["case", "label"], [[i, i % 2] for i in range(60)])
        write(tmp_path / "p.csv", ["case", "probability"], [[i, 0.9 if i % 2 else 0.1] for i in range(60)])
        judged = isocenter.evaluate(predictions=[tmp_path / "p.csv"], reference=tmp_path / "r.csv")
        assert judged.data["metrics"]["auc"]["value"] == 1
        assert judged.data["metrics"]["auc"]["low"] is None
        assert "without a fault" in judged.data["metrics"]["auc"]["note"]
        assert judged.data["positive_class"] == "1"

    def test_a_reader_states_no_probability(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 2, 100)
        write(tmp_path / "r.csv", ["case", "patient", "label"], [[i, i, t] for i, t in enumerate(truth)])
        for name, right in (("without", 0.7), ("with", 0.95)):
            said = np.where(rng.random(100) < right, truth, 1 - truth)
            write(tmp_path / f"{name}.csv", ["case", "decided"], [[i, s] for i, s in enumerate(said)])
        judged = isocenter.evaluate(
            predictions=[tmp_path / "without.csv", tmp_path / "with.csv"], reference=tmp_path / "r.csv"
        )
        assert not {"auc", "brier", "calibration_slope"} & set(judged.data["metrics"])
        rows = judged.data["comparison"]["comparisons"]
        assert [row["metric"] for row in rows] == ["accuracy", "recall", "specificity"]
        assert rows[0]["verdict"] == "distinguishable"

    def test_what_lies_in_a_folder_is_not_lost(self, trained: Path, tmp_path: Path) -> None:
        isocenter.evaluate(trained / "m", trained / "t.csv", tmp_path / "e")
        isocenter.evaluate(trained / "m", trained / "t.csv", tmp_path / "e")  # its own files may be written again
        (tmp_path / "e" / "notes.txt").write_text("mine")
        with pytest.raises(InputError, match=r"notes\.txt"):
            isocenter.evaluate(trained / "m", trained / "t.csv", tmp_path / "e")
        assert (tmp_path / "e" / "notes.txt").read_text() == "mine"
        table = patients(tmp_path / "in.csv", name="Q")
        assert cli("predict", trained / "m", table, "-o", table).returncode == 2
        assert "state" in table.read_text()

    def test_other_patients_who_are_not_alike(self, trained: Path, tmp_path: Path) -> None:
        alike = patients(tmp_path / "alike.csv", n=120, seed=5, name="Q")
        shifted = patients(tmp_path / "shifted.csv", n=120, seed=5, shift=1.5, name="Q")
        same, other = (isocenter.evaluate(trained / "m", t, None).data for t in (alike, shifted))
        assert same["exchangeable"]["exchangeable"]
        assert not other["exchangeable"]["exchangeable"]
        assert any("coverage not promised: shift" in note for note in other["notes"])

    def test_pneumonia_is_a_shift(self, real_data: Callable[[str], Path], tmp_path: Path) -> None:
        """Calibrated on val, sets of 90 % cover some 75 % of test, and the page says that nothing is promised."""
        from sklearn.linear_model import LogisticRegression

        with np.load(real_data("pneumoniamnist") / "pneumoniamnist.npz", allow_pickle=False) as arrays:
            x = {
                s: arrays[f"{s}_images"].reshape(len(arrays[f"{s}_images"]), -1) / 255 for s in ("train", "val", "test")
            }
            y = {s: arrays[f"{s}_labels"].ravel() for s in x}
        model = LogisticRegression(C=0.05, max_iter=300).fit(x["train"], y["train"])
        rows = [(f"{s}-{i}", s, p, int(t)) for s in ("val", "test") for i, (p, t) in
                enumerate(zip(model.predict_proba(x[s])[:, 1], y[s], strict=True))]  # fmt: skip
        write(tmp_path / "p.csv", ["case", "probability"], [[c, p] for c, _, p, _ in rows])
        write(tmp_path / "r.csv", ["case", "split", "label"], [[c, s, t] for c, s, _, t in rows])
        judged = isocenter.evaluate(
            None, None, tmp_path / "e", predictions=[tmp_path / "p.csv"], reference=tmp_path / "r.csv"
        )
        assert judged.data["n_cases"] == 624
        assert judged.data["exchangeable"]["exchangeable"] is False
        assert judged.data["coverage"]["overall"]["value"] < 0.85
        assert any("coverage not promised: shift" in note for note in judged.data["notes"])
        assert judged.data["unit_of_interval"].startswith("case")

    def test_two_models_of_the_same_cases(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 2, 200)
        good, bad = (1 / (1 + np.exp(-(truth * k + rng.normal(size=200)))) for k in (2.0, 0.2))
        write(tmp_path / "r.csv", ["case", "patient", "label"], [[i, i // 2, t] for i, t in enumerate(truth)])
        for name, p in (("good", good), ("bad", bad), ("again", good)):
            write(tmp_path / f"{name}.csv", ["case", "probability"], [[i, v] for i, v in reversed(list(enumerate(p)))])
        for other, verdict in (("bad", "distinguishable"), ("again", "not distinguishable")):
            judged = isocenter.evaluate(
                predictions=[tmp_path / "good.csv", tmp_path / f"{other}.csv"], reference=tmp_path / "r.csv"
            )
            rows = judged.data["comparison"]["comparisons"]
            assert [row["verdict"] for row in rows[:2]] == [verdict] * 2
            assert [row["metric"] for row in rows] == ["auc", "accuracy", "recall", "specificity"]
            assert "clustered" in rows[0]["test"]
            assert rows[0]["smallest_visible"] >= 0

    @pytest.mark.parametrize(
        ("head", "rows", "said"),
        [
            (["case", "probability"], [["a", 0.5]], "have no prediction"),
            (["case", "probability"], [["a", 1.5], ["b", 0.1], ["c", 0.2], ["d", 0.2]], "no probability"),
            (["case", "probability"], [["a", "nan"], ["b", 0.1], ["c", 0.2], ["d", 0.2]], "no finite number"),
            (["case", "decided"], [["a", "x"], ["b", "0"], ["c", "1"], ["d", "1"]], "none of"),
            (["case", "probability"], [["a", 0.5], ["a", 0.1], ["b", 0.2], ["c", 0.2], ["d", 0.2]], "2 predictions"),
            (["case", "foo"], [["a", 1], ["b", 0.1], ["c", 0.2], ["d", 0.2]], "no column of predictions"),
        ],
    )
    def test_predictions_that_are_none(
        self, tmp_path: Path, head: list[str], rows: list[list[object]], said: str
    ) -> None:
        write(tmp_path / "r.csv", ["case", "label"], [["a", 0], ["b", 1], ["c", 0], ["d", 1]])
        write(tmp_path / "p.csv", head, rows)
        with pytest.raises(InputError, match=said):
            isocenter.evaluate(predictions=[tmp_path / "p.csv"], reference=tmp_path / "r.csv")


class TestLeaks:
    def test_pneumonia(self, real_data: Callable[[str], Path]) -> None:
        found = isocenter.data_check(real_data("pneumoniamnist") / "pneumoniamnist.npz")
        exact = [leak for leak in found.leaks if leak.kind == "image"]
        assert len(exact) == 8
        assert all(leak.left.startswith("train/") and leak.right.startswith("val/") for leak in exact)
        repeats = [leak.left.split("/")[0] for leak in found.repeats if leak.kind == "image"]
        assert (repeats.count("train"), repeats.count("test")) == (18, 3)

    def test_images_without_labels(self, tmp_path: Path) -> None:
        """They are looked at for the tasks that need no labels, and refused for others with the way out."""
        from PIL import Image

        rng = np.random.default_rng(0)
        (tmp_path / "set").mkdir()
        for i in range(5):
            grey = (
                rng.integers(0, 255, (20, 24), dtype=np.uint8)
                if i < 4
                else np.asarray(Image.open(tmp_path / "set" / "i1.png"))
            )
            Image.fromarray(grey).save(tmp_path / "set" / f"i{i}.png")
        done = cli("data", "check", tmp_path / "set")
        assert done.returncode == 2
        assert "--task enhance, generate, anomaly or forecast" in done.stderr
        done = cli("data", "check", tmp_path / "set", "--task", "generate", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["about"]["task"], told["about"]["cases"]) == ("generate", 5)
        assert [(r["left"], r["right"]) for r in told["repeats"]] == [("i1", "i4")]
        done = cli("data", "check", tmp_path / "set", "--task", "survive")
        assert done.returncode == 2

    def test_the_column_of_the_truth(self, tmp_path: Path) -> None:
        from PIL import Image

        for i in range(3):
            Image.fromarray(np.full((8, 8), 40 * i + np.arange(8), np.uint8)).save(tmp_path / f"i{i}.png")
        write(tmp_path / "t.csv", ["image", "grade"], [["i0.png", "a"], ["i1.png", "b"], ["i2.png", "a"]])
        done = cli("data", "check", tmp_path / "t.csv", "--target", "grade", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["about"]["classes"] == {"a": 2, "b": 1}
        done = cli("data", "check", tmp_path / "t.csv", "--target", "stage")
        assert done.returncode == 2
        assert "no column 'stage'" in done.stderr

    def test_one_image_in_three_splits_is_three_leaks(self) -> None:
        grid = np.arange(16.0).reshape(4, 4)
        items = [Item("0", split, "", content_of(grid)) for split in ("train", "val", "test")]
        found = check(items, kind="image", near=False)
        assert [(leak.left, leak.right) for leak in found.leaks] == [
            ("train/0", "val/0"), ("train/0", "test/0"), ("val/0", "test/0")
        ]  # fmt: skip

    def test_near_images(self) -> None:
        from scipy import ndimage

        rng = np.random.default_rng(0)
        images = [ndimage.gaussian_filter(rng.normal(size=(64, 64)), 4) for _ in range(30)]
        items = [Item(str(i), "train", "", content_of(g), thumbnail_of(g)) for i, g in enumerate(images)]
        copies = {"bigger": ndimage.zoom(images[3], 1.5, order=1), "mirrored": images[7][:, ::-1] * 2 + 5,
                  "noisy": images[9] + rng.normal(0, 0.003, (64, 64))}  # fmt: skip
        items += [Item(n, "test", "", content_of(g), thumbnail_of(g)) for n, g in copies.items()]
        found = check(items, kind="image")
        assert {(leak.left, leak.right) for leak in found.leaks} == {
            ("train/3", "test/bigger"), ("train/7", "test/mirrored"), ("train/9", "test/noisy")
        }  # fmt: skip
        assert all(leak.kind == "near-image" and leak.distance is not None for leak in found.leaks)

    def test_training_refuses_drops_or_goes_on(self, tmp_path: Path) -> None:
        table = patients(tmp_path / "t.csv", split=True)
        text = table.read_text().splitlines()
        leaking = text[1].replace("P000-0", "X").replace(",train,", ",test,")
        table.write_text("\n".join([*text, leaking]) + "\n")
        columns = Columns(target="state", positive="ill", drop=("sex",))
        with pytest.raises(InputError, match="leaks between splits"):
            isocenter.train(table, tmp_path / "m", columns=columns, plan=QUICK)
        dropped = isocenter.train(table, tmp_path / "m", columns=columns, plan=QUICK, drop_leaks=True)
        assert dropped.card.training["dropped_for_leaks"]
        went_on = isocenter.train(
            table, tmp_path / "n", columns=columns, plan=QUICK, allow_leaks=("patient", "row")
        )  # fmt: skip
        assert not went_on.card.training["dropped_for_leaks"]
        assert cli("train", table, "--target", "state", "-o", tmp_path / "x").returncode == 2
        done = cli("data", "check", table, "--json")
        assert done.returncode == 1
        assert {leak["kind"] for leak in json.loads(done.stdout)["leaks"]} >= {"patient"}

    def test_dropping_leaves_nothing_behind_and_both_commands_agree(self, tmp_path: Path) -> None:
        table = patients(tmp_path / "t.csv", split=True)
        lines = table.read_text().splitlines()
        test = next(line for line in lines if ",test," in line)
        copies = [re.sub(r"^[^,]+,[^,]+,test", f"C{k},Z{k},train", test) for k in range(3)]
        table.write_text("\n".join([*lines, *copies]) + "\n")
        said = json.loads(cli("data", "check", table, "--json").stdout)
        assert len(said["leaks"]) == 3
        assert len(said["repeats"]) == 2
        columns = Columns(target="state", positive="ill", drop=("sex",))
        found = isocenter.train(table, tmp_path / "m", columns=columns, plan=QUICK, drop_leaks=True)
        assert len(found.card.training["dropped_for_leaks"]) == 3

    def test_an_array_that_claims_more_than_it_holds(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", train_images=np.zeros((2, 4, 4)), test_images=np.ones((2, 4, 4)))
        with zipfile.ZipFile(tmp_path / "a.npz") as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data.replace(b"2, 4, 4", b"9999, 9"))
        with pytest.raises(UnreadableFile):
            isocenter.data_check(tmp_path / "lie.npz")

    def test_pickles_are_not_opened(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", train_images=np.asarray([{"a": 1}], object), test_images=np.zeros((2, 4, 4)))
        with pytest.raises(UnreadableFile):
            isocenter.data_check(tmp_path / "a.npz")


class TestCommands:
    def test_the_whole_way(self, tmp_path: Path) -> None:
        table = patients(tmp_path / "t.csv", split=True)
        done = cli("train", table, "--target", "state", "--positive", "ill", "--drop", "sex", "--model", "logistic",
                   "--folds", 3, "--select", 0, "--at", "sensitivity=.9", "-o", tmp_path / "m")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "mean of 3 folds" in done.stdout
        done = cli("evaluate", tmp_path / "m", table, "-o", tmp_path / "e", "--prevalence", 0.1, "--lang", "zh")
        assert done.returncode == 0, done.stderr
        assert "auc" in done.stdout
        done = cli("predict", tmp_path / "m", table, "-o", tmp_path / "p.csv")
        assert done.returncode == 0, done.stderr
        assert {"case", "p_ill", "p_well", "predicted", "set"} == set(
            (tmp_path / "p.csv").read_text("utf-8").splitlines()[0].split(",")
        )
        for lang, word in (("en", "inner folds"), ("zh", "同一患者")):
            done = cli("methods", tmp_path / "m", "--lang", lang, "--table", table)
            assert done.returncode == 0, done.stderr
            assert word in done.stdout
            assert "TRIPOD+AI" in done.stdout
        assert cli("methods", tmp_path).returncode == 2

    def test_a_model_that_stands_there_is_not_lost(self, trained: Path) -> None:
        done = cli("train", trained / "t.csv", "--target", "state", "-o", trained / "m")
        assert done.returncode == 2
        assert "not empty" in done.stderr
        assert (trained / "m" / "card.json").is_file()

    def test_hearts(self, real_data: Callable[[str], Path], tmp_path: Path) -> None:
        """From HDF5 files to a table of ratios; no millimetres are invented."""
        folder = real_data("acdc")
        rows = [
            [f.name[:10], "ED" if k % 2 == 0 else "ES", f, f]
            for k, f in enumerate(sorted(folder.glob("patient00*.h5")))
        ]
        write(tmp_path / "hearts.csv", ["case", "part", "image", "mask"], rows)
        (tmp_path / "s.yaml").write_text("families: [region]")
        done = cli(
            "features", tmp_path / "hearts.csv", "--wide", "--settings", tmp_path / "s.yaml", "-o", tmp_path / "f.csv"
        )
        assert done.returncode == 0, done.stderr
        found = list(csv.DictReader((tmp_path / "f.csv").read_text("utf-8").splitlines()))
        assert [row["case"] for row in found] == ["patient004", "patient005", "patient006", "patient007", "patient008"]
        ratio = float(found[0]["voxels ED.region 3 / ES.region 3"])
        assert ratio == pytest.approx(
            float(found[0]["ED.region 3.region.voxels"]) / float(found[0]["ES.region 3.region.voxels"])
        )
        assert not any("mm" in name for name in found[0])
