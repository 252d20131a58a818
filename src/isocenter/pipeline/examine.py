"""A case and a recipe become an examination."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np

from isocenter.acquire.given import given_labels, given_volume, study_labels
from isocenter.acquire.select import choose, choose_named
from isocenter.analyse.network import NetworkAnswer
from isocenter.analyse.subject import Subject
from isocenter.data.case import Case, Identity, Series
from isocenter.data.curve import Curve
from isocenter.data.examination import Analysis, Examination
from isocenter.data.features import FeatureTable
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.geometry import Geometry
from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.provenance import Json, Step
from isocenter.data.step import USUAL_MEMORY
from isocenter.data.transform import Transform
from isocenter.data.volume import Volume
from isocenter.errors import InputError, IsocenterError
from isocenter.ops import memory
from isocenter.recipe import Given, Recipe, RecipeStep
from isocenter.types import Mask, Progress
from isocenter.version import __version__
from isocenter.zoo import model_path

_LIBRARIES = ("numpy", "scipy", "SimpleITK", "pydicom", "highdicom", "nibabel", "nilearn")


def examine(
    case: Case,
    recipe: Recipe,
    *,
    series_uid: str | None = None,
    given: Mapping[str, Path] | None = None,
    memory_gib: float | None = None,
    on_progress: Progress | None = None,
) -> Examination:
    """Run a recipe on one case, in memory.

    A precondition that fails, and bad input, end in an examination with verdict `refused` and the reason; nothing is
    guessed.

    Args:
        case: as `open_case` gives it.
        recipe: as `recipe.load` gives it.
        series_uid: take this series, whatever the recipe would have taken.
        given: what the recipe's `given` names: files or folders.
        memory_gib: most memory a step may take; None: four fifths of the machine's.
        on_progress: called before each step.
    """
    said = {"name": recipe.name, "title": recipe.title.model_dump(), "sha256": recipe.sha256}
    said["description"] = recipe.description.model_dump()
    candidates, refusal = choose_named(case, series_uid) if series_uid else choose(case, recipe.select)
    start = Examination(case, said, candidates, refusal=refusal, overlay=recipe.report.overlay)
    series = start.chosen
    if refusal or series is None:
        return replace(start, lineage=_lineage(recipe, ()))
    run = _Run(case, series, recipe, memory_gib, on_progress)
    try:
        run.all_steps(given or {})
        refused = None
    except IsocenterError as error:
        refused = Message("{error}", {"error": str(error)})
    stated = refused is None and not any(check.verdict is Verdict.REFUSED for check in run.checks)
    return replace(
        start,
        case=run.case,
        features=run.features if stated else FeatureTable(),
        findings=tuple(run.findings) if stated else (),
        checks=tuple(run.checks),
        refusal=refused,
        steps=tuple(run.steps),
        lineage=_lineage(recipe, series.files),
        image=recipe.report.image,
        window=recipe.report.window,
        compare=recipe.report.compare,
        explanation=run.explanation if stated else None,
        curves=tuple(run.curves) if stated else (),
    )


class _Run:
    """One recipe on one series: the only state of this module, and gone when the recipe ends."""

    def __init__(
        self, case: Case, series: Series, recipe: Recipe, memory_gib: float | None, on_progress: Progress | None
    ) -> None:
        self.case, self.series, self.recipe, self.memory_gib = case, series, recipe, memory_gib
        self.layers: dict[str, tuple[str, ...]] = {}  # label maps that one given file brought, as its segments overlap
        self.features = FeatureTable()
        self.findings: list[Finding] = []
        self.checks: list[Check] = []
        self.steps: list[Step] = []
        self.explanation: Volume | None = None
        self.curves: list[Curve] = []
        self._on_progress = on_progress

    def all_steps(self, given: Mapping[str, Path]) -> None:
        """Read all that is given, run every step, stop at the first refusal, bring label maps to the original grid."""
        total = len(self.recipe.steps) + 1
        self._progress("reading", 0, total)
        original = self._read()
        self.steps += [replace(done, version=__version__) for done in original.history]
        self.case = self.case.with_volume("original", original).with_volume("image", original)
        self._take(given, original)
        for index, step in enumerate(self.recipe.steps, start=1):
            if self._refused:
                break
            self._progress(f"{step.stage}: {step.name}", index, total)
            self._one(step)
        drawn_here = {name: labels for name, labels in self.case.label_maps.items() if name not in self._elsewhere()}
        self.case = replace(self.case, label_maps=drawn_here)
        for name, labels in self.case.label_maps.items():
            self.case = self.case.with_labels(name, onto(labels, original.geometry))
        if self.recipe.report.compare is not None and not self._refused:
            one, other = (self._volume(name).geometry for name in self.recipe.report.compare)
            one.require_same(other, what="the two volumes that the report compares")
        self.checks += self._repaired(original)

    def _read(self) -> Volume:
        """The volume; of frames in time the one in the middle, and all of them beside it."""
        if not self.recipe.select.frames:
            return self.series.volume()
        cine = self.series.cine()
        self.case = replace(self.case, cine=cine)
        return cine.frame(len(cine) // 2)

    def _repaired(self, original: Volume) -> list[Check]:
        """What must be looked at because the series was mended: the stack itself, and every region on filled voxels."""
        found = []
        mended = original.history[0].parameters.get("repaired") if original.history else None
        if mended:
            text = "The stack was brought onto a regular grid before anything was measured: {why}."
            why = tuple(d.said for d in self.series.defects if d.code in mended)
            found.append(Check("repaired_series", ", ".join(mended), Verdict.REVIEW, Message(text, {"why": why})))
        found += [
            Check("made_image", "made", Verdict.REVIEW, Message("{why}.", {"why": defect.said}))
            for defect in self.series.defects
            if defect.code == "made-image"
        ]
        if original.not_measured is None:
            return found
        share = {name: self._not_measured((name,)) for name in self.case.label_maps}
        touched = {name: part for name, part in share.items() if part > 0}
        if not touched:
            text = "No region holds voxels that were not measured."
            return [*found, Check("voxels_not_measured", 0.0, Verdict.ACCEPTED, Message(text))]
        text = "{share:.2%} of {name} was not measured (filled over missing slices, or outside the field of view)."
        return found + [
            Check(f"voxels_not_measured_{name}", part, Verdict.REVIEW, Message(text, {"share": part, "name": name}))
            for name, part in touched.items()
        ]

    def _not_measured(self, names: Sequence[str]) -> float:
        """The largest share of these label maps' foreground that was not measured."""
        original = self.case.volumes["original"]
        if original.not_measured is None:
            return 0.0
        maps = [onto(self.case.label_maps[name], original.geometry) for name in names if name in self.case.label_maps]
        return max((_share(original.not_measured, labels.foreground) for labels in maps), default=0.0)

    @property
    def _refused(self) -> bool:
        return any(check.verdict is Verdict.REFUSED for check in self.checks)

    def _take(self, given: Mapping[str, Path], original: Volume) -> None:
        """Read what the recipe's `given` names.

        Raises: InputError for something needed that is absent.
        """
        for name, wanted in self.recipe.given.items():
            if name in given and wanted.kind == "volume":
                case, series = given_volume(given[name], wanted.select)
                volume = series.volume()
                self.steps += [replace(done, version=__version__) for done in volume.history]
                self.case = self.case.with_volume(name, volume)
                self.case = replace(self.case, dates={**self.case.dates, name: case.identity.study_date})
                self.checks += same_patient(self.case.identity, case.identity, name)
                continue
            if wanted.kind == "labels":
                maps = (
                    self._given_labels(name, given[name], wanted, original)
                    if name in given
                    else study_labels(self.case, self.series, original.geometry)
                )
                self._lay(name, maps)
            if wanted.needed and name not in self.case.label_maps:
                raise InputError(f"the recipe needs {name} ({wanted.description.en}): add --with {name}=FILE")

    def _elsewhere(self) -> set[str]:
        """Label maps that were drawn on another study: they are measured there, not written onto this one."""
        names = {name for name, wanted in self.recipe.given.items() if wanted.on is not None}
        return {own for name in names for own in self.layers.get(name, ())}

    def _given_labels(self, name: str, path: Path, wanted: Given, original: Volume) -> tuple[LabelMap, ...]:
        """Labels that the user brought, on the volume on which they were drawn."""
        if wanted.on is None:
            return given_labels(path, name, original.geometry, series_uid=self.series.uid)
        if wanted.on not in self.case.volumes:
            raise InputError(f"{name} lies on {wanted.on}, which was not given: add --with {wanted.on}=PATH")
        return given_labels(path, name, self.case.volumes[wanted.on].geometry)

    def _lay(self, name: str, maps: Sequence[LabelMap]) -> None:
        """Keep given label maps, and check what bringing them onto the image did to them."""
        if not maps:
            return
        names = [name if i == 0 else f"{name}-{i + 1}" for i in range(len(maps))]
        self.layers[name] = tuple(names)
        for own, labels in zip(names, maps, strict=True):
            if not labels.foreground.any():
                empty = Message("{name} holds no voxel of any label.", {"name": own})
                self.checks.append(Check(f"empty_{own}", 0, Verdict.REVIEW, empty))
            self.case = self.case.with_labels(own, labels)
            self.steps += [replace(done, version=__version__) for done in labels.history]
            for done in labels.history:
                if done.name == "acquire.other_series":
                    other = Message("{name} was drawn on another series than the one examined.", {"name": own})
                    self.checks.append(Check(f"other_series_{own}", "other", Verdict.REVIEW, other))
                if done.name == "acquire.resampled":
                    lost = float(done.results["volume_lost"])
                    text = (
                        "{name} lay on another grid and was brought onto the image's; its volume changed by {lost:.2%}."
                    )
                    message = Message(text, {"name": own, "lost": 0.0 - lost + 0.0})
                    self.checks.append(Check(f"regridded_{own}", round(lost, 5), Verdict.REVIEW, message))

    def _progress(self, what: str, done: int, total: int) -> None:
        if self._on_progress:
            self._on_progress(what, done, total)

    def _one(self, step: RecipeStep) -> None:
        name = f"{step.stage}.{step.name}"
        if step.stage in ("preprocess", "segment") and step.kind.takes != "labels":
            self._volume(step.on).require_finite()
        if step.kind.takes not in ("case", "labels"):
            voxels = self._volume(step.on).voxels.size
            if step.kind.memory > USUAL_MEMORY:
                memory.require(step.kind.memory, voxels=voxels, limit_gib=self.memory_gib, what=name)
        if step.kind.takes == "volume":
            volume = self._volume(step.on)
            within = {"within": self._labels(step.within, volume.geometry)} if step.within else {}
            result: Volume | LabelMap = step.kind.run(volume, step.settings, **within)
            self._keep(step, result)
        elif step.kind.takes == "pair":
            self._keep(step, step.kind.run(self._volume(step.on), self._volume(step.to), step.settings))
        elif step.kind.takes == "labels":
            self._keep(step, step.kind.run(self._labels(step.of, None), step.settings))
        elif step.kind.takes == "region" and step.stage == "segment":
            volume = self._volume(step.on)
            self._keep(step, step.kind.run(volume, self._labels(step.of, volume.geometry), step.settings))
        elif step.kind.takes == "region":
            volume = self._volume(step.on)
            for own in self.layers.get(step.of or "", (step.of,)):
                labels = self._labels(own, volume.geometry)
                self.features += marked(step.kind.run(volume, labels, step.settings), volume, labels)
            self._note(Step(name, step.settings.model_dump(mode="json")), step)
        else:
            self._analyse(step, name)

    def _analyse(self, step: RecipeStep, name: str) -> None:
        """A step on the whole case, with its label maps on the image's grid."""
        here = self.case.volumes["image"].geometry
        maps = {key: onto(labels, here) for key, labels in self.case.label_maps.items()}
        subject = Subject(replace(self.case, label_maps=maps), self.series, self.features, dict(self.case.label_maps))
        found: Analysis = step.kind.run(subject, step.settings)
        self.findings += [replace(f, not_measured=self._not_measured(f.evidence)) for f in found.findings]
        self.checks += found.checks
        self.curves += found.curves
        if found.heat is not None:
            self.explanation = found.heat
        if isinstance(step.settings, NetworkAnswer):
            self._explain(step.settings)
        self._note(Step(name, step.settings.model_dump(mode="json")), step)

    def _explain(self, settings: NetworkAnswer) -> None:
        """A map of what moved a network's answer, and whether it can be believed."""
        if settings.explain == "none":
            return
        from isocenter.inference.model import load
        from isocenter.pipeline.explain import explain_volume

        volume = self._volume(settings.on)
        model = load(model_path(settings.model))
        (one,) = explain_volume(model, volume, self.case.name, methods=[settings.explain])
        self.explanation = one.heat
        if one.quality is not None:
            judged = one.quality.verdict
            text = (
                "Map of what moved the answer ({method}): taking away what it marks lowers the probability to "
                "{own:.2f} on average, taking away places by chance to {chance:.2f}."
            )
            values: dict[str, str | int | float | Message | tuple[Message, ...]] = {
                "method": one.method, "own": one.quality.deletion_auc, "chance": one.quality.random_auc,
            }  # fmt: skip
            verdict = Verdict.ACCEPTED if judged == "better" else Verdict.REVIEW
            message = Message(text, values)
            if judged == "cannot be told":
                message = Message(
                    "Map of what moved the answer ({method}): the probability hardly moves even when the whole image "
                    "is blurred; whether the map is right cannot be told.", {"method": one.method},
                )  # fmt: skip
            value = "cannot be told" if judged == "cannot be told" else f"{judged} than chance"
            self.checks.append(Check("explanation", value, verdict, message))

    def _note(self, done: Step, step: RecipeStep) -> None:
        """Keep what was done, with what it was wired to."""
        wiring = {"on": step.on, "to": step.to, "of": step.of, "within": step.within, "as": step.output}
        wired = {key: value for key, value in wiring.items() if value}
        self.steps.append(replace(done, version=__version__, parameters={**wired, **done.parameters}))

    def _labels(self, name: str | None, geometry: Geometry | None) -> LabelMap:
        assert name is not None, "a recipe that is not wired is refused when it is read"
        if name not in self.case.label_maps:
            raise InputError(f"this step needs {name}, which was not given: add --with {name}=FILE")
        labels = self.case.label_maps[name]
        return labels if geometry is None else onto(labels, geometry)

    def _volume(self, name: str | None) -> Volume:
        name = name or "image"
        if name not in self.case.volumes:
            raise InputError(f"this step needs the volume {name}, which was not given: add --with {name}=PATH")
        return self.case.volumes[name]

    def _keep(self, step: RecipeStep, result: Volume | LabelMap | tuple[Volume, Transform]) -> None:
        target = step.output or (step.on if step.on not in (None, "original") else "image")
        if isinstance(result, tuple):
            result, transform = result
            self.case = self.case.with_transform(target or "image", transform)
        self._note(result.history[-1], step)
        if isinstance(result, Volume):
            self.case = self.case.with_volume(target or "image", result)
        else:
            assert step.output is not None, "segmenting steps name their result"
            self.case = self.case.with_labels(step.output, result)


