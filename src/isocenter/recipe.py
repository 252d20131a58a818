"""What a recipe is: a YAML file that says which series it takes and what is done to it, validated, never evaluated.

    name: brain-mr
    title: {en: Brain tissue volumes, zh: 脑组织体积}
    description: {en: ..., zh: ...}
    select:
      modality: [MR]
      prefer: [thinnest, most_slices]
    steps:
      - preprocess: median
        radius_mm: 1
      - segment: brain
        as: brain

Each entry of `steps` names a stage and one of its steps; the other keys are that step's settings, or wiring:
`as` (name of the result), `of` (label map to work on), `within` (label map to stay inside), `on` (volume to work on),
`to` (the other volume of a step that takes two). `given` names what the user brings beside the study: masks, another
image (`isocenter run RECIPE STUDY --with NAME=PATH`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from functools import cache, reduce
from hashlib import sha256
from importlib.resources import files
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator

from isocenter import analyse, features, preprocess, segment
from isocenter.acquire.select import Select
from isocenter.data.provenance import Json
from isocenter.data.step import Settings, StepKind
from isocenter.errors import IsocenterError, RecipeError
from isocenter.formats.model_folder import CARD, read_card
from isocenter.inference.as_recipe import recipe_text
from isocenter.zoo import model_path

STAGES: dict[str, dict[str, StepKind]] = {
    "preprocess": preprocess.STEPS,
    "segment": segment.STEPS,
    "features": features.STEPS,
    "analyse": analyse.STEPS,
}
"""Stages whose steps a recipe lists. Acquisition is `select`, the report is `report`."""

_LIMIT_BYTES = 256 * 1024
_DEEPEST = 12
_NAME = r"^[a-z0-9][a-z0-9_-]{0,47}$"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Words(_Model):
    """A text in both languages of the report."""

    en: str
    """English."""
    zh: str
    """Simplified Chinese."""


class Given(_Model):
    """Something that the user brings beside the study."""

    kind: Literal["volume", "labels"]
    """Another image, or a label map (NIfTI, NRRD, PNG, DICOM SEG, RTSTRUCT)."""
    needed: bool = True
    """Without it the study is refused."""
    on: str | None = None
    """Labels: the given volume on which they were drawn; without it, the study's own."""
    select: Select = Select()
    """Which series of another image is taken."""
    description: Words
    """What it is, in both languages."""


