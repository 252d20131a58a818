"""Tables of patients: every planted mismatch is listed, none is guessed; hostile tables; what comes out."""

import csv
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from openpyxl import Workbook

import isocenter
from isocenter.acquire.matching import folded, index_studies, one_edit
from isocenter.acquire.table import dated, read_table
from isocenter.errors import InputError, UnreadableFile
from tests.cohorts import PATIENTS, write_cohort, write_study
from tests.command import cli

HEAD = ["PatientID", "PatientName", "AccessionNumber", "StudyDate"]


def row(n: int, **change: str) -> list[str]:
    p = PATIENTS[n]
    values = {
        "PatientID": p.id,
        "PatientName": p.name,
        "AccessionNumber": p.accession,
        "StudyDate": f"{p.day:%Y-%m-%d}",
    }
    return [{**values, **change}[key] for key in HEAD]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 patients; patient 59 has a second study on another day."""
    root = tmp_path_factory.mktemp("cohort") / "studies"
    write_cohort(root)
    second = {
        "StudyInstanceUID": "1.2.826.0.1.3680043.10.511.78.1",
        "SeriesInstanceUID": "1.2.826.0.1.3680043.10.511.78.1.1",
    }
    write_study(root / "again", PATIENTS[59], **second, AccessionNumber="B1", StudyDate="20260101")
    return root


def table(folder: Path, rows: list[list[str]], *, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(",".join(r) for r in rows) + "\n", encoding)
    return path


def statuses(out: Path) -> dict[str, tuple[str, str, str]]:
    with (out / "matching.csv").open(encoding="utf-8", newline="") as stream:
        return {r["row"] or r["study"]: (r["status"], r["study"], r["message"]) for r in csv.DictReader(stream)}


BARE = {"PatientName": "", "AccessionNumber": "", "StudyDate": ""}
ONE_DAY = timedelta(days=1)
PLANTED: list[tuple[list[str], str]] = [
    *[(row(n), "matched") for n in range(40)],
    (row(40, PatientID="99999", AccessionNumber="", PatientName=""), "unmatched"),
    (row(41, PatientID="", AccessionNumber="", StudyDate="", PatientName="X"), "unmatched"),
    (row(59, **BARE), "ambiguous"),
    (row(42, PatientID=PATIENTS[42].id + "0", AccessionNumber=""), "near"),
    (row(43, AccessionNumber=PATIENTS[43].accession.replace("X", "Y")), "near"),
    (row(44, PatientID="77777", AccessionNumber=""), "near"),  # the same name, another id
    (row(45, StudyDate=f"{PATIENTS[45].day + ONE_DAY:%Y-%m-%d}"), "near"),
    (row(46, AccessionNumber=PATIENTS[47].accession), "conflict"),
    (row(48, StudyDate="2020-01-01"), "conflict"),
    (row(50), "duplicate"),
    (row(50, **BARE), "duplicate"),
    (row(51, PatientName="Somebody^Else"), "conflict"),
    (row(52, StudyDate="03/04/2025"), "unmatched"),
    (row(53, PatientID=PATIENTS[53].id.lstrip("0"), AccessionNumber="", PatientName=""), "near"),
]


class TestPlanted:
    def test_the_patients_are_far_from_each_other(self) -> None:
        ids = [p.id for p in PATIENTS]
        assert not any(one_edit(a, b) for a in ids for b in ids)

    def test_every_mismatch_is_listed_and_none_guessed(self, studies: Path, tmp_path: Path) -> None:
        file = table(tmp_path, [HEAD, *(r for r, _ in PLANTED)])
        found = isocenter.run_cohort("overview", file, tmp_path / "out", studies=studies, dry_run=True)
        said = statuses(tmp_path / "out")
        wanted = {str(i): status for i, (_, status) in enumerate(PLANTED, start=2)}
        assert {r: said[r][0] for r in wanted} == wanted
        assert all(bool(said[r][1]) == (wanted[r] == "matched") for r in wanted)
        assert all(said[str(i + 2)][1] == PATIENTS[i].uid for i in range(40))
        others = [key for key in said if key not in wanted]
        assert {said[key][0] for key in others} == {"unlisted"}
        assert len(others) == 61 - 40
        assert found.results == {}
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["matching.csv"]
        assert "row 51 (duplicate)" in said[PATIENTS[50].uid][2]

    def test_day_and_month_exchanged_is_near(self, tmp_path: Path) -> None:
        write_study(tmp_path / "s" / "a", PATIENTS[0], StudyDate="20250304")
        file = table(tmp_path, [HEAD, row(0, StudyDate="2025-04-03")])
        isocenter.run_cohort("overview", file, tmp_path / "out", studies=tmp_path / "s", dry_run=True)
        assert statuses(tmp_path / "out")["2"][0] == "near"
        assert "day and month" in statuses(tmp_path / "out")["2"][2]

    def test_a_neighbour_that_another_row_names_is_no_near_match(self, tmp_path: Path) -> None:
        write_study(tmp_path / "s" / "a", PATIENTS[0], PatientID="P001")
        file = table(tmp_path, [["PatientID"], ["P001"], ["P002"]])
        isocenter.run_cohort("overview", file, tmp_path / "out", studies=tmp_path / "s", dry_run=True)
        said = statuses(tmp_path / "out")
        assert (said["2"][0], said["3"][0]) == ("matched", "unmatched")
        assert "another row names it" in said["3"][2]

    def test_studies_whose_files_contradict_each_other_are_not_taken(self, tmp_path: Path) -> None:
        write_study(tmp_path / "s" / "a", PATIENTS[0])
        write_study(tmp_path / "s" / "b", PATIENTS[0], PatientID="other", SeriesInstanceUID="1.2.3.4")
        studies, _ = index_studies(tmp_path / "s")
        assert "PatientID" in studies[0].trouble
        file = table(tmp_path, [["AccessionNumber"], [PATIENTS[0].accession]])
        isocenter.run_cohort("overview", file, tmp_path / "out", studies=tmp_path / "s", dry_run=True)
        assert statuses(tmp_path / "out")["2"][0] == "conflict"

    @pytest.mark.parametrize(
        ("one", "other", "near"),
        [("P12", "P1Z", True), ("P12", "P21", True), ("P12", "P1", True), ("P12", "P12", False), ("P12", "P34", False), ("", "P", False), ("12345", "13245", True)],
    )  # fmt: skip
    def test_one_edit_by_hand(self, one: str, other: str, near: bool) -> None:
        assert one_edit(one, other) is near
        assert one_edit(other, one) is near

    @pytest.mark.parametrize(
        ("one", "other"), [("Zhang^San", "san, ZHANG"), ("王^小明", "王小明"), ("王^小明=x", "王 小明")]
    )
    def test_names_are_compared_without_signs(self, one: str, other: str) -> None:
        assert folded(one) == folded(other)

    def test_a_chinese_name_in_its_dicom_form_is_the_same_person(self, tmp_path: Path) -> None:
        write_study(tmp_path / "s" / "a", PATIENTS[0], PatientName="Wang^XiaoMing=王^小明")
        for name, status in (("王小明", "matched"), ("Wang XiaoMing", "matched"), ("李雷", "conflict")):
            file = table(tmp_path, [["病人ID", "姓名"], [PATIENTS[0].id, name]])
            isocenter.run_cohort("overview", file, tmp_path / "out", studies=tmp_path / "s", dry_run=True)
            assert statuses(tmp_path / "out")["2"][0] == status, name


def sheet(path: Path, fill: Callable[[Workbook], None]) -> Path:
    book = Workbook()
    fill(book)
    book.save(path)
    return path


class TestTables:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
    @pytest.mark.parametrize("sign", [",", ";", "\t"])
    def test_chinese_headers_in_every_encoding(self, tmp_path: Path, encoding: str, sign: str) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(f"病人ID{sign}姓名{sign}检查日期\n00123{sign}张三{sign}2026年1月31日\n".encode(encoding))
        (found,) = read_table(path).rows
        assert (found.number, found.values) == (2, {"id": "00123", "name": "张三", "date": "20260131"})

    def test_a_spreadsheet_with_hidden_rows_formulas_numbers_and_dates(self, tmp_path: Path) -> None:
        def fill(book: Workbook) -> None:
            ws = book.active
            ws.append(["patient_id", "StudyDate"])
            ws.append(["A1", date(2026, 1, 31)])
            ws.append([123, "2026-02-01"])
            ws.append(['=CONCAT("A","2")', "2026-02-01"])
            ws.append(["A3", "2026-02-01"])
            ws.append([7, "2026-02-01"])
            ws.append([None, None])
            ws.append([date(2023, 1, 5), "2026-02-01"])
            ws.append(["A9", "2026-02-01"])
            ws.row_dimensions[5].hidden = True
            ws["A6"].number_format = "00000"
            ws.merge_cells("A9:A10")
            ws["B10"] = "2026-02-02"
            hidden = book.create_sheet("notes")
            hidden.append(["x"])
            hidden.sheet_state = "hidden"

        rows = {r.number: r for r in read_table(sheet(tmp_path / "t.xlsx", fill)).rows}
        assert rows[2].values == {"id": "A1", "date": "20260131"}
        assert rows[3].values["id"] == "123"
        assert "formula" in rows[4].trouble
        assert rows[5].hidden
        assert rows[6].values["id"] == "00007"
        assert 7 not in rows
        assert "is a date" in rows[8].trouble
        assert "merged" in rows[10].trouble

    def test_hidden_rows_are_named_and_not_run(self, studies: Path, tmp_path: Path) -> None:
        def fill(book: Workbook) -> None:
            for r in (HEAD, row(0), row(1)):
                book.active.append(r)
            book.active.row_dimensions[3].hidden = True

        path = sheet(tmp_path / "t.xlsx", fill)
        isocenter.run_cohort("overview", path, tmp_path / "out", studies=studies, dry_run=True)
        said = statuses(tmp_path / "out")
        assert (said["2"][0], said["3"][0]) == ("matched", "hidden")
        assert "row 3 (hidden)" in said[PATIENTS[1].uid][2]

    def test_columns_by_name(self, tmp_path: Path) -> None:
        path = table(tmp_path, [["Subject", "When"], ["A1", "20260131"]])
        with pytest.raises(InputError, match="--columns id="):
            read_table(path)
        assert read_table(path, {"id": "Subject", "date": "When"}).rows[0].values == {"id": "A1", "date": "20260131"}
        for wrong, words in (
            ({"id": "Nobody"}, "its columns are"),
            ({"ident": "Subject"}, "there is no 'ident'"),
            ({"id": "Subject", "date": "Subject"}, "named for"),
        ):
            with pytest.raises(InputError, match=words):
                read_table(path, wrong)
        with pytest.raises(InputError, match="2 columns are called"):
            read_table(table(tmp_path, [["PatientID", "PatientID"], ["a", "b"]]))

    def test_a_title_and_excels_own_first_line_are_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("sep=;\nMy cohort;;\nPatientID;StudyDate\nA1;20260131\n", "utf-8")
        (found,) = read_table(tmp_path / "t.csv").rows
        assert (found.number, found.values["id"]) == (4, "A1")

    @pytest.mark.parametrize(
        ("text", "value"),
        [("20260131", "20260131"), ("2026-1-5", "20260105"), ("2026/01/31 10:20", "20260131"), ("2026年1月5日", "20260105"), ("31.01.2026", ""), ("2026-02-30", ""), ("45755", "")],
    )  # fmt: skip
    def test_dates(self, text: str, value: str) -> None:
        assert dated(text)[0] == value
        assert bool(dated(text)[1]) is (value == "")

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("t.csv", b"", "empty"), ("t.csv", b"PatientID\n", "no rows"), ("t.csv", b"PatientID\nA\0B\n", "zero bytes"),
            ("t.csv", b'PatientID,X\nA1,"open\nA2,y\n', "never closed"), ("t.csv", b"\xff\xfe\x00", "neither|empty"),
            ("t.xlsx", b"PK nonsense", "no .xlsx"), ("t.xls", b"x", "save it as .xlsx"), ("t.csv", b"a,b\n1,2\n", "no column holds"),
        ],
    )  # fmt: skip
    def test_what_is_no_table_is_refused(self, tmp_path: Path, name: str, content: bytes, words: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises((UnreadableFile, InputError), match=words):
            read_table(tmp_path / name)

    @pytest.mark.parametrize("where", ["head", "deep", "utf-16"])
    def test_entities_in_a_spreadsheet_are_refused(self, tmp_path: Path, where: str) -> None:
        good = sheet(tmp_path / "good.xlsx", lambda book: book.active.append(["PatientID"]))
        bad = tmp_path / "bad.xlsx"
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w") as new:
            for info in old.infolist():
                data = old.read(info)
                if info.filename.endswith("sheet1.xml"):
                    data = b" " * (9000 if where == "deep" else 0) + b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + data
                    data = data.decode().encode("utf-16") if where == "utf-16" else data
                new.writestr(info, data)
        with pytest.raises(UnreadableFile, match="entities|UTF-8"):
            read_table(bad)


class TestRun:
    def test_a_cohort_runs_and_is_looked_through_on_one_page(self, studies: Path, tmp_path: Path) -> None:
        file = table(tmp_path, [HEAD, row(0), row(1), row(2, PatientID="x1"), row(3)])
        done = cli("run", "overview", file, "--studies", studies, "-o", tmp_path / "out", "--workers", 2)
        assert done.returncode == 1, done.stderr
        out = tmp_path / "out"
        with (out / "cohort.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [(r["row"], r["case"], r["verdict"]) for r in rows] == [
            (n, f"row-000{n}", "accepted") for n in ("2", "3", "5")
        ]
        assert [r["study"] for r in rows] == [PATIENTS[n].uid for n in (0, 1, 3)]
        assert float(rows[0]["foreground: volume [mL]"]) > 0
        assert "foreground: mean [HU]" in rows[0]
        page, flow = (out / "index.html").read_text("utf-8"), (out / "flow.svg").read_text("utf-8")
        assert "Rows of the table: 4" in flow
        assert "nearly a study: 1" in flow
        for n in (2, 3, 5):
            assert f'href="row-000{n}/report.html"' in page
            assert (out / f"row-000{n}" / "thumbnail.jpg").stat().st_size > 500
        assert not re.search("Family", page + flow + (out / "matching.csv").read_text("utf-8"))  # no patient's name
        again = cli("run", "overview", file, "--studies", studies, "-o", out)
        assert again.stdout.count("(done before)") == 3

    def test_another_recipe_takes_nothing_away(self, studies: Path, tmp_path: Path) -> None:
        file = table(tmp_path, [HEAD, row(0)])
        isocenter.run_cohort("overview", file, tmp_path / "out", studies=studies)
        before = (tmp_path / "out" / "row-0002" / "report.json").read_bytes()
        text = "name: other\ntitle: {en: a, zh: a}\ndescription: {en: a, zh: a}\nsteps:\n  - segment: li\n    as: x\n"
        (tmp_path / "o.yaml").write_text(text, "utf-8")
        found = isocenter.run_cohort(tmp_path / "o.yaml", file, tmp_path / "out", studies=studies)
        assert found.results[2].case == "row-0002-2"
        assert (tmp_path / "out" / "row-0002" / "report.json").read_bytes() == before

    def test_no_cell_is_a_formula_and_no_name_is_markup(self, tmp_path: Path) -> None:
        write_study(tmp_path / "s" / "a", PATIENTS[0], PatientID="=1+1", PatientName="<script>x^y")
        file = table(tmp_path, [["AccessionNumber"], [PATIENTS[0].accession], ["=x"], ["@sum"]])
        isocenter.run_cohort("overview", file, tmp_path / "out", studies=tmp_path / "s")
        for name in ("matching.csv", "cohort.csv"):
            with (tmp_path / "out" / name).open(encoding="utf-8", newline="") as stream:
                cells = [c for r in csv.reader(stream) for c in r if c.startswith(("=", "+", "-", "@"))]
                assert not [c for c in cells if not re.fullmatch(r"-[\d.e-]+", c)]
        assert "<script" not in (tmp_path / "out" / "index.html").read_text("utf-8")

    def test_a_table_without_its_studies_and_the_other_way_round(self, studies: Path, tmp_path: Path) -> None:
        file = table(tmp_path, [HEAD, row(0)])
        assert "--studies" in cli("run", "overview", file, "-o", tmp_path / "out").stderr
        assert "one table" in cli("run", "overview", file, file, "--studies", studies, "-o", tmp_path / "out").stderr
        assert "--dry-run" in cli("run", "overview", studies / "s000", "-o", tmp_path / "out", "--dry-run").stderr
        with pytest.raises(InputError, match="among the studies"):
            isocenter.run_cohort("overview", file, studies, studies=studies)

    def test_studies_in_one_flat_folder_are_told_apart(self, tmp_path: Path) -> None:
        for n in (0, 1):
            write_study(tmp_path / f"s{n}", PATIENTS[n])
            (tmp_path / "flat").mkdir(exist_ok=True)
            for file in (tmp_path / f"s{n}").iterdir():
                shutil.copy(file, tmp_path / "flat" / f"{n}-{file.name}")
        file = table(tmp_path, [HEAD, row(1)])
        found = isocenter.run_cohort("overview", file, tmp_path / "out", studies=tmp_path / "flat")
        assert found.results[2].usable
        said = json.loads((tmp_path / "out" / "row-0002" / "report.json").read_text("utf-8"))
        assert said["patient"]["patient_id"] == PATIENTS[1].id

    def test_chinese_pages(self, studies: Path, tmp_path: Path) -> None:
        file = table(tmp_path, [HEAD, row(0)])
        isocenter.run_cohort("overview", file, tmp_path / "out", studies=studies, language="zh")
        assert "表格行数: 1" in (tmp_path / "out" / "flow.svg").read_text("utf-8")
        assert "队列" in (tmp_path / "out" / "index.html").read_text("utf-8")
