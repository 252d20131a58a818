"""The models that ship: a folder each, with card, weights and the plan that they were trained by."""

from pathlib import Path

from isocenter.errors import InputError

CARD = "card.json"


def names() -> list[str]:
    """Models that come with isocenter."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob(f"*/{CARD}"))


def model_path(name: str | Path) -> Path:
    """The folder of a model: the one that is given, or the one that ships under this name.

    Raises: InputError for neither.
    """
    given = Path(name)
    if str(name) in names() and not (given / CARD).is_file():
        return Path(__file__).parent / str(name)  # also where a data set of this name lies here
    try:
        if given.is_dir():
            return given
    except OSError as error:  # a name that no file system holds
        raise InputError(f"{str(name)[:80]}: is no folder ({error.strerror})") from error
    raise InputError(f"{name}: is no model's folder, and none that ships is called so; there are {', '.join(names())}")
