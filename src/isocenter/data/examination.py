"""What came out of one run of a recipe on one case: all that a report is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from isocenter.data.case import Case, Series
from isocenter.data.curve import Curve
from isocenter.data.features import FeatureTable
from isocenter.data.finding import Check, Finding, Verdict, worst
from isocenter.data.message import Message
from isocenter.data.provenance import Json, Step
from isocenter.data.volume import Volume


@dataclass(frozen=True)
class Candidate:
    """A series that the recipe looked at, and why it was taken or passed over."""

    series: Series
    chosen: bool
    reason: Message


@dataclass(frozen=True)
class Analysis:
    """What an analysing step found and checked.

    Args:
        findings: statements.
        checks: verdicts.
        heat: a map on the image's grid that the report shows; None: there is none.
        curves: values over time.
    """

    findings: tuple[Finding, ...] = ()
    checks: tuple[Check, ...] = ()
    heat: Volume | None = None
    curves: tuple[Curve, ...] = ()


@dataclass(frozen=True, eq=False)
class Examination:
    """One case after a recipe ran on it.

    Args:
        case: with volumes `original` (as read) and `image` (after preprocessing), and the label maps on the
            original grid.
        recipe: name, title and content hash, as plain data.
        candidates: the series looked at.
        features, findings, checks: what the stages gave.
        refusal: why there is no result, if there is none.
        steps: what was done, in order.
        lineage: versions, hashes and times.
        overlay: name of the label map that pictures show.
        image: name of the volume that pictures show.
        window: intensities that pictures show black and white; None where the image decides.
        compare: names of two volumes on one grid that are shown beside each other.
        explanation: what moved a network's answer, as a volume on the image's grid.
        curves: values over time.
    """

    case: Case
    recipe: Mapping[str, Json]
    candidates: tuple[Candidate, ...] = ()
    features: FeatureTable = field(default_factory=FeatureTable)
    findings: tuple[Finding, ...] = ()
    checks: tuple[Check, ...] = ()
    refusal: Message | None = None
    steps: tuple[Step, ...] = ()
    lineage: Mapping[str, Json] | None = None
    overlay: str | None = None
    image: str = "original"
    window: tuple[float, float] | None = None
    compare: tuple[str, str] | None = None
    explanation: Volume | None = None
    curves: tuple[Curve, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Refused if there is no result, otherwise the worst of the checks."""
        return Verdict.REFUSED if self.refusal else worst([check.verdict for check in self.checks])

    @property
    def reasons(self) -> tuple[Message, ...]:
        """Why the verdict is not `accepted`, gravest first."""
        refused = (self.refusal,) if self.refusal else ()
        ranks = (Verdict.REFUSED, Verdict.REVIEW)
        return refused + tuple(c.message for rank in ranks for c in self.checks if c.verdict is rank)

    @property
    def chosen(self) -> Series | None:
        """The series that was examined."""
        return next((c.series for c in self.candidates if c.chosen), None)

    def with_checks(self, *checks: Check) -> "Examination":
        """An examination with more checks."""
        return replace(self, checks=(*self.checks, *checks))
