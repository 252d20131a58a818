"""The plan of a training: everything that decides what comes out, as JSON that a person can read and edit."""

import json
from difflib import get_close_matches
from math import inf, isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from isocenter.data.dataset import Answers
from isocenter.errors import InputError
from isocenter.formats.json_file import read_mapping
from isocenter.inference.columns import Column
from isocenter.inference.degradation import Degradation
from isocenter.inference.model import NetworkSpec, Spec
from isocenter.inference.prepare import Preparation

_MOST_BYTES, _MOST_LABELS = 4 * 2**20, 255


_LOSSES = {
    "segment": ("dice_ce", "dice", "tversky", "dice_boundary", "cross_entropy", "focal"),
    "classify": ("cross_entropy", "focal", "bce", "ordinal"),
    "regress": ("mse", "huber"),
    "detect": ("own",),
    "enhance": ("l1", "charbonnier", "mse_image", "own"),
    "generate": ("own",),
    "anomaly": ("own",),
    "forecast": ("l1", "charbonnier", "mse_image"),
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LossPlan(_Part):
    """What is made small."""

    name: str = Field(
        default="cross_entropy",
        description="classify: cross_entropy, focal, bce, ordinal; regress: mse, huber; segment: dice_ce, dice, "
        "tversky, dice_boundary, cross_entropy, focal; detect: own (the network's); enhance: l1, charbonnier, "
        "mse_image; forecast: the same; or another package's.",
    )
    class_weights: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(), description="Of each output; empty: all alike."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="Share of each label that goes to the others."
    )
    gamma: float = Field(default=2.0, ge=0, description="focal: how much easy cases are played down.")
    alpha: float = Field(
        default=0.3, ge=0, le=1, description="tversky: weight of false positives; misses have the rest."
    )


class AugmentationPlan(_Part):
    """Chances and ranges; 0 leaves one out."""

    flip: tuple[bool, ...] = Field(default=(False, False, False), description="By axis d, h, w; see `laterality`.")
    rotate: float = Field(default=0.5, ge=0, le=1, description="Chance.")
    rotate_degrees: float = Field(default=15.0, ge=0, le=180, description="Largest angle.")
    scale: float = Field(default=0.4, ge=0, le=1, description="Chance.")
    scale_range: tuple[float, float] = Field(default=(0.8, 1.25), description="Smallest and largest factor.")
    shift: float = Field(default=0.0, ge=0, le=0.5, description="Largest shift as a share of the edge; always done.")
    elastic: float = Field(default=0.2, ge=0, le=1, description="Chance.")
    elastic_voxels: float = Field(default=3.0, ge=0, description="Deviation of the displacements.")
    noise: float = Field(default=0.15, ge=0, le=1, description="Chance of Gaussian noise.")
    noise_deviation: float = Field(
        default=0.1, ge=0, description="Largest, in units of the prepared image's deviation."
    )
    blur: float = Field(default=0.15, ge=0, le=1, description="Chance.")
    gamma: float = Field(default=0.3, ge=0, le=1, description="Chance.")
    gamma_range: tuple[float, float] = Field(default=(0.7, 1.5), description="Smallest and largest exponent.")
    contrast: float = Field(default=0.15, ge=0, le=1, description="Chance of a factor and an offset.")
    contrast_range: tuple[float, float] = Field(default=(0.75, 1.25), description="Smallest and largest factor.")
    brightness: float = Field(default=0.2, ge=0, description="Largest offset, in the prepared image's deviations.")
    bias_field: float = Field(default=0.0, ge=0, le=1, description="Chance of a smooth factor over the image (MR).")
    low_resolution: float = Field(default=0.15, ge=0, le=1, description="Chance.")
    drop_modality: float = Field(
        default=0.0, ge=0, lt=1, description="Chance that each modality is left out; never all of them."
    )
    erase: float = Field(default=0.0, ge=0, le=1, description="Chance of a box of noise (classifiers).")
    mixup: float = Field(default=0.0, ge=0, le=1, description="Chance that a batch is mixed pairwise (classifiers).")
    cutmix: float = Field(
        default=0.0, ge=0, le=1, description="Chance that boxes are exchanged within a batch (classifiers)."
    )

    @field_validator("scale_range", "contrast_range", "gamma_range")
    @classmethod
    def _is_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.01 <= value[0] <= value[1] <= 100:
            raise ValueError("write the smallest factor, then the largest, both from 0.01 to 100")
        return value


