"""What a file says of its image before voxels are read, and the bound on what it may claim."""

from dataclasses import dataclass, field

from isocenter.data.case import Defect
from isocenter.data.geometry import Geometry, Space
from isocenter.data.message import Message
from isocenter.errors import UnreadableFile

LIMIT_BYTES = 16 * 2**30
"""A file that claims more decoded bytes than this is refused before anything is allocated."""
DEFLATE_RATIO = 1032
"""No deflate stream grows more than this (zlib's technical notes)."""


MADE = ("synthetic", "simulated", "foretold")
"""How our own files say that nobody was scanned for their image."""


def made_image(how: str) -> Defect:
    """What must be known of an image that a program made."""
    text = Message("the file says that its image is {how}: a program made it, and no scanner measured it", {"how": how})
    return Defect("made-image", text, fatal=False)


@dataclass(frozen=True)
class ImageHeader:
    """Grid and channels of an image file, and what is wrong with it."""

    geometry: Geometry
    channels: int = 1
    defects: tuple[Defect, ...] = field(default=())
    frames: int = 1

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Spacing, or None where the file has no millimetres."""
        return None if self.geometry.space is Space.PIXELS else self.geometry.spacing_mm


def within_budget(claimed: int, available: int, *, what: str, compressed: bool) -> None:
    """Refuse a header that claims more than its file can hold.

    Args:
        claimed: bytes that the header's sizes amount to.
        available: bytes of the file that hold them.
        what: the file's name, for the sentence.
        compressed: the bytes are deflated.
    Raises: UnreadableFile.
    """
    possible = available * DEFLATE_RATIO if compressed else available
    if claimed > LIMIT_BYTES:
        raise UnreadableFile(
            f"{what}: the header claims {claimed / 2**30:.1f} GiB of voxels; more than {LIMIT_BYTES / 2**30:.0f} GiB "
            "is not read: the header is broken, or the image must be cut into parts"
        )
    if claimed > possible:
        raise UnreadableFile(
            f"{what}: the header claims {claimed} bytes of voxels, the file holds {available}"
            f"{' compressed' if compressed else ''}: it is truncated or its header is broken; copy it again"
        )