class Report(_Model):
    """What the report shows."""

    overlay: str | None = None
    """Label map that is drawn over the pictures."""
    image: str = "original"
    """Volume that the pictures show: `original`, `image`, or one that a step made."""
    window: tuple[float, float] | None = None
    """Intensities shown black and white; none: soft tissue for HU, otherwise what the image holds."""
    compare: tuple[str, str] | None = None
    """Two volumes of one grid that are shown side by side, as a checkerboard, and as their difference."""

    @field_validator("window")
    @classmethod
    def _ordered(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError(f"black must lie below white; got {ends[0]:g} and {ends[1]:g}")
        return ends


@dataclass(frozen=True)
class RecipeStep:
    """One entry of `steps`, validated."""

    stage: str
    name: str
    kind: StepKind
    settings: Settings
    output: str | None
    of: str | None
    within: str | None
    on: str | None
    to: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A validated recipe; `weights` are the hashes of the models that it names."""

    name: str
    title: Words
    description: Words
    select: Select
    steps: tuple[RecipeStep, ...] = field(repr=False)
    report: Report = field(repr=False)
    text: str = field(repr=False)
    given: Mapping[str, Given] = field(default_factory=dict)
    weights: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the text, and of the models that it names: other weights are another recipe."""
        return sha256("\n".join((self.text, *self.weights)).encode()).hexdigest()


class _Document(_Model):
    """A recipe: which series it takes, and what is done to it."""

    name: Annotated[str, Field(pattern=_NAME)]
    """Lower-case letters, digits, hyphens."""
    title: Words
    """What the report is called."""
    description: Words
    """What it does, in one or two sentences."""
    select: Select = Select()
    """Which series it takes."""
    given: dict[Annotated[str, Field(pattern=_NAME)], Given] = {}
    """What the user brings beside the study, by name."""
    steps: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    """What is done, in this order."""
    report: Report = Report()
    """What the report shows."""


def shipped() -> dict[str, Recipe]:
    """The recipes that come with isocenter, by name."""
    library = files("isocenter") / "recipe_library"
    found = sorted((f for f in library.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {f.name.removesuffix(".yaml"): parse(f.read_text("utf-8"), source=f.name) for f in found}


def load(name_or_path: str | Path) -> Recipe:
    """A shipped recipe by name, a YAML file, or a model's folder: what it says of an image.

    Raises: RecipeError that names the file, line and key; InputError for a model that looks at no images.
    """
    library = files("isocenter") / "recipe_library" / f"{str(name_or_path)[:100]}.yaml"
    path = Path(name_or_path)
    if _is_model(path):
        return parse(recipe_text(path, read_card(path)), source=str(path))
    if path.suffix.lower() not in (".yaml", ".yml"):
        if "/" not in str(name_or_path) and "\\" not in str(name_or_path) and library.is_file():
            return parse(library.read_text("utf-8"), source=library.name)
        names = list(shipped())
        raise RecipeError(
            f"no recipe is called {_shown(str(name_or_path))}{_nearest(str(name_or_path), names)}; "
            f"shipped: {', '.join(names)}; "
            "or give a path that ends in .yaml"
        )
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise RecipeError(f"{path}: a recipe is at most {_LIMIT_BYTES // 1024} kB of YAML")
        text = path.read_text("utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: the recipe cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: a recipe is UTF-8 text; byte {error.start} is not") from error
    return parse(text, source=str(path))


def _is_model(path: Path) -> bool:
    try:
        return (path / CARD).is_file()
    except OSError:  # a name that no file system holds
        return False


def parse(text: str, *, source: str) -> Recipe:
    """Read and validate a recipe.

    Args:
        text: YAML.
        source: what to call it in errors.
    Raises: RecipeError that names the line, the key, what is allowed and the nearest spelling.
    """
    plain, lines = _read_yaml(text, source)
    if not isinstance(plain, dict):
        raise RecipeError(f"{source}: a recipe is a mapping that starts with `name:`")
    try:
        document = _Document.model_validate(plain)
    except ValidationError as error:
        raise _explained(error, lines, source, (), _Document) from error
    steps = tuple(_step(entry, ("steps", i), lines, source) for i, entry in enumerate(document.steps))
    _wired(steps, document, lines, source)
    d = document
    weights = _weights(steps, lines, source)
    return Recipe(d.name, d.title, d.description, d.select, steps, d.report, text, d.given, weights)


def _weights(steps: tuple[RecipeStep, ...], lines: "_Lines", source: str) -> tuple[str, ...]:
    """Hashes of the models that steps name, each of which must be there.

    Raises: RecipeError with the line of the step.
    """
    found = []
    for index, step in enumerate(steps):
        name = getattr(step.settings, "model", None)
        if name is None:
            continue
        try:
            found.append(read_card(model_path(name)).weights_sha256)
        except IsocenterError as error:
            raise RecipeError(f"{source}, line {lines.of(('steps', index))}: model: {error}") from error
    return tuple(found)


def json_schema() -> dict[str, Json]:
    """JSON Schema of a recipe, for editors: every step with its settings."""
    models = [_step_model(stage, name) for stage, table in STAGES.items() for name in table]
    document = create_model("Recipe", __base__=_Document, steps=(tuple[_union(models), ...], Field(min_length=1)))  # type: ignore[arg-type, misc]
    schema = document.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _union(models: list[type[BaseModel]]) -> Any:
    return reduce(or_, models)


@cache
def _step_model(stage: str, name: str) -> type[BaseModel]:
    """Settings of a step with the stage key and the wiring that it takes."""
    kind = STAGES[stage][name]
    wiring: dict[str, Any] = {stage: (Literal[name], Field(description=kind.summary))}
    text = Annotated[str, Field(pattern=_NAME)]
    if stage == "segment":
        wiring["as_"] = (text, Field(alias="as", description="Name of the label map that this step makes."))
    if stage == "preprocess":
        words = "Name of a new volume for the result; without it the result replaces `on`."
        wiring["as_"] = (text | None, Field(None, alias="as", description=words))
    if kind.takes in ("labels", "region"):
        wiring["of"] = (text, Field(description="Label map to work on."))
    if kind.takes in ("volume", "region", "pair"):
        words = "Volume to work on: `image` (as preprocessed so far), `original`, or one given or made."
        wiring["on"] = (text, Field("image", description=words))
    if kind.takes == "pair":
        wiring["to"] = (text, Field(description="The other volume; the result lies where its summary says."))
    if kind.within:
        wiring["within"] = (text | None, Field(None, description="Label map to stay inside."))
    clash = set(wiring) & set(kind.settings.model_fields)
    if kind.takes == "case":
        clash -= {"of", "to", "on"}
    assert not clash, f"{stage} {name}: the settings {clash} hide the wiring of the same name"
    return create_model(f"{stage}_{name}", __base__=kind.settings, **wiring)


def _step(entry: dict[str, Any], at: tuple[str | int, ...], lines: "_Lines", source: str) -> RecipeStep:
    """Validate one entry of `steps`."""
    where = f"{source}, line {lines.of(at)}"
    stages = [key for key in entry if key in STAGES]
    if len(stages) != 1:
        odd = next((str(key) for key in entry), "")
        hint = _nearest(odd, list(STAGES)) if not stages else ""
        raise RecipeError(f"{where}: each step names exactly one stage of {list(STAGES)}; this has {list(entry)}{hint}")
    stage, name = stages[0], entry[stages[0]]
    if not isinstance(name, str) or name not in STAGES[stage]:
        allowed = list(STAGES[stage])
        raise RecipeError(
            f"{source}, line {lines.of((*at, stage))}: {stage} has no step {_shown(name)}"
            f"{_nearest(str(name), allowed)}; it has {allowed}"
        )
    kind = STAGES[stage][name]
    model = _step_model(stage, name)
    try:
        filled = model.model_validate(entry)
    except ValidationError as error:
        raise _explained(error, lines, source, at, model) from error
    wiring = {key: getattr(filled, key, None) for key in ("as_", "of", "within", "on", "to")}
    settings = kind.settings.model_validate({key: getattr(filled, key) for key in kind.settings.model_fields})
    of = wiring["of"] if kind.takes != "case" else None
    to = wiring["to"] if kind.takes == "pair" else None
    return RecipeStep(stage, name, kind, settings, wiring["as_"], of, wiring["within"], wiring["on"], to)


def _require_given_order(document: _Document, lines: "_Lines", source: str) -> None:
    """Refuse labels that lie on a volume which is not given, or given after them."""
    volumes: list[str] = []
    for name, given in document.given.items():
        if given.on is not None and (given.kind != "labels" or given.on not in volumes):
            place = lines.of(("given", name, "on"))
            raise RecipeError(
                f"{source}, line {place}: `on: {given.on}` is for labels, and names a volume that is given before them"
            )
        if given.kind == "volume":
            volumes.append(name)


def _wired(  # noqa: C901 - one rule after the other
    steps: tuple[RecipeStep, ...], document: _Document, lines: "_Lines", source: str
) -> None:
    """Refuse a label map or volume that is used before it is made, and a name that means two things."""
    made = {
        "label map": [name for name, given in document.given.items() if given.kind == "labels"],
        "volume": ["image", "original", *(name for name, given in document.given.items() if given.kind == "volume")],
    }

    def known(kind: str, name: str, place: tuple[str | int, ...]) -> None:
        if name not in made[kind]:
            raise RecipeError(
                f"{source}, line {lines.of(place)}: `{place[-1]}: {name}` names a {kind} that no step before this one "
                f"makes{_nearest(name, made[kind])}; made so far: {made[kind] or 'none'}"
            )

    def free(name: str, kinds: tuple[str, ...], place: tuple[str | int, ...]) -> None:
        if name == "original" or any(name in made[kind] for kind in kinds):
            raise RecipeError(f"{source}, line {lines.of(place)}: the name {name!r} is taken; choose another")

    for name in [n for n in document.given if n in ("image", "original")]:
        raise RecipeError(f"{source}, line {lines.of(('given', name))}: the name {name!r} is taken; choose another")
    _require_given_order(document, lines, source)
    for index, step in enumerate(steps):
        for key, used, kind in _used(step):
            known(kind, used, ("steps", index, key))
        if step.output is not None:
            own, other = ("label map", "volume") if step.stage == "segment" else ("volume", "label map")
            refined = step.output in (step.of, step.on if step.stage == "preprocess" else None)
            free(step.output, (other,) if refined else (other, own), ("steps", index, "as"))
            made[own].append(step.output)
    shown = document.report
    for name in filter(None, (shown.overlay,)):
        known("label map", name, ("report", "overlay"))
    for key, names in (("image", (shown.image,)), ("compare", shown.compare or ())):
        for name in names:
            known("volume", name, ("report", key))


def _used(step: RecipeStep) -> list[tuple[str, str, str]]:
    """What a step needs: key, name, and whether it is a label map or a volume."""
    found = [("of", step.of, "label map"), ("within", step.within, "label map")]
    if step.kind.takes == "case":
        found = [(k, v, "label map") for k, v in step.settings.model_dump().items() if k in step.settings.label_maps]
    found += [("on", step.on, "volume"), ("to", step.to, "volume")]
    return [(key, name, kind) for key, name, kind in found if name is not None]


class _Lines:
    """Line of each key of a YAML document."""

    def __init__(self) -> None:
        self._at: dict[tuple[str | int, ...], int] = {(): 1}

    def note(self, place: tuple[str | int, ...], line: int) -> None:
        self._at[place] = line

    def of(self, place: tuple[str | int, ...]) -> int:
        while place not in self._at:
            place = place[:-1]
        return self._at[place]


def _read_yaml(text: str, source: str) -> tuple[Any, _Lines]:
    """Plain data and the line of each key. Anchors, tags and duplicate keys are refused."""
    lines = _Lines()
    if len(text) > _LIMIT_BYTES:
        raise RecipeError(f"{source}: a recipe is at most {_LIMIT_BYTES // 1024} kB of YAML")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            _plain_event(event, source)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise RecipeError(f"{source}: a recipe is nested at most {_DEEPEST} levels deep")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return (_plain(node, (), lines, source) if node else None), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{source}, line {line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RecipeError(f"{source}: not valid YAML: {str(error)[:200]}") from error


def _plain_event(event: yaml.Event, source: str) -> None:
    line = event.start_mark.line + 1 if event.start_mark else 1
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise RecipeError(
            f"{source}, line {line}: anchors and aliases (& and *) are not allowed in a recipe; write it out"
        )
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise RecipeError(
            f"{source}, line {line}: tags ({tag}) are not allowed in a recipe: nothing in it is evaluated"
        )


def _plain(node: yaml.Node, place: tuple[str | int, ...], lines: _Lines, source: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in found:
                raise RecipeError(f"{source}, line {line}: the key {key!r} stands twice")
            lines.note((*place, key), line)
            found[key] = _plain(value_node, (*place, key), lines, source)
        return found
    if isinstance(node, yaml.SequenceNode):
        values = []
        for index, item in enumerate(node.value):
            lines.note((*place, index), item.start_mark.line + 1)
            values.append(_plain(item, (*place, index), lines, source))
        return values
    return yaml.SafeLoader("").construct_object(node)


def _explained(
    error: ValidationError, lines: _Lines, source: str, prefix: tuple[str | int, ...], model: type[BaseModel]
) -> RecipeError:
    """Pydantic's gravest complaint with line, key, what is allowed and the nearest spelling."""
    errors = error.errors(include_url=False)
    # A misspelt key is also a missing one; the spelling is what the reader can mend.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    place = (*prefix, *(p for p in first["loc"] if isinstance(p, (str, int))))
    key = _called(place)
    where = f"{source}, line {lines.of(place)}: {key}"
    if first["type"] == "extra_forbidden":
        owner = _model_at(model, first["loc"][:-1])
        allowed = [f.alias or n for n, f in owner.model_fields.items()] if owner else []
        return RecipeError(f"{where}: there is no such key{_nearest(str(place[-1]), allowed)}; allowed are {allowed}")
    if first["type"] == "missing":
        return RecipeError(f"{where}: this key is needed and absent")
    said = _PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
    if first["type"] == "value_error":
        return RecipeError(f"{where}: {said}")
    given = first.get("input")
    if first["type"] == "literal_error":
        choices = [c.strip(" '") for c in str(first.get("ctx", {}).get("expected", "")).replace(" or ", ",").split(",")]
        said += _nearest(str(given), choices)
    return RecipeError(f"{where}: {said}; got {_shown(given)}")


_PLAIN = {
    "model_type": "a mapping is needed, such as {en: ..., zh: ...}",
    "dict_type": "a mapping is needed",
    "tuple_type": "a list is needed, such as [a, b]",
    "string_type": "a text is needed",
}


def _called(place: tuple[str | int, ...]) -> str:
    """A place in the document as its reader counts: the first step is step 1."""
    if len(place) > 1 and place[0] == "steps":
        rest = ".".join(str(p) for p in place[2:])
        return f"step {int(place[1]) + 1}{f', {rest}' if rest else ''}"
    return ".".join(str(p) for p in place) or "the recipe"


def _model_at(model: type[BaseModel], place: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that holds the key at `place`."""
    for part in place:
        field = model.model_fields.get(str(part))
        kind = field.annotation if field else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return None
        model = kind
    return model


def _shown(value: object) -> str:
    """What was given, as far as a sentence holds it."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number too long to print"
    return text if len(text) <= 80 else text[:77] + "..."


def _nearest(word: str, allowed: list[str]) -> str:
    near = get_close_matches(word, allowed, n=4)
    alike = [n for n in near if SequenceMatcher(None, n, word).ratio() == SequenceMatcher(None, near[0], word).ratio()]
    return f" (did you mean {min(alike, key=allowed.index)!r}?)" if near else ""
