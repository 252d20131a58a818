"""Options that commands of learning share, and texts as the library takes them."""

from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

from typer import Option

if TYPE_CHECKING:
    from isocenter.data.card import Task
    from isocenter.data.dataset import Answers
    from isocenter.training.images.start import Freeze
    from isocenter.training.table import Columns

Group = Annotated[str | None, Option(help="Column of patients; one with a usual name (patient) is taken by itself.")]
Site = Annotated[str | None, Option(help="Column of institutions.")]
Split = Annotated[str | None, Option("--split-column", help="Column that says train, val or test; `split` by itself.")]
Subgroups = Annotated[
    list[str] | None, Option("--subgroup", help="Column by which results are broken down; repeatable.")
]
Seed = Annotated[int, Option(help="Of folds, models and resampling.")]


def freeze_of(text: str) -> "Freeze":
    """How much of given weights does not learn.

    Raises: InputError.
    """
    from isocenter.errors import InputError

    if text not in ("none", "half", "all"):
        raise InputError(f"--freeze {text}: there are none, half and all")
    return cast("Freeze", text)


def seconds_of(text: str) -> float:
    """A duration such as 90s, 20m, 1.5h.

    Raises: InputError.
    """
    from isocenter.errors import InputError

    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    try:
        seconds = float(text[:-1]) * units[text[-1]]
    except (ValueError, KeyError, IndexError):
        seconds = 0.0
    if not 1 <= seconds <= 1e7:
        raise InputError(f"--budget {text}: write a time such as 90s, 20m or 2h")
    return seconds


def bytes_of(text: str) -> int:
    """An amount of memory such as 4G or 800M.

    Raises: InputError.
    """
    from isocenter.errors import InputError

    units = {"M": 2**20, "G": 2**30}
    try:
        found = float(text[:-1]) * units[text[-1].upper()]
    except (ValueError, KeyError, IndexError):
        found = 0.0
    if not 2**26 <= found <= 2**46:
        raise InputError(f"--memory {text}: write an amount such as 4G or 800M")
    return int(found)


def changes_of(texts: list[str]) -> dict[str, Any]:
    """Fields of a plan from `field=value`; a value is JSON, or a text.

    Raises: InputError.
    """
    from isocenter.errors import InputError
    from isocenter.training.images.trials import SHORT, value_of

    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InputError(f"--set {text}: write FIELD=VALUE, as schedule.learning_rate=1e-3")
        found[SHORT.get(name, name)] = value_of(value)
    return found


def columns_of(
    *,
    target: str | None,
    time: str | None,
    event: str | None,
    group: str | None,
    site: str | None,
    split: str | None,
    features: list[str] | None,
    drop: list[str] | None,
    subgroups: list[str] | None,
    positive: str | None,
) -> "Columns":
    """The options as the library takes them."""
    from isocenter.training.table import Columns

    return Columns(
        target=target or "", time=time or "", event=event or "", group=group, site=site, split=split,
        features=tuple(features or ()), drop=tuple(drop or ()), subgroups=tuple(subgroups or ()), positive=positive,
    )  # fmt: skip


def image_task_of(text: str | None) -> "Answers | None":
    """A task of images, checked.

    Raises: InputError.
    """
    from isocenter.errors import InputError

    if task_of(text) == "survive":
        raise InputError(
            "--task survive: images are classified, regressed, segmented or made better, or objects found in them"
        )
    return cast("Answers | None", text)


def task_of(text: str | None) -> "Task | None":
    """A task's name, checked.

    Raises: InputError.
    """
    from isocenter.data.card import Task
    from isocenter.errors import InputError

    known = get_args(Task)
    if text is not None and text not in known:
        raise InputError(f"--task {text}: there are {', '.join(known)}")
    return cast("Task | None", text)
