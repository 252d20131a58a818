"""Every error that isocenter raises on purpose.

    IsocenterError
    ├── InputError                 what came cannot be used (exit code 2)
    │   ├── UnreadableFile         not an image, truncated, or hostile
    │   │   ├── NothingReadable    a path that holds no image at all
    │   │   └── TruncatedPixels    an image of a known series whose pixels are cut off
    │   ├── UnsupportedFormat      a file of a kind that is not read, or not written
    │   ├── IrregularSeries        slices that do not form one regular grid
    │   ├── AmbiguousSelection     more than one candidate, or none, where one was needed
    │   └── RecipeError            a recipe that says something it may not
    ├── GeometryError              grids that differ, or cannot be
    │   └── UnitError              a unit that the image does not have
    ├── DegenerateImage            an image on which the method has no answer
    ├── NotEnoughMemory            a step would take more memory than may be used
    ├── ReadBackMismatch           a written file does not say what was meant
    └── MissingExtra               an optional package is needed and absent

Each message says what came, what was wanted, and what to do next.
"""


class IsocenterError(Exception):
    """Base of all errors that isocenter raises on purpose."""


class InputError(IsocenterError):
    """What came cannot be used."""


class UnreadableFile(InputError):
    """A file that is not an image, is truncated, or is hostile."""


class NothingReadable(UnreadableFile):
    """A path that holds no image at all.

    Args:
        message: the sentence.
        files: each file that was looked at, and why it is none.
    """

    def __init__(self, message: str, files: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.files = files


class TruncatedPixels(UnreadableFile):
    """An image of a known series whose pixels are cut off or absent.

    Args:
        message: the sentence.
        series_uid: Series Instance UID of the image, once it is known.
    """

    def __init__(self, message: str, series_uid: str = "") -> None:
        super().__init__(message)
        self.series_uid = series_uid


class UnsupportedFormat(InputError):
    """A file of a kind that is not read, or not written."""


class IrregularSeries(InputError):
    """Slices that do not form one regular grid."""


class AmbiguousSelection(InputError):
    """More than one candidate, or none, where exactly one was needed."""


class RecipeError(InputError):
    """A recipe that says something it may not."""


class GeometryError(IsocenterError):
    """Grids that differ where they must agree, or a grid that cannot be."""


class UnitError(GeometryError):
    """A unit was asked for that the image does not have."""


class DegenerateImage(IsocenterError):
    """An image on which the method has no answer."""


class NotEnoughMemory(IsocenterError):
    """A step would take more memory than may be used."""


class ReadBackMismatch(IsocenterError):
    """A written file, read back by a second library, does not say what was meant."""


class MissingExtra(IsocenterError):
    """An optional package is needed and absent."""


def cause_of(error: Exception) -> str:
    """What a library says went wrong, on one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
