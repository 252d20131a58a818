"""One step on one image, to see what it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from isocenter import preprocess, segment
from isocenter.acquire.case import open_case
from isocenter.acquire.given import given_labels
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json, Step
from isocenter.data.step import USUAL_MEMORY, Settings, StepKind
from isocenter.data.transform import Transform
from isocenter.data.volume import Volume
from isocenter.errors import InputError, RecipeError
from isocenter.ops import memory
from isocenter.segment import Otsu, otsu

STEPS: dict[str, StepKind] = {**preprocess.STEPS, **segment.STEPS}


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one step made of an image.

    Args:
        before: the image.
        after: the new image, or labels on the image's grid.
        step: what was done, with its settings and what it found.
        picture: the PNG that was written.
    """

    before: Volume
    after: Volume | LabelMap
    step: Step
    picture: Path


def try_step(
    step: str,
    image: str | Path,
    out: str | Path | None = None,
    *,
    settings: Mapping[str, Json] | None = None,
    mask: str | Path | None = None,
    to: str | Path | None = None,
    series: str | None = None,
    memory_gib: float | None = None,
) -> Attempt:
    """Run one preprocessing or segmenting step and write a picture of before and after.

    Args:
        step: its name, as on the page of steps.
        image: anything that `open` opens.
        out: the PNG; without it, `try-STEP.png` here.
        settings: of the step.
        mask: a label map: what a step on labels works on (without one: Otsu's threshold of the image), the markers of
            one that wants some, or where a step that can stays inside.
        to: the other image of a step that takes two.
        series: UID of the series, where there are several.
        memory_gib: most memory the step may take; None: four fifths of the machine's.
    Raises: InputError for an unknown step or setting, with the nearest spelling.
    """
    kind = _kind(step)
    chosen = _settings(step, kind, settings or {})
    target = Path(out) if out is not None else Path(f"try-{step}.png")
    if target.suffix.lower() != ".png":
        raise InputError(f"{target.name}: the picture is a PNG; give it that ending")
    volume = open_case(image).volume(series)
    if target.resolve() == Path(image).resolve():
        raise InputError(f"{target}: is the input itself; give the picture another name")
    if kind.takes != "pair" and to is not None:
        raise InputError(f"{step} works on one image: leave --to away")
    if kind.takes == "pair" and mask is not None:
        raise InputError(f"{step} takes two images and no mask")
    if volume.channels == 3 and kind.run.__module__.rpartition(".")[2] not in ("denoise", "colour", "grid"):
        volume = preprocess.channel(volume, preprocess.Channel())  # most steps want one channel; history says so
    labels = given_labels(Path(mask), "mask", volume.geometry)[0] if mask is not None else None
    if kind.memory > USUAL_MEMORY:
        memory.require(kind.memory, voxels=volume.voxels.size, limit_gib=memory_gib, what=step)
    if kind.takes != "labels":
        volume.require_finite()
    after = _done(step, kind, chosen, volume, labels=labels, to=to)
    from isocenter.report.comparison import before_after

    done = after.history[-1]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(before_after(volume, after, title=_title(step, chosen)))
    return Attempt(volume, after, done, target)


def _kind(step: str) -> StepKind:
    if step in STEPS:
        return STEPS[step]
    near = get_close_matches(step, STEPS, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InputError(f"no step that can be tried is called {step[:80]!r}{hint}; there are {', '.join(STEPS)}")


def _settings(step: str, kind: StepKind, given: Mapping[str, Json]) -> Settings:
    try:
        return kind.settings.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(p) for p in first["loc"]) or step
        plain = {
            "extra_forbidden": "there is no such setting",
            "tuple_type": "a list is needed, such as [a, b], or [[0, 1, 2]] for points",
            "missing": "this setting is needed",
        }
        said = plain.get(first["type"], first["msg"].removeprefix("Value error, "))
        known = ", ".join(kind.settings.model_fields) or "none"
        raise RecipeError(f"{step}: {key}: {said}; its settings are {known} (--set KEY=VALUE)") from error


def _done(
    step: str,
    kind: StepKind,
    settings: Settings,
    volume: Volume,
    *,
    labels: LabelMap | None,
    to: str | Path | None,
) -> Volume | LabelMap:
    if kind.takes == "volume":
        if labels is not None and not kind.within:
            raise InputError(f"{step} takes no mask: it works on the whole image")
        result: Volume | LabelMap = kind.run(volume, settings, **({"within": labels} if labels is not None else {}))
        return result
    if kind.takes == "pair":
        if to is None:
            raise InputError(f"{step} takes two images: name the other with --to IMAGE")
        done: Volume | tuple[Volume, Transform] = kind.run(volume, open_case(to).volume(), settings)
        return done[0] if isinstance(done, tuple) else done
    if kind.takes == "region":
        if labels is None:
            raise InputError(f"{step} needs markers: give a label map with --mask FILE")
        marked: LabelMap = kind.run(volume, labels, settings)
        return marked
    changed: LabelMap = kind.run(labels if labels is not None else otsu(volume, Otsu()), settings)
    return changed


def _title(step: str, settings: Settings) -> str:
    said = ", ".join(f"{k} = {v}" for k, v in settings.model_dump(mode="json", exclude_none=True).items())
    text = f"{step}: {said}" if said else step
    return text if len(text) <= 76 else text[:73] + "..."
