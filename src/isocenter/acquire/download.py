"""Public data sets by name: fetched with progress, gone on with after a break, checked, unpacked."""

import json
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest, md5
from http.client import HTTPException, HTTPResponse
from lzma import LZMAError
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.types import Progress
from isocenter.version import __version__

_ZENODO = "https://zenodo.org/records/10519652/files"
_DECATHLON = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
_TCIA = "https://services.cancerimagingarchive.net/nbia-api/services/v1"
_BLOCK, _TRIES, _WAIT_S, _TIMEOUT_S = 1 << 20, 4, 1.0, 60
_MOST_LIST, _MOST_UNPACKED = 64 * 2**20, 32 * 2**30
SOURCE = "source.json"


@dataclass(frozen=True)
class Remote:
    """A data set that is one file.

    Args:
        base: where it lies.
        file: its name there.
        md5: as its publisher states it.
        licence: of the data.
        cite: what to cite.
    """

    base: str
    file: str
    md5: str
    licence: str
    cite: str


_MEDMNIST = {
    "pathmnist": "a8b06965200029087d5bd730944a56c1", "chestmnist": "02c8a6516a18b556561a56cbdd36c4a8",
    "dermamnist": "0744692d530f8e62ec473284d019b0c7", "octmnist": "c68d92d5b585d8d81f7112f81e2d0842",
    "pneumoniamnist": "28209eda62fecd6e6a2d98b1501bb15f", "retinamnist": "bd4c0672f1bba3e3a89f0e4e876791e4",
    "breastmnist": "750601b1f35ba3300ea97c75c52ff8f6", "bloodmnist": "7053d0359d879ad8a5505303e11de1dc",
    "tissuemnist": "ebe78ee8b05294063de985d821c1c34b", "organamnist": "68e3f8846a6bd62f0c9bf841c0d9eacc",
    "organcmnist": "0afa5834fb105f7705a7d93372119a21", "organsmnist": "e5c39f1af030238290b9557d9503af9d",
    "adrenalmnist3d": "bbd3c5a5576322bc4cdfea780653b1ce", "fracturemnist3d": "6aa7b0143a6b42da40027a9dda61302f",
    "nodulemnist3d": "8755a7e9e05a4d9ce80a24c3e7a256f3", "organmnist3d": "a0c5a1ff56af4f155c46d46fbb45a2fe",
    "synapsemnist3d": "1235b78a3cd6280881dd7850a78eadb6", "vesselmnist3d": "b41fd4f7e7e2feedddb201585ecafa1b",
}  # fmt: skip
_TASKS = {
    "Task01_BrainTumour": "240a19d752f0d9e9101544901065d872", "Task02_Heart": "06ee59366e1e5124267b774dbd654057",
    "Task03_Liver": "a90ec6c4aa7f6a3d087205e23d4e6397", "Task04_Hippocampus": "9d24dba78a72977dbd1d2e110310f31b",
    "Task05_Prostate": "35138f08b1efaef89d7424d2bcc928db", "Task06_Lung": "8afd997733c7fc0432f71255ba4e52dc",
    "Task07_Pancreas": "4f7080cfca169fa8066d17ce6eb061e4", "Task08_HepaticVessel": "641d79e80ec66453921d997fbf12a29c",
    "Task09_Spleen": "410d4a301da4e5b2f6f86ec3ddba524e", "Task10_Colon": "bad7a188931dc2f6acf72b08eb6202d0",
}  # fmt: skip
REMOTES: Mapping[str, Remote] = {
    **{
        name: Remote(
            _ZENODO, f"{name}.npz", digest, "CC BY-NC 4.0" if name == "dermamnist" else "CC BY 4.0",
            "J. Yang et al., MedMNIST v2, Sci. Data 10:41, 2023",
        )
        for name, digest in _MEDMNIST.items()
    },
    **{
        name: Remote(
            _DECATHLON, f"{name}.tar", digest, "CC BY-SA 4.0",
            "M. Antonelli et al., The Medical Segmentation Decathlon, Nat. Commun. 13:4128, 2022",
        )
        for name, digest in _TASKS.items()
    },
}  # fmt: skip
"""Data sets by name. A collection of The Cancer Imaging Archive is `tcia:NAME`."""


