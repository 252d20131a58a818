"""What a series is called, whatever a scanner or a technician wrote: canonical names of MR sequences and CT phases."""

import re
import unicodedata
from collections.abc import Iterable, Mapping

_T1 = r"(?=.*(\bt1|mprage|spgr|vibe|bravo|tfe|flash|lava|thrive))"
_CONTRAST = r"(?=.*(\+ ?c\b|\bce\b|\bc ?\+|gad|\bgd\b|post|contrast|enh|\bkm\b|增强))"
_RULES: tuple[tuple[str, str], ...] = (
    ("localizer", r"\b(loc|localizer|localiser|scout|survey|topo(gram)?|3 ?plane|planning|定位)"),
    ("ADC", r"\b(adc|apparent diff)"),
    ("DWI", r"\b(dwi|diff(usion)?|ep2d diff|trace[wb]?|b ?\d{3,4}|resolve|弥散|扩散)"),
    ("SWI", r"\b(swi|swan|venobold|susceptib|磁敏感)"),
    ("perfusion", r"\b(perf(usion)?|dsc|pwi|asl|灌注)"),
    ("DCE", r"\b(dce|dynamic|dyn|twist|disco|动态)"),
    ("FLAIR", r"(flair|dark ?fluid|tirm.*fl)"),
    ("STIR", r"\b(stir|tirm)\b"),
    ("PD", r"\b(pd|proton|质子)\w*\b"),
    ("T2*", r"(t2 ?\*|t2 ?star|\bmedic\b|\bt2 ?(ffe|gre|fl2d|hemo)|\bmerge\b)"),
    ("T1 post-contrast", _T1 + _CONTRAST),
    ("T2", r"(\bt2|haste|ssfse|\bfiesta|\bciss|\btrufi|\bspace\b(?!.*t1))"),
    ("T1", r"(\bt1|mprage|mp rage|bravo|spgr|vibe|flash|\blava|thrive|\btfe\b)"),
    ("CTA", r"\b(cta|ct ?angio|angio)"),
    ("arterial", r"\b(art|arterial|动脉)"),
    ("portal venous", r"\b(portal|pv|ven(ous)?|门静脉|静脉)"),
    ("delayed", r"\b(delay(ed)?|late|equilib|延迟)"),
    ("non-contrast", r"\b(non ?contrast|native|nativ|plain|without|w ?o ?c|nc|unenh\w*|平扫)"),
    ("PET", r"\b(pet|suv|wb ?ac|fdg)"),
)
"""The first rule that fits wins; `-`, `_` and `.` are spaces, and accents and case do not matter."""


def sequence_names(
    descriptions: Iterable[str], *, own: Mapping[str, str] | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Canonical name of each series description, and those that no rule knows.

    Names are read from words, not from the pictures: a series that is called T1 and is none keeps its wrong name.

    Args:
        descriptions: SeriesDescription of each series.
        own: description -> name, which go before the rules.
    Returns: description -> name, and the unmatched in order.
    """
    named: dict[str, str] = {}
    unmatched: list[str] = []
    for text in dict.fromkeys(descriptions):
        if own and text in own:
            named[text] = own[text]
            continue
        plain = _plain(text)
        found = next((name for name, pattern in _RULES if re.search(pattern, plain)), None)
        if found is None:
            unmatched.append(text)
        else:
            named[text] = found
    return named, tuple(unmatched)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text[:300]).casefold()
    kept = "".join(c for c in folded if not unicodedata.combining(c))
    return " ".join(re.sub(r"[-_.,;:/()\[\]]+", " ", kept).split())