class SchedulePlan(_Part):
    """How long, and how fast."""

    optimiser: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, lt=10)
    weight_decay: float = Field(default=1e-2, ge=0, lt=1)
    momentum: float = Field(default=0.99, ge=0, lt=1, description="sgd only; Nesterov's.")
    beta: float = Field(default=0.9, ge=0, lt=1, description="adam, adamw: memory of the gradient.")
    beta_square: float = Field(default=0.999, gt=0, lt=1, description="adam, adamw: of its square.")
    warm_up: float = Field(default=0.03, ge=0, lt=0.5, description="Share of the steps in which the rate rises.")
    steps: int = Field(default=0, ge=0, description="Batches in all; 0: measured from the budget.")
    turns: tuple[tuple[int, int], ...] = Field(
        default=(),
        description="Where the machine turned out slower or faster: from this step on, so many steps in all.",
    )
    batch: int = Field(default=8, ge=1, le=4096)
    ema: float = Field(default=0.999, ge=0, lt=1, description="Of the weights that are kept; 0: the last ones.")
    clip: float = Field(default=12.0, gt=0, description="Largest norm of the gradient.")
    validate_every: int = Field(default=0, ge=0, description="Batches; 0: about twenty times in all.")
    patience: int = Field(default=0, ge=0, description="Validations without gain before it ends; 0: never early.")