def get(
    name: str,
    out: str | Path,
    *,
    mirror: str | None = None,
    most: int | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Fetch a public data set into a folder of its name.

    What was fetched before is kept; a file that broke off is gone on with.

    Args:
        name: of `REMOTES`, or `tcia:COLLECTION`.
        out: the folder into which it comes.
        mirror: address of another server with the same files; of an API alike, for a collection.
        most: series of a collection at most.
        on_progress: told each block.
    Returns: the data set's folder.
    Raises: InputError for a name that is not known, or a server that does not answer; UnreadableFile for what arrived
        damaged.
    """
    folder = Path(out)
    if name.lower().startswith("tcia:"):
        return _collection(name[5:], folder, mirror or _TCIA, most, on_progress)
    found = next((row for key, row in REMOTES.items() if key.lower() == name.lower()), None)
    if found is None:
        raise InputError(f"no data set is called {name!r}; there are {', '.join(REMOTES)} and tcia:COLLECTION")
    if most is not None:
        raise InputError("--most is for collections of The Cancer Imaging Archive")
    target = folder / Path(found.file).stem
    if (target / SOURCE).is_file():
        return target
    url = f"{(mirror or found.base).rstrip('/')}/{found.file}"
    told = {"url": url, "md5": found.md5, "licence": found.licence, "cite": found.cite}
    if not found.file.endswith(".tar"):
        target.mkdir(parents=True, exist_ok=True)
        fetch(url, target / found.file, digest=found.md5, on_progress=on_progress)
        _note(target, told)
        return target
    if target.exists():
        raise InputError(
            f"{target}: is there already, and was not fetched by this command; name another folder with --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    packed = fetch(url, folder / found.file, digest=found.md5, on_progress=on_progress)
    _untar(packed, target, told)
    packed.unlink()
    return target


def fetch(url: str, target: Path, *, digest: str | None = None, on_progress: Progress | None = None) -> Path:
    """Fetch one file. What lies in `target.part` is gone on with, where the server can.

    Args:
        url: http or https.
        target: where it comes to lie, whole or not at all.
        digest: its MD5; None: unknown.
        on_progress: told each block.
    Raises: InputError where the server does not answer; UnreadableFile for a file with another checksum, which is
        removed.
    """
    if target.is_file() and (digest is None or _md5(target) == digest):
        return target
    part = target.with_name(f"{target.name}.part")
    for attempt in range(_TRIES):
        try:
            _go_on(url, part, target.name, on_progress)
            break
        except HTTPError as error:
            if error.code < 500 or attempt == _TRIES - 1:
                raise InputError(f"{url}: the server answers {error.code} {error.reason}; try --mirror") from error
        except (URLError, OSError, HTTPException) as error:
            if attempt == _TRIES - 1:
                done = part.stat().st_size if part.is_file() else 0
                raise InputError(
                    f"{url}: broke off after {done >> 20} MiB ({cause_of(error)}); the same command goes on from "
                    "there, --mirror names another server"
                ) from error
        time.sleep(_WAIT_S * 2**attempt)
    if digest is not None and (own := _md5(part)) != digest:
        part.unlink()
        raise UnreadableFile(
            f"{url}: arrived with the MD5 {own}, {digest} was published: it was removed; fetch it again"
        )
    part.replace(target)
    return target


def _go_on(url: str, part: Path, name: str, tell: Progress | None) -> None:
    """One connection, from where the file broke off.

    Raises: OSError where it ends before its length.
    """
    done = part.stat().st_size if part.is_file() else 0
    with _opened(url, {"Range": f"bytes={done}-"} if done else {}) as answer:
        if done and answer.status != 206:  # the server starts again
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else 0
        if done and done == total:
            return
        with part.open("ab" if done else "wb") as stream:
            while block := answer.read(_BLOCK):
                stream.write(block)
                done += len(block)
                if tell:
                    tell(f"fetching {name}", done, total or done)
    if total and done < total:
        raise OSError(f"{done} of {total} bytes")


def _opened(url: str, headers: dict[str, str]) -> HTTPResponse:
    """An answer.

    Raises: InputError for an address that is none; URLError, HTTPError.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(f"{url}: is no address ({error})") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url}: is no address; it begins with https://")
    request = Request(url, headers={"User-Agent": f"isocenter/{__version__}", **headers})  # noqa: S310 - checked above
    try:
        found: HTTPResponse = urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310 - checked above
    except HTTPError as error:
        if error.code == 416 and "Range" in headers:  # nothing is left to fetch
            return _opened(url, {k: v for k, v in headers.items() if k != "Range"})
        raise
    return found


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, lambda: md5(usedforsecurity=False)).hexdigest()


