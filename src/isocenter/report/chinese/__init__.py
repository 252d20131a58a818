"""Simplified Chinese for every sentence that a report can say, by where it is said. A test holds it complete."""

from isocenter.report.chinese.acquire import ACQUIRE
from isocenter.report.chinese.analyse import ANALYSE
from isocenter.report.chinese.judgement import JUDGEMENT
from isocenter.report.chinese.page import PAGE

CHINESE: dict[str, str] = {**PAGE, **ACQUIRE, **ANALYSE, **JUDGEMENT}
"""English template -> Chinese template over the same values."""