class Plan(_Part):
    """A training of one network on images."""

    schema_version: Literal[1] = 1
    task: Answers
    classes: tuple[str, ...] = Field(default=(), description="classify, detect: in the order of the outputs.")
    labels: dict[int, str] = Field(
        default_factory=dict,
        description="segment: value -> name; outputs in this order behind background. detect: value of a label map -> "
        "class; its connected pieces are the objects.",
    )
    normal: str = Field(default="", description="anomaly: the class that is normal; empty: every case is.")
    channels: tuple[str, ...] = ("image",)
    preparation: Preparation
    patch: tuple[int, ...] = Field(description="What the network sees at once, by axis.")
    network: NetworkSpec
    frames: int = Field(
        default=0, ge=0, le=512, description="Of a sequence, at most; longer ones are thinned out evenly. 0: images."
    )
    each_frame: bool = Field(
        default=False, description="Each frame of a sequence has an answer; else the whole has one."
    )
    value_scale: tuple[float, float] = Field(
        default=(0.0, 1.0),
        description="regress: mean and deviation of the values, in which the network learns them.",
    )
    columns: tuple[Column, ...] = Field(default=(), description="Of the table, beside the image; see `--with`.")
    degradation: Degradation | None = Field(
        default=None, description="enhance: what makes the images poor that are to become good; null: pairs are stated."
    )
    loss: LossPlan = LossPlan()
    augmentation: AugmentationPlan = AugmentationPlan()
    schedule: SchedulePlan = SchedulePlan()
    precision: Literal["float32", "bfloat16"] = "float32"
    stored: Literal["float32", "float16"] = Field(
        default="float32", description="How weights are written; what is judged are the weights as they are written."
    )
    foreground: float = Field(
        default=0.33, ge=0, le=1, description="segment, detect: share of patches that are centred on a label or object."
    )
    balance: bool = Field(default=False, description="classify: classes are drawn alike.")
    laterality: Literal["fixed", "free"] = Field(
        default="fixed", description="fixed: left and right differ and are never flipped; free: they are alike."
    )
    swap_labels: dict[int, int] = Field(default_factory=dict, description="Labels that a left-right flip exchanges.")
    test_time_flips: bool = Field(default=True, description="Predictions are means over the flips of the augmentation.")
    validation: float = Field(
        default=0.15, gt=0, lt=0.9, description="Share of patients held back where no split `val` is."
    )
    training_cases_judged: int = Field(
        default=0,
        ge=0,
        description="Training cases that are judged beside the validation cases at the end; 0: as many.",
    )
    missing_mm: float = Field(
        default=100.0, gt=0, description="segment: distance that counts for a structure that one side lacks."
    )
    tolerance_mm: float = Field(default=1.0, gt=0, description="segment: of the surface Dice.")
    frozen: tuple[str, ...] = Field(default=(), description="Weights that do not learn, by name; see `--from`.")
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _has_names_and_sizes(self) -> "Plan":
        named = {"classes": self.classes, "labels": () if self.task == "detect" else tuple(self.labels.values())}
        for what, names in named.items():
            twice = next((name for i, name in enumerate(names) if not name.strip() or name in names[:i]), None)
            if twice is not None:
                raise ValueError(f"{what} have names, each its own; {twice!r} stands twice or is empty")
        if len(self.patch) != self.preparation.dims:
            raise ValueError(f"patch has {len(self.patch)} axes, the preparation {self.preparation.dims} dimensions")
        if not all(n >= 1 for n in self.patch) or not self.channels:
            raise ValueError("patch has edges of 1 or more, and there is one channel or more")
        if self.preparation.size is not None and tuple(self.patch) != tuple(self.preparation.size):
            raise ValueError(f"whole images are seen at once: patch is preparation.size, {self.preparation.size}")
        if len(self.labels) > _MOST_LABELS:
            raise ValueError(
                f"{len(self.labels)} labels are more than {_MOST_LABELS}; objects are found by --task detect"
            )
        return self

    @model_validator(mode="after")
    def _fits(self) -> "Plan":
        weights = self.loss.class_weights
        if weights and len(weights) != self.spec.outputs:
            raise ValueError(f"loss.class_weights has {len(weights)} numbers for {self.spec.outputs} outputs")
        if self.task == "classify" and len(self.classes) < 2:
            raise ValueError("a classifier needs two classes or more")
        if self.task == "detect" and not self.classes:
            raise ValueError("a detection needs a class")
        if self.task == "segment" and not self.labels:
            raise ValueError("a segmentation needs a label")
        if any(self.loss.name in names for names in _LOSSES.values()) and self.loss.name not in _LOSSES[self.task]:
            raise ValueError(
                f"the loss {self.loss.name} does not fit {self.task}; there are {', '.join(_LOSSES[self.task])}"
            )
        odd = set(self.swap_labels) ^ set(self.swap_labels.values())
        if odd or not set(self.swap_labels) <= set(self.labels):
            raise ValueError("swap_labels exchanges labels in pairs, as {1: 2, 2: 1}")
        return self

    @model_validator(mode="after")
    def _has_its_grid(self) -> "Plan":
        if self.task in ("segment", "enhance") and self.preparation.size is not None:
            raise ValueError("an image keeps its size: leave preparation.size empty")
        if self.task == "enhance" and (self.preparation.orient or self.preparation.spacing_mm is not None):
            raise ValueError("an image that is made better keeps its grid: no orient, no spacing_mm")
        if self.task in ("generate", "anomaly") and self.preparation.size is None:
            raise ValueError("whole images are seen: preparation.size is needed")
        if self.degradation is not None and self.task != "enhance":
            raise ValueError("degradation is of the task enhance")
        if self.degradation is not None and self.degradation.words == "nothing":
            raise ValueError(
                "degradation does nothing, so there is nothing to undo: noise above 0, a factor above 1, or blur"
            )
        if self.frames and (self.task not in ("classify", "regress", "forecast") or self.preparation.size is None):
            raise ValueError(
                "sequences are classified, regressed or foretold, with frames of one size: preparation.size is needed"
            )
        if self.frames == 1 or (self.task == "forecast" and not self.frames):
            raise ValueError("a sequence has frames, and what comes next is foretold from them: frames is 2 or more")
        if not (isfinite(self.value_scale[0]) and 0 < self.value_scale[1] < inf):
            raise ValueError(f"value_scale is a mean and a deviation above 0; got {self.value_scale}")
        if self.normal and self.task != "anomaly":
            raise ValueError("normal is of the task anomaly")
        return self

    @property
    def spec(self) -> Spec:
        """What of it a prediction needs."""
        kinds = {
            "regress": "value",
            "detect": "boxes",
            "enhance": "picture",
            "generate": "sample",
            "anomaly": "rebuilt",
            "forecast": "picture",
        }
        answer = kinds.get(self.task, "sigmoid" if self.loss.name == "bce" else "softmax")
        return Spec.model_validate({
            "task": self.task, "classes": self.classes, "labels": self.labels, "channels": self.channels,
            "preparation": self.preparation, "patch": self.patch, "network": self.network, "answer": answer,
            "flips": self._steady_flips if self.test_time_flips else (), "degradation": self.degradation,
            "columns": self.columns, "value_scale": self.value_scale,
            "frames": self.frames, "each_frame": self.each_frame,
        })  # fmt: skip

    @property
    def outputs(self) -> int:
        """Numbers that the network gives for each image or voxel."""
        return self.spec.outputs

    @property
    def flips(self) -> tuple[int, ...]:
        """Axes (d, h, w) that are flipped; the left-right one only where sides are alike or their labels exchanged."""
        lateral = self.laterality == "free" or bool(self.swap_labels)
        return tuple(axis for axis, on in enumerate(self.augmentation.flip) if on and (axis != 2 or lateral))

    @property
    def _steady_flips(self) -> tuple[int, ...]:
        """Flips after which an answer means the same; one that exchanges labels is for learning only."""
        own = self.flips if self.preparation.dims == 3 else tuple(axis for axis in self.flips if axis > 0)
        return tuple(axis for axis in own if axis != 2 or self.laterality == "free")

    def changed(self, **parts: Any) -> "Plan":
        """The plan with other fields, checked again; nested ones as `schedule={"steps": 10}`.

        Raises: InputError that names the field.
        """
        data = self.model_dump()
        schedule = parts.get("schedule")
        if isinstance(schedule, dict) and "steps" in schedule and "turns" not in schedule:
            parts["schedule"] = {**schedule, "turns": ()}  # they were those of another course
        for key, value in parts.items():
            data[key] = {**data[key], **value} if isinstance(data.get(key), dict) and isinstance(value, dict) else value
        return plan_of(data, "the plan")


