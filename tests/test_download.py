"""Public data sets, from a server on this machine."""

import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest

from isocenter.acquire import download
from isocenter.acquire.datasets import open_dataset
from isocenter.acquire.download import Remote, fetch, get
from isocenter.errors import InputError, UnreadableFile
from tests.command import cli


class Server:
    """Files by path; breaks off after so many bytes, so many times."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.break_after, self.breaks, self.ranges = 0, 0, True
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                owner.seen.append((self.path, wanted))
                data = owner.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and owner.ranges else 0
                if start >= len(data) > 0:
                    self.send_error(416)
                    return
                part = data[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                if owner.breaks > 0:
                    owner.breaks -= 1
                    self.wfile.write(part[: owner.break_after])
                    self.wfile.flush()
                    self.connection.close()
                    return
                self.wfile.write(part)

            def log_message(self, *_args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "_WAIT_S", 0.0)
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def digest(data: bytes) -> str:
    return md5(data, usedforsecurity=False).hexdigest()


def test_it_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    server.files["/a.bin"] = data
    server.break_after, server.breaks = 300_000, 2
    told: list[tuple[str, int, int]] = []
    found = fetch(f"{server.url}/a.bin", tmp_path / "a.bin", digest=digest(data), on_progress=lambda *a: told.append(a))
    assert found.read_bytes() == data
    assert [row[1] for row in server.seen] == [None, "bytes=300000-", "bytes=600000-"]
    assert told[-1] == ("fetching a.bin", len(data), len(data))
    assert not (tmp_path / "a.bin.part").exists()
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", digest=digest(data))
    assert len(server.seen) == 3  # it is there


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    data = b"x" * 100_000
    server.files["/a.bin"], server.ranges = data, False
    (tmp_path / "a.bin.part").write_bytes(b"y" * 500)
    assert fetch(f"{server.url}/a.bin", tmp_path / "a.bin", digest=digest(data)).read_bytes() == data


def test_the_next_command_goes_on(server: Server, tmp_path: Path) -> None:
    data = b"0123456789" * 10_000
    server.files["/a.bin"] = data
    server.break_after, server.breaks = 20_000, 99
    with pytest.raises(InputError, match="the same command goes on"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin.part").stat().st_size == 80_000
    server.breaks = 0
    assert fetch(f"{server.url}/a.bin", tmp_path / "a.bin").read_bytes() == data


def test_a_part_that_is_whole_already(server: Server, tmp_path: Path) -> None:
    data = b"0123456789" * 1000
    server.files["/a.bin"] = data
    (tmp_path / "a.bin.part").write_bytes(data)
    assert fetch(f"{server.url}/a.bin", tmp_path / "a.bin", digest=digest(data)).read_bytes() == data


def test_what_arrives_otherwise_is_removed(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"] = b"changed"
    with pytest.raises(UnreadableFile, match="was published"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", digest=digest(b"original"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="404"):
        fetch(f"{server.url}/b.bin", tmp_path / "b.bin")
    for odd in ("file:///etc/passwd", "ftp://127.0.0.1/x", "https://"):
        with pytest.raises(InputError, match="is no address"):
            fetch(odd, tmp_path / "c")


def test_an_archive_of_medmnist_by_the_command(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, train_images=np.zeros((4, 8, 8), np.uint8), train_labels=np.asarray([[0], [1], [0], [1]]))
    data = buffer.getvalue()
    monkeypatch.setitem(download.REMOTES, "pneumoniamnist", Remote("http://nowhere", "pneumoniamnist.npz", digest(data), "CC BY 4.0", "c"))  # fmt: skip
    server.files["/pneumoniamnist.npz"] = data
    found = get("PneumoniaMNIST", tmp_path, mirror=server.url)
    assert len(open_dataset(found).samples) == 4
    assert json.loads((found / "source.json").read_text())["licence"] == "CC BY 4.0"
    count = len(server.seen)
    get("pneumoniamnist", tmp_path, mirror=server.url)
    assert len(server.seen) == count
    done = cli("data", "get", "pneumoniamnist", "-o", tmp_path / "other", "--mirror", server.url)
    assert done.returncode == 2  # the published checksum is another
    assert "was published" in done.stderr
    listed = cli("data", "get")
    assert "Task04_Hippocampus" in listed.stdout
    assert "CC BY-SA 4.0" in listed.stdout


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_a_task_of_the_decathlon(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tar_of(
        {"Task02_Heart/dataset.json": b"{}", "Task02_Heart/imagesTr/a.nii.gz": b"1", "Task02_Heart/._x": b"2"}
    )
    monkeypatch.setitem(
        download.REMOTES, "Task02_Heart", Remote(server.url, "Task02_Heart.tar", digest(data), "l", "c")
    )
    server.files["/Task02_Heart.tar"] = data
    found = get("task02_heart", tmp_path)
    names = sorted(p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file())
    assert names == ["dataset.json", "imagesTr/a.nii.gz", "source.json"]


def test_an_archive_that_reaches_out_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tar_of({"../../out.txt": b"x"})
    monkeypatch.setitem(
        download.REMOTES, "Task02_Heart", Remote(server.url, "Task02_Heart.tar", digest(data), "l", "c")
    )
    server.files["/Task02_Heart.tar"] = data
    with pytest.raises(UnreadableFile, match="cannot be unpacked"):
        get("Task02_Heart", tmp_path / "deep" / "er")
    assert not list(tmp_path.rglob("out.txt"))


def test_a_collection(server: Server, tmp_path: Path) -> None:
    rows = [{"SeriesInstanceUID": f"1.2.{i}", "PatientID": f"P/{i // 2}", "LicenseName": "CC BY 3.0"} for i in range(3)]
    server.files["/getSeries?Collection=My+Set&format=json"] = json.dumps(rows).encode()
    for row in rows:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("../../1-1.dcm", row["SeriesInstanceUID"])
            archive.writestr("LICENSE", "CC BY 3.0")
        server.files[f"/getImage?SeriesInstanceUID={row['SeriesInstanceUID']}"] = buffer.getvalue()
    found = get("tcia:My Set", tmp_path, mirror=server.url, most=2)
    names = sorted(p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file())
    assert names == ["P_0/1.2.0/1-1.dcm", "P_0/1.2.0/LICENSE", "P_0/1.2.1/1-1.dcm", "P_0/1.2.1/LICENSE", "source.json"]
    assert json.loads((found / "source.json").read_text())["of"] == 3
    get("tcia:My Set", tmp_path, mirror=server.url)
    asked = [path for path, _ in server.seen if path.startswith("/getImage")]
    assert len(asked) == 3  # two were there
    server.files["/getSeries?Collection=None&format=json"] = b"[]"
    with pytest.raises(InputError, match="lists no series"):
        get("tcia:None", tmp_path, mirror=server.url)
    server.files["/getImage?SeriesInstanceUID=1.2.9"] = b"no zip"
    server.files["/getSeries?Collection=Bad&format=json"] = json.dumps([{"SeriesInstanceUID": "1.2.9"}]).encode()
    with pytest.raises(UnreadableFile, match="arrived damaged"):
        get("tcia:Bad", tmp_path, mirror=server.url)


def test_series_whose_files_share_names_and_damaged_ones(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.dcm", b"first" * 200)
        archive.writestr("b/1.dcm", b"second" * 200)
    good = buffer.getvalue()
    server.files["/getSeries?Collection=S&format=json"] = json.dumps([{"SeriesInstanceUID": "1.2"}]).encode()
    broken = bytearray(good)
    broken[45:60] = b"\xff" * 15
    server.files["/getImage?SeriesInstanceUID=1.2"] = bytes(broken)
    with pytest.raises(UnreadableFile, match="arrived damaged"):
        get("tcia:S", tmp_path, mirror=server.url)
    server.files["/getImage?SeriesInstanceUID=1.2"] = good
    found = get("tcia:S", tmp_path, mirror=server.url)
    assert len(list(found.rglob("*1.dcm"))) == 2


def test_a_task_that_was_killed_while_it_was_unpacked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tar_of({"Task02_Heart/imagesTr/a.nii.gz": b"1", "Task02_Heart/dataset.json": b"{}"})
    monkeypatch.setitem(
        download.REMOTES, "Task02_Heart", Remote(server.url, "Task02_Heart.tar", digest(data), "l", "c")
    )
    server.files["/Task02_Heart.tar"] = data
    (tmp_path / ".Task02_Heart.partial" / "imagesTr").mkdir(parents=True)
    found = get("Task02_Heart", tmp_path)
    assert (found / "imagesTr" / "a.nii.gz").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Task02_Heart"]
    (tmp_path / "other" / "Task02_Heart").mkdir(parents=True)
    (tmp_path / "other" / "Task02_Heart" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="is there already"):
        get("Task02_Heart", tmp_path / "other")


def test_what_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Task04_Hippocampus"):
        get("imagenet", tmp_path)
