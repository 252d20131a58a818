"""Which cases are learnt from, judged by, and never looked at: whole patients on one side, twins with each other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from isocenter.data.dataset import Dataset, Sample, natural
from isocenter.errors import InputError


def person_of(sample: Sample) -> str:
    """The patient; the case where none is known."""
    return sample.patient or f"case {sample.case}"


def held_out(data: Dataset, every: int | None) -> Dataset:
    """The data set with every so-many-th patient, in natural order of their names, as the split `test`.

    Raises: InputError where splits are stated already, or too few patients are there.
    """
    if every is None:
        return data
    if data.splits:
        raise InputError(
            f"{data.path}: states splits ({', '.join(data.splits)}), so --hold-out has nothing to decide; "
            "--resplit sets them aside"
        )
    people = sorted({person_of(s) for s in data.samples}, key=natural)
    if every < 2 or len(people) < every:
        raise InputError(f"--hold-out {every}: 2 or more, and at most the {len(people)} patients there are")
    test = set(people[every - 1 :: every])
    return replace(data, samples=tuple(replace(s, split="test" if person_of(s) in test else "") for s in data.samples))


def divided_as(data: Dataset, training: Mapping[str, Any]) -> Dataset:
    """The data set with the patients as `test` that were held back from a training on it.

    Args:
        data: that the training learnt from.
        training: what the model's card says of it.
    Raises: InputError where it cannot be divided so.
    """
    plain = data.without_splits() if training.get("resplit") else data
    rule = training.get("hold_out")
    return held_out(plain, int(rule)) if rule and not plain.splits else plain


def divide(data: Dataset, share: float, *, seed: int, twins: Sequence[Sequence[str]] = ()) -> tuple[Dataset, Dataset]:
    """Training and validation cases; those of the split `test` are in neither.

    Args:
        data: with splits or without.
        share: of the patients that are held back for validation where no split `val` is stated; by class where classes
            are stated.
        seed: of the choice.
        twins: cases that hold one and the same image; they stay together.
    Raises: InputError for too few patients.
    """
    if "val" in data.splits:
        return data.of("train"), data.of("val")
    pool = [s for s in data.samples if s.split in ("", "train")]
    if not pool:
        raise InputError(f"{data.path}: no case is left to learn from; its splits are {', '.join(data.splits)}")
    leader = _leaders(pool, twins)
    people = sorted({leader[s.case] for s in pool}, key=natural)
    if len(people) < 4:
        raise InputError(
            f"{data.path}: {len(people)} patients are too few to learn from some and judge by others; 4 or more"
        )
    kind: dict[str, str] = {}
    for s in pool:
        kind[leader[s.case]] = max(_kind(s), kind.get(leader[s.case], ""))
    several = len(set(kind.values())) <= max(2, len(people) // 4)
    rng = np.random.default_rng((seed, 7))
    held: set[str] = set()
    for group in sorted(set(kind.values())) if several else [None]:
        own = [p for p in people if group is None or kind[p] == group]
        count = min(len(own) - 1, max(1, round(share * len(own))))
        held |= {own[i] for i in rng.permutation(len(own))[:count]}
    val = tuple(s for s in pool if leader[s.case] in held)
    return replace(data, samples=tuple(s for s in pool if leader[s.case] not in held)), replace(data, samples=val)


def _kind(sample: Sample) -> str:
    """By what cases are spread evenly: the class, or whether an object is marked."""
    return sample.target or ("marked" if any(not m.ignored for m in sample.objects or ()) else "")


def fold_of(samples: Sequence[Sample], folds: int, *, seed: int, twins: Sequence[Sequence[str]] = ()) -> list[int]:
    """A number from 0 to `folds - 1` for each case: patients and twins stay whole, classes are spread evenly.

    Raises: InputError for fewer patients than folds.
    """
    leader = _leaders(samples, twins)
    kind = {leader[s.case]: s.target for s in samples}
    several = len(set(kind.values())) <= max(2, len(kind) // 4)
    most = len(kind) // 2 if several and len(set(kind.values())) > 1 else len(kind)  # each class in each fold
    if folds > most:
        raise InputError(f"--folds {folds}: {len(kind)} patients are too few; at most {most} folds")
    rng = np.random.default_rng((seed, 8))
    place: dict[str, int] = {}
    for group in sorted(set(kind.values())) if several else [None]:
        own = sorted((p for p in kind if group is None or kind[p] == group), key=natural)
        for i in rng.permutation(len(own)):
            place[own[i]] = len(place) % folds
    return [place[leader[s.case]] for s in samples]


def some_patients(samples: Sequence[Sample], share: float, *, seed: int) -> list[int]:
    """Indices of the cases of so many of the patients; a smaller share is part of a larger one."""
    people = sorted({person_of(s) for s in samples}, key=natural)
    order = np.random.default_rng((seed, 9)).permutation(len(people))
    kept = {people[i] for i in order[: max(1, round(share * len(people)))]}
    return [i for i, s in enumerate(samples) if person_of(s) in kept]


def _leaders(pool: Sequence[Sample], twins: Sequence[Sequence[str]]) -> dict[str, str]:
    """A name for each group of cases that must stay together."""
    leader = {person_of(s): person_of(s) for s in pool}
    person = {s.case: person_of(s) for s in pool}

    def root(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for group in twins:
        there = [root(person[case]) for case in group if case in person]
        for other in there[1:]:
            leader[root(other)] = root(there[0])
    return {case: root(name) for case, name in person.items()}