def _untar(packed: Path, target: Path, told: dict[str, Any]) -> None:
    """Unpack without leaving the folder, which appears whole or not at all; a single folder inside becomes it.

    Raises: UnreadableFile for what is no archive, or reaches out of its folder.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with tarfile.open(packed) as archive:
            for member in archive:
                if not Path(member.name).name.startswith("._"):  # what macOS packs beside
                    archive.extract(member, partial, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UnreadableFile(f"{packed}: cannot be unpacked ({cause_of(error)})") from error
    inside = list(partial.iterdir())
    source = inside[0] if len(inside) == 1 and inside[0].is_dir() else partial
    _note(source, told)
    source.rename(target)
    shutil.rmtree(partial, ignore_errors=True)


def _collection(name: str, folder: Path, base: str, most: int | None, tell: Progress | None) -> Path:
    """Every series of a collection of The Cancer Imaging Archive, a folder a patient and series.

    Source: NBIA REST API, services v1 (`getSeries`, `getImage`).
    """
    rows = _listed(f"{base.rstrip('/')}/getSeries?{urlencode({'Collection': name, 'format': 'json'})}", name)
    target = folder / _plain(name)
    rows.sort(key=lambda row: (str(row.get("PatientID", "")), str(row["SeriesInstanceUID"])))
    for number, row in enumerate(rows[:most]):
        uid = str(row["SeriesInstanceUID"])
        place = target / _plain(str(row.get("PatientID", "unknown"))) / _plain(uid)
        if tell:
            tell(f"series {number + 1} of {len(rows[:most])}", number, len(rows[:most]))
        if place.is_dir():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        url = f"{base.rstrip('/')}/getImage?SeriesInstanceUID={quote(uid)}"
        packed = fetch(url, place.with_name(f"{place.name}.zip"))
        _unzip(packed, place)
        packed.unlink()
    licences = sorted({str(row["LicenseName"]) for row in rows if row.get("LicenseName")})
    _note(target, {"url": base, "collection": name, "series": len(rows[:most]), "of": len(rows),
                   "licence": "; ".join(licences) or "see the collection's page"})  # fmt: skip
    return target


def _listed(url: str, name: str) -> list[dict[str, Any]]:
    """Rows of an API's answer.

    Raises: InputError for a server that does not answer, or a collection without series.
    """
    try:
        with _opened(url, {}) as answer:
            data = json.loads(answer.read(_MOST_LIST) or b"[]")
    except (URLError, OSError, HTTPException, ValueError, RecursionError) as error:
        raise InputError(f"{url}: gives no list of series ({cause_of(error)})") from error
    rows = (
        [row for row in data if isinstance(row, dict) and row.get("SeriesInstanceUID")]
        if isinstance(data, list)
        else []
    )
    if not rows:
        raise InputError(
            f"The Cancer Imaging Archive lists no series of the collection {name!r}: is it spelt as there?"
        )
    return rows


def _plain(text: str) -> str:
    """A name for a folder."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text).strip(".") or "_"


def _unzip(packed: Path, place: Path) -> None:
    """Files of a zip, flat in a folder that appears whole or not at all.

    Raises: UnreadableFile for what is no zip, or is damaged.
    """
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with zipfile.ZipFile(packed) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            _require_bounded(members)
            for number, member in enumerate(members):
                name = _plain(Path(member.filename).name)
                place_in = partial / name if not (partial / name).exists() else partial / f"{number}-{name}"
                with archive.open(member) as source, place_in.open("xb") as stream:
                    shutil.copyfileobj(source, stream)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error, LZMAError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        packed.unlink(missing_ok=True)
        raise UnreadableFile(f"{packed.name}: arrived damaged ({cause_of(error)}); fetch it again") from error
    partial.replace(place)


def _require_bounded(members: list[zipfile.ZipInfo]) -> None:
    if sum(m.file_size for m in members) > _MOST_UNPACKED:
        raise zipfile.BadZipFile(f"unpacks to more than {_MOST_UNPACKED >> 30} GiB")


def _note(target: Path, told: dict[str, Any]) -> None:
    (target / SOURCE).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