def same_patient(one: Identity, other: Identity, name: str) -> list[Check]:
    """Whether two studies are of one patient, as far as their files say."""
    if not one.patient_id or not other.patient_id:
        text = "Whether {name} is of the same patient cannot be told: a file states no patient."
        return [Check(f"same_patient_{name}", "not stated", Verdict.REVIEW, Message(text, {"name": name}))]
    if one.patient_id.strip() == other.patient_id.strip() and one.birth_date == other.birth_date:
        text = "Both studies state one patient."
        return [Check(f"same_patient_{name}", "same", Verdict.ACCEPTED, Message(text))]
    text = "{name} is of another patient: its PatientID or birth date differs."
    return [Check(f"same_patient_{name}", "other", Verdict.REFUSED, Message(text, {"name": name}))]


def marked(features: FeatureTable, image: Volume, labels: LabelMap) -> FeatureTable:
    """Features of regions that hold voxels which were not measured say what share of them."""
    if image.not_measured is None:
        return features
    share = {lb.name: _share(image.not_measured, labels.voxels == lb.value) for lb in labels.labels}
    return FeatureTable(tuple(replace(f, not_measured=share.get(f.label, 0.0)) for f in features))


def _share(part: Mask, of: Mask) -> float:
    """Which share of the voxels `of` lies in `part`."""
    count = int(np.count_nonzero(of))
    return int(np.count_nonzero(part & of)) / count if count else 0.0


