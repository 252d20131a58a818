"""Whether two images were brought onto each other."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from isocenter.analyse.subject import Subject
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.message import Message
from isocenter.data.provenance import Json
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.errors import InputError


class RegistrationQuality(Settings):
    """Settings of `registration_quality`."""

    volume: str = "moved"
    """The volume that `preprocess: register` made."""
    least_gain: float = Field(0.1, ge=0)
    """Review where the image was moved and the mutual information rose by less than this share."""
    most_repeat_mm: float = Field(2.0, gt=0)
    """Review where two runs differ by more than this at a corner, in the unit of the image; refused by ten times it."""
    least_covered: float = Field(0.5, ge=0, le=1)
    """Review where the moving image covers less than this share of the fixed one."""


def registration_quality(subject: Subject, settings: RegistrationQuality) -> Analysis:
    """State how far the image was moved, and check that the two agree better than before, twice alike.

    A high mutual information does not prove that every part lies right: look at the checkerboard and the difference.

    Raises: InputError where no step registered that volume.
    """
    volume = subject.case.volumes.get(settings.volume)
    done = next((s for s in reversed(volume.history) if s.name == "preprocess.register"), None) if volume else None
    if done is None:
        raise InputError(f"no step registered a volume called {settings.volume!r}; give the register step that name")
    found = done.results
    before, after = found["mutual_information_before"], float(found["mutual_information"])
    moved = float(found["largest_move_mm"]) > settings.most_repeat_mm
    better = before is None or not moved or after >= float(before) * (1 + settings.least_gain)
    text = "Mutual information: {before} nats as the files lie, {after:.3f} after; a move must gain {gain:.0%}."
    agreement = _check(
        "registration",
        round(after, 4),
        good=better,
        message=Message(
            text,
            {"before": "-" if before is None else f"{float(before):.3f}", "after": after, "gain": settings.least_gain},
        ),
    )
    repeat, covered = float(found["repeat_mm"]), float(found["covered"])
    repeated = _check(
        "registration_repeat_mm",
        round(repeat, 3),
        good=repeat <= settings.most_repeat_mm,
        refused=repeat > 10 * settings.most_repeat_mm,
        message=Message(
            "A second run differs by up to {value:.2f} mm at the corners (at most {most:g}).",
            {"value": repeat, "most": settings.most_repeat_mm},
        ),
    )
    overlap = _check(
        "registration_covered",
        round(covered, 3),
        good=covered >= settings.least_covered,
        message=Message(
            "The moved image covers {value:.0%} of the fixed one (at least {least:.0%}).",
            {"value": covered, "least": settings.least_covered},
        ),
    )
    smallest = float(found["smallest_volume_change"])
    folded = _check(
        "registration_folds",
        round(smallest, 3),
        good=smallest > 0,
        message=Message(
            "The smallest change of volume is {value:.2f}; a map that folds has 0 or less.", {"value": smallest}
        ),
    )
    matrix = np.asarray(found["matrix"], dtype=float)
    method = Message("Mattes mutual information, coarse to fine; see the lineage.")
    turn = float(np.degrees(np.arccos(np.clip((np.trace(_rotation(matrix)) - 1) / 2, -1, 1))))
    shared = _one_frame(subject, volume, found)
    findings = (
        Finding(Message("Largest move of a corner"), float(found["largest_move_mm"]), "mm", None, method),
        Finding(Message("Turn"), turn, "deg", None, method),
    )
    return Analysis(findings, (agreement, repeated, overlap, folded, *shared))


def _one_frame(subject: Subject, volume: Volume | None, found: Mapping[str, Json]) -> tuple[Check, ...]:
    """Two images of one frame of reference lie right already: a large move is doubtful."""
    fixed = subject.case.volumes["original"].geometry.frame_uid
    if volume is None or not fixed or found.get("frame_uid") != fixed:
        return ()
    move = float(found["largest_move_mm"])
    text = "Both images state one frame of reference; the map moves a corner by {move:.1f} mm (at most 10 expected)."
    message = Message(text, {"move": move})
    return (_check("registration_frame", round(move, 1), good=move <= 10, message=message),)


def _rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation nearest to the linear part."""
    u, _, v = np.linalg.svd(matrix[:3, :3])
    return np.asarray(u @ v)


def _check(name: str, value: float, *, good: bool, message: Message, refused: bool = False) -> Check:
    verdict = Verdict.REFUSED if refused else Verdict.ACCEPTED if good else Verdict.REVIEW
    return Check(name, value, verdict, message)
