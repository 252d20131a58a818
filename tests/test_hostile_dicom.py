"""DICOM files that lie: one sentence, bounded time and memory, and nothing else is lost with them."""

import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import isocenter
from isocenter.acquire import open_cases
from isocenter.errors import InputError, IsocenterError, UnreadableFile
from isocenter.formats.dicom_header import read_header
from isocenter.formats.dicom_image import ATTRIBUTES, IDENTITY
from isocenter.formats.dicom_walk import Wanted
from tests.defects import enhanced, every
from tests.phantoms import careless, write_series

PLANES = np.random.default_rng(1).integers(0, 1000, (4, 8, 10)).astype(np.int16)
DEFLATED = b"1.2.840.10008.1.2.1.99\0\0"[:22]


def bounded(path: Path, *, megabytes: int = 900) -> tuple[int, str]:
    """Exit code and message of `inspect` in a process that may take so much memory."""
    code = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20},) * 2);"
        f"sys.argv = ['isocenter', 'inspect', {str(path)!r}]; from isocenter.cli.main import main; main()"
    )
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def meta(syntax: bytes) -> bytes:
    syntax += b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM" + b"\x02\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    head = group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr
    if vr in (b"SQ", b"OW", b"OB", b"UN"):
        return head + bytes(2) + len(value).to_bytes(4, "little") + value
    return head + len(value).to_bytes(2, "little") + value


class TestBounds:
    def test_a_deflate_bomb_is_not_inflated(self, tmp_path: Path) -> None:
        body = element(8, 5, b"CS", b"ISO_IR 6") + element(9, 0x1010, b"OB", b"")
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(body) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
        (tmp_path / "bomb.dcm").write_bytes(meta(b"1.2.840.10008.1.2.1.99") + packed)
        code, said = bounded(tmp_path / "bomb.dcm")
        assert (code, "grow beyond" in said) == (2, True)

    @pytest.mark.parametrize("undefined", [True, False])
    def test_deep_nesting_is_refused(self, tmp_path: Path, undefined: bool) -> None:
        inner = b""
        for _ in range(3000):
            if undefined:
                inner = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" + inner
            else:
                inner = element(8, 0x1140, b"SQ", b"\xfe\xff\0\xe0" + len(inner).to_bytes(4, "little") + inner)
        if undefined:
            inner += b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * 3000
        (file,) = write_series(tmp_path, PLANES[:1])
        data = file.read_bytes()
        at = data.index(b"\x10\0\x10\0PN")
        file.write_bytes(data[:at] + inner + data[at:])
        code, said = bounded(tmp_path)
        if undefined:
            assert (code, "nested deeper than 32" in said) == (2, True)
        else:
            assert code == 0  # stepped over unread

    def test_a_million_elements_do_not_hang(self, tmp_path: Path) -> None:
        (tmp_path / "a.dcm").write_bytes(meta(b"1.2.840.10008.1.2.1") + element(9, 0x1010, b"LO", b"") * 2_100_000)
        code, said = bounded(tmp_path)
        assert (code, "elements" in said) == (2, True)

    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"])
    def test_huge_claims_are_refused_first(self, tmp_path: Path, syntax: str) -> None:
        (file,) = write_series(tmp_path, PLANES[:1])
        ds = dcmread(file)
        if syntax != "1.2.840.10008.1.2.1":
            ds.compress("1.2.840.10008.1.2.5")
            ds.file_meta.TransferSyntaxUID = syntax
        ds.Rows = ds.Columns = 65535
        ds.NumberOfFrames = 100_000
        ds.save_as(file)
        code, said = bounded(tmp_path)
        assert (code, "claims" in said) == (2, True)

    def test_a_codestream_that_claims_other_sizes_is_refused(self, real_data: Callable[[str], Path], tmp_path: Path) -> None:  # fmt: skip
        source = real_data("dicom") / "pydicom" / "MR_small_jpeg_ls_lossless.dcm"
        data = source.read_bytes()
        at = data.index(b"\xff\xf7")
        huge = (65500).to_bytes(2, "big") * 2
        (tmp_path / "a.dcm").write_bytes(data[: at + 5] + huge + data[at + 9 :])
        with pytest.raises(UnreadableFile, match="65500 x 65500"):
            isocenter.open(tmp_path / "a.dcm").volume()

    def test_a_text_of_megabytes_is_refused(self, tmp_path: Path) -> None:
        (file,) = write_series(tmp_path, PLANES[:1])
        data = file.read_bytes()
        at = data.index(b"\x10\0\x10\0PN")
        file.write_bytes(
            data[:at] + b"\x10\0\x10\0UT\0\0" + (6 << 20).to_bytes(4, "little") + b"A" * (6 << 20) + data[at:]
        )
        with pytest.raises(InputError, match="claims"):
            isocenter.open(tmp_path)

    def test_pipes_and_closed_doors_are_named(self, tmp_path: Path) -> None:
        write_series(tmp_path, PLANES)
        os.mkfifo(tmp_path / "pipe.dcm")
        (tmp_path / "link.dcm").symlink_to("/etc/passwd")
        case = isocenter.open(tmp_path)
        assert [r.file.name for r in case.refused_files] == ["pipe.dcm"]
        assert case.volume().geometry.shape == PLANES.shape

    @pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.98, 0.999])
    def test_cut_anywhere_it_is_named_and_the_others_go_on(self, tmp_path: Path, share: float) -> None:
        file = write_series(tmp_path, PLANES)[3]
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
        case = isocenter.open(tmp_path)
        assert [r.file for r in case.refused_files] == [file]
        assert case.volume().geometry.shape == (3, 8, 10)

    def test_compressed_pixels_that_end_early_are_named(self, tmp_path: Path) -> None:
        file = write_series(tmp_path, PLANES)[3]
        ds = dcmread(file)
        ds.compress("1.2.840.10008.1.2.5")
        ds.save_as(file)
        file.write_bytes(file.read_bytes()[:-60])
        case = isocenter.open(tmp_path)
        assert "truncated" in case.refused_files[0].message
        assert case.volume().geometry.shape == (3, 8, 10)


