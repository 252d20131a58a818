"""What was found, what was checked, and whether the result may be used."""

from dataclasses import dataclass
from enum import StrEnum

from isocenter.data.message import Message


@dataclass(frozen=True)
class Finding:
    """One statement for the reader of the report.

    Args:
        statement: what was measured: `"Grey matter volume"`.
        value: the number; None for a statement in words.
        unit: UCUM.
        interval: lower and upper end, where there is one; `method` says what it means.
        method: how value and interval were obtained.
        evidence: names of the label maps that show it.
        not_measured: share of that evidence's voxels that no scanner measured.
    """

    statement: Message
    value: float | None
    unit: str
    interval: tuple[float, float] | None
    method: Message
    evidence: tuple[str, ...] = ()
    not_measured: float = 0.0


class Verdict(StrEnum):
    """Whether a result may be used."""

    ACCEPTED = "accepted"
    REVIEW = "review"
    REFUSED = "refused"


_SEVERITY = (Verdict.ACCEPTED, Verdict.REVIEW, Verdict.REFUSED)


def worst(verdicts: list[Verdict]) -> Verdict:
    """The gravest verdict; accepted if there is none."""
    return max(verdicts, key=_SEVERITY.index, default=Verdict.ACCEPTED)


@dataclass(frozen=True)
class Check:
    """One precondition or plausibility check and how it ended.

    Args:
        name: `"brain_volume_mL"`; its key in `report.json`.
        value: what was measured.
        verdict: what it means for the result.
        message: the sentence for the reader: what was found, what was expected.
    """

    name: str
    value: float | str | bool | None
    verdict: Verdict
    message: Message
