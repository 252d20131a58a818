"""PNG, JPEG and TIFF: pixels without millimetres."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume
from isocenter.errors import IsocenterError, UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.header import LIMIT_BYTES, ImageHeader, made_image, within_budget
from isocenter.types import Array

_CHANNELS = {"1": 1, "L": 1, "I": 1, "F": 1, "I;16": 1, "I;16L": 1, "I;16B": 1, "P": 3, "RGB": 3}
_FORMATS = ("PNG", "JPEG", "TIFF")
_BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8
_EXIF_ORIENTATION = 274
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339


def read_header(path: Path) -> ImageHeader:
    """Size and channels of a PNG, JPEG or TIFF file; pages of a TIFF are slices.

    Raises: UnreadableFile, or UnsupportedFormat for pixels that would lose bits or meaning (16-bit colour,
        transparency, CMYK).
    """
    with _opened(path) as image, _readable(path):
        return _header(path, image)


def read(path: Path) -> Volume:
    """Pixels of a PNG, JPEG or TIFF file."""
    with _opened(path) as image, _readable(path):
        header = _header(path, image)
        mode, size, pages = image.mode, image.size, []
        for page in range(header.geometry.shape[0]):
            image.seek(page)
            if image.size != size or image.mode != mode:
                raise UnsupportedFormat(f"{path.name}: page {page + 1} differs from the first; split the file")
            pages.append(_pixels(image))
    voxels = np.moveaxis(np.stack(pages), -1, 0)
    return Volume(voxels, header.geometry, history=(Step("acquire.raster", {"file": path.name}),))


def write(image: Volume | LabelMap, path: Path, *, text: Mapping[str, str] | None = None) -> None:
    """Write one picture as PNG: grey of 8 or 16 bits, or colour of 8, every value as it is.

    Args:
        image: what is written.
        path: of the file.
        text: keywords of the PNG and what they say.

    Raises: UnsupportedFormat for several slices, or values that a PNG cannot hold.
    """
    voxels = image.voxels if isinstance(image, Volume) else image.voxels[None]
    if voxels.shape[1] != 1:
        raise UnsupportedFormat(f"PNG is written with one slice; this image has {voxels.shape[1]}: write NIfTI or NRRD")
    picture = voxels[:, 0]
    low, high = picture.min(), picture.max()
    most = 255 if len(picture) == 3 else 65535
    whole = picture.dtype.kind in "iu" or bool(np.all(picture == np.rint(picture)))
    if len(picture) not in (1, 3) or not whole or low < 0 or high > most:
        raise UnsupportedFormat(
            f"PNG holds whole numbers from 0 to {most}; this image has {low:g} to {high:g} in {len(picture)} channels: "
            "write NRRD"
        )
    kept = picture.astype(np.uint8 if high <= 255 else np.uint16)
    said = PngInfo()
    for key, value in (text or {}).items():
        said.add_text(key, value)
    made = Image.fromarray(np.ascontiguousarray(kept[0] if len(kept) == 1 else np.moveaxis(kept, 0, -1)))
    made.save(path, "PNG", pnginfo=said)


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=_FORMATS)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableFile(f"{path.name}: not a readable PNG, JPEG or TIFF file ({error})") from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever Pillow stumbles over is the file's fault."""
    try:
        yield
    except IsocenterError:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"{path.name}: its pixels cannot be read ({cause_of(error)}); copy the file again"
        ) from error


def _header(path: Path, image: Image.Image) -> ImageHeader:
    channels = _CHANNELS.get(image.mode)
    if channels is None:
        raise UnsupportedFormat(
            f"{path.name}: {image.mode} pixels are not read; save it as grey or RGB without transparency first"
        )
    if channels == 3 and _bits(image, path) > 8:
        raise UnsupportedFormat(f"{path.name}: colour of more than 8 bits would lose bits; save each channel as grey")
    pages = int(getattr(image, "n_frames", 1))
    if pages > 1 and image.format != "TIFF":
        raise UnsupportedFormat(f"{path.name}: holds {pages} pictures; save the one that is meant")
    if "transparency" in image.info:
        raise UnsupportedFormat(f"{path.name}: has transparent pixels; save it as grey or RGB without transparency")
    if image.format == "TIFF":
        _require_plain_tiff(path, image)
    width, height = image.size
    claimed = pages * width * height * channels
    within_budget(claimed, path.stat().st_size, what=path.name, compressed=True)
    if width * height > (Image.MAX_IMAGE_PIXELS or LIMIT_BYTES) * 2:
        raise UnreadableFile(f"{path.name}: claims {width} x {height} pixels in {path.stat().st_size} bytes: refused")
    if image.getexif().get(_EXIF_ORIENTATION, 1) >= 5:
        width, height = height, width
    made = (made_image("synthetic"),) if str(image.info.get("Synthetic", "")).lower() == "true" else ()
    return ImageHeader(Geometry.regular((pages, height, width), space=Space.PIXELS), channels, made)


def _require_plain_tiff(path: Path, image: Image.Image) -> None:
    """Refuse TIFF variants that Pillow decodes to other values than the file holds."""
    tags = getattr(image, "tag_v2", {})
    bits, kinds = _bits(image, path), tags.get(_SAMPLE_FORMAT, (1,))
    signed_or_odd = any(kind != (3 if bits == 32 else 1) for kind in kinds)
    if bits not in (1, 8, 16, 32) or signed_or_odd:
        raise UnsupportedFormat(f"{path.name}: {bits}-bit samples of format {kinds[0]} are not read; save as 16-bit")
    if bits > 8 and tags.get(_PHOTOMETRIC) == 0:
        raise UnsupportedFormat(f"{path.name}: white is zero in this {bits}-bit TIFF; save it with black as zero")
    if tags.get(_EXIF_ORIENTATION, 1) != 1:
        raise UnsupportedFormat(f"{path.name}: a turned TIFF (orientation tag); save it upright")


def _bits(image: Image.Image, path: Path) -> int:
    """Bits of one sample, as the file states it: Pillow shortens 16-bit colour to 8 without a word."""
    if image.format == "PNG":
        with path.open("rb") as stream:
            return stream.read(25)[24]  # IHDR: PNG specification, 11.2.2
    stated = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    return int(max(stated if isinstance(stated, tuple) else (stated,)))


def _pixels(image: Image.Image) -> Array:
    """`h w c` of the current page, turned as its EXIF says."""
    if image.mode == "P":
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    image = ImageOps.exif_transpose(image)
    array = np.asarray(image)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    return array[..., None] if array.ndim == 2 else array