class TestEnhanced:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda ds: setattr(ds, "NumberOfFrames", 3), "announced, 4 are described|announced, .* stored"),
            (lambda ds: delattr(ds.PerFrameFunctionalGroupsSequence[2], "PlanePositionSequence"), "absent"),
            (lambda ds: setattr(ds, "PerFrameFunctionalGroupsSequence", Sequence([])), "absent|described"),
            (lambda ds: setattr(ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0], "ImagePositionPatient", [1, 2]), "numbers of geometry"),
        ],
    )  # fmt: skip
    def test_groups_that_do_not_add_up(self, tmp_path: Path, change: Callable[[Dataset], None], says: str) -> None:
        def spoiled(slices: list[Dataset]) -> list[Dataset]:
            ds = enhanced(slices)
            change(ds)
            return [ds]

        write_series(tmp_path, PLANES, change=spoiled)
        import re

        try:
            (series,) = isocenter.open(tmp_path).series
            said = "; ".join(str(d.said) for d in series.defects)
        except InputError as error:
            said = str(error)
        assert re.search(says, said)

    def test_frames_in_any_order_are_sorted(self, tmp_path: Path) -> None:
        write_series(tmp_path, PLANES, change=lambda s: [enhanced([s[2], s[0], s[3], s[1]])])
        assert np.array_equal(isocenter.open(tmp_path).volume().grid, PLANES)

    def test_each_frame_has_its_own_rescale(self, tmp_path: Path) -> None:
        def own(slices: list[Dataset]) -> list[Dataset]:
            for at, ds in enumerate(slices):
                ds.RescaleIntercept = -1024 + at
            return [enhanced(slices)]

        write_series(tmp_path, PLANES, change=own)
        assert np.array_equal(isocenter.open(tmp_path).volume().grid, PLANES + np.arange(4)[:, None, None])


def test_the_fast_reader_agrees_with_pydicom_on_every_file(real_data: Callable[[str], Path]) -> None:
    wanted = ("Rows", "Columns", "Modality", "SOPInstanceUID", "ImagePositionPatient", *ATTRIBUTES, *IDENTITY)
    compared = 0
    for file in sorted(f for name in ("dicom", "sts_dicom") for f in real_data(name).rglob("*") if f.is_file()):
        try:
            mine = read_header(file, Wanted(wanted))
            with careless():
                peer = dcmread(file, stop_before_pixels=True, force=True)
                values = {k: peer.get(k) for k in wanted}
        except Exception:  # noqa: BLE001 - what cannot be read by both is not compared
            continue
        if not peer:
            continue
        compared += 1
        for keyword, value in values.items():
            many = value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
            meant = ["" if v is None else str(v).strip() for v in many]
            stated = list(mine.values(keyword)) or [""]
            if stated != (meant or [""]):
                assert [float(v) for v in stated] == [float(v) for v in meant], (file.name, keyword)
    assert compared > 200


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Small valid series, as bytes of their files."""
    found = {}
    for name, change in {
        "plain": lambda s: s,
        "enhanced": lambda s: [enhanced(s)],
        "mr": lambda s: every(s, Modality="MR"),
    }.items():
        folder = tmp_path_factory.mktemp(name)
        found[name] = [f.read_bytes() for f in write_series(folder, PLANES[:3, :4, :4], change=change)]
    return found


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_are_read_or_refused(valid: dict[str, list[bytes]], tmp_path: Path, data: st.DataObject) -> None:
    files = [bytearray(b) for b in valid[data.draw(st.sampled_from(sorted(valid)))]]
    target = data.draw(st.sampled_from(files))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(target) - 1))
        target[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del target[data.draw(st.integers(1, len(target))) :]
    for at, content in enumerate(files):
        (tmp_path / f"{at}.dcm").write_bytes(bytes(content))
    for old in list(tmp_path.glob("*.dcm"))[len(files) :]:
        old.unlink()
    try:
        for case in open_cases(tmp_path):
            for series in case.series:
                if series.usable:
                    cine = series.cine()
                    assert cine.frames.shape[2:] == cine.geometry.shape
    except IsocenterError as error:
        assert str(error)