def onto(labels: LabelMap, geometry: Geometry) -> LabelMap:
    """A label map on another grid, by nearest neighbour; itself where the grids agree."""
    if labels.geometry.distance_to(geometry) <= 0.01:
        return labels
    from isocenter.ops.resample import resample

    voxels = resample(
        labels.voxels,
        affine=labels.geometry.affine,
        to_shape=geometry.shape,
        to_affine=geometry.affine,
        interpolation="nearest",
    )
    return labels.then(Step("grid.onto", {"shape": list(geometry.shape)}), voxels=voxels, geometry=geometry)


def content_hash(files: Sequence[Path]) -> str:
    """Hash over the contents of files, whatever they are called and in whatever order."""
    total = sha256()
    for digest in sorted(_file_hash(file) for file in files):
        total.update(digest)
    return total.hexdigest()


def _file_hash(file: Path) -> bytes:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").digest()


def _lineage(recipe: Recipe, files: Sequence[Path]) -> dict[str, Json]:
    """What made the result: versions, recipe, and the hash of what was examined."""
    return {
        "recipe": {"name": recipe.name, "sha256": recipe.sha256},
        "examined": {"files": len(files), "sha256": content_hash(files) if files else None},
        "versions": {"isocenter": __version__, **{name: version_of(name) for name in _LIBRARIES}},
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