def plan_of(data: object, where: str) -> Plan:
    """A plan from plain data.

    Raises: InputError that names the field.
    """
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "as a whole"
        words = first["msg"] if first["type"] != "extra_forbidden" else _no_such_field(first["loc"])
        raise InputError(f"{where}: {field}: {words}") from error


def _no_such_field(place: tuple[int | str, ...]) -> str:
    """What fields there are beside one that is not."""
    model: Any = Plan
    for part in place[:-1]:
        model = model.model_fields[part].annotation if part in getattr(model, "model_fields", {}) else None
    names = list(getattr(model, "model_fields", {}))
    near = get_close_matches(str(place[-1]), names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"is no field{hint}; there are {', '.join(names)}" if names else "is no field"


def share_of(wanted: object) -> float:
    """The share of patients for validation: what is wished for, or the plan's default.

    Raises: InputError for what is no share.
    """
    if wanted is None:
        return float(Plan.model_fields["validation"].default)
    if not isinstance(wanted, int | float) or not 0 < wanted < 0.9:
        raise InputError(f"the plan: validation: {wanted!r} is no share between 0 and 0.9")
    return float(wanted)


def read_plan(path: Path) -> Plan:
    """A plan from its file.

    Raises: InputError; UnreadableFile for what is no mapping in JSON.
    """
    return plan_of(read_mapping(path, most=_MOST_BYTES), str(path))


def plan_text(plan: Plan) -> str:
    """The plan as JSON."""
    return json.dumps(plan.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
