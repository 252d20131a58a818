"""Standardised uptake values by body weight: what a PET's stored numbers must be multiplied with.

Source: PS3.3 C.8.9.1 (units, decay correction); QIBA, Computing SUV from PET images with generally adopted DICOM
attributes ("happy path"); Philips' private factors as that text gives them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from isocenter.acquire.codes import noted, refused
from isocenter.data.case import Defect
from isocenter.data.volume import Quantity
from isocenter.errors import UnreadableFile
from isocenter.formats.dicom_frames import Frame, days_of, seconds_of
from isocenter.formats.dicom_header import Header
from isocenter.formats.quiet import quiet

_DAY_S = 86400.0
_LONGEST_S = 12 * 3600.0
_MOST_HALF_LIVES = 10
_START_S = 30.0
"""Seconds by which the series' own time may precede its first acquisition before it is told."""
_PHILIPS = "Philips PET Private Group"


class _NoSuv(Exception):
    """Why there is no SUV, in a sentence."""


@dataclass(frozen=True)
class Uptake:
    """What stored values become.

    Args:
        quantity: SUV, or Bq/mL.
        factor: multiplies rescaled values.
        defects: what was wrong on the way.
        said: numbers for the history.
    """

    quantity: Quantity
    factor: float = 1.0
    defects: tuple[Defect, ...] = ()
    said: dict[str, float | str] | None = None


def uptake(frames: Sequence[Frame], *, suv: bool) -> Uptake:
    """How a PET series is turned into SUV by body weight (g/mL).

    Args:
        frames: of the series.
        suv: False asks for Bq/mL instead.
    """
    header = frames[0].header
    units = header.text("Units").upper()
    try:
        _require_one(frames)
        if units == "GML":
            return _as_is(header, suv=suv)
        if units == "BQML":
            return Uptake(Quantity.ACTIVITY) if not suv else _from_activity(frames, 1.0)
        if units == "CNTS":
            return _from_counts(frames, suv=suv)
        why = f"Units is {units or 'absent'}, from which no SUV follows (GML, BQML and Philips' CNTS are understood)"
    except (_NoSuv, UnreadableFile) as error:
        why = str(error)
    text = "no SUV: {why}; ask for Bq/mL instead (--no-suv), or have the header mended"
    return Uptake(Quantity.ARBITRARY, 1.0, (refused("no-suv", text, why=why),))


def _require_one(frames: Sequence[Frame]) -> None:
    for keyword in ("Units", "DecayCorrection", "PatientWeight"):
        if len({f.header.raw(keyword) for f in frames}) > 1:
            raise _NoSuv(f"{keyword} differs from slice to slice")


@quiet()
def _dataset(header: Header) -> Dataset:
    return header.dataset()


def _as_is(header: Header, *, suv: bool) -> Uptake:
    kind = str(_dataset(header).get("SUVType") or "BW").strip().upper()
    if kind != "BW":
        text = "uptake is stated by {kind}, not by body weight: no SUV by body weight is claimed"
        return Uptake(Quantity.ARBITRARY, 1.0, (noted("no-suv", text, kind=kind),))
    stated = () if suv else (noted("no-suv", "the file states SUV, and no Bq/mL can be had from it"),)
    return Uptake(Quantity.SUV, 1.0, (*_tracer_times(header), *stated), {"units": "GML"})


def _tracer_times(header: Header) -> tuple[Defect, ...]:
    """The tracer's date and time, where it contradicts the scan's."""
    try:
        item = _radiopharmaceutical(header)
        _, defects = _injection(item, header, _scan(header, []))
    except _NoSuv as error:
        return (noted("time-inconsistent", "{why}; the stated SUV is taken as it is", why=str(error)),)
    return defects


def _from_counts(frames: Sequence[Frame], *, suv: bool) -> Uptake:
    """Philips: counts times a private factor are SUV, times another Bq/mL."""
    dataset = _dataset(frames[0].header)
    try:
        block = dataset.private_block(0x7053, _PHILIPS)
        suv_factor = float(block[0x00].value) if 0x00 in block else 0.0
        activity_factor = float(block[0x09].value) if 0x09 in block else 0.0
    except (KeyError, ValueError, TypeError) as error:
        raise _NoSuv("Units is CNTS and Philips' private factors (7053,xx00), (7053,xx09) are absent") from error
    if suv and suv_factor > 0:
        return Uptake(Quantity.SUV, suv_factor, (), {"units": "CNTS", "philips_suv_factor": suv_factor})
    if activity_factor > 0:
        if suv:
            return _from_activity(frames, activity_factor)
        return Uptake(Quantity.ACTIVITY, activity_factor, (), {"philips_activity_factor": activity_factor})
    raise _NoSuv("Units is CNTS and Philips' private factors are 0")


def _from_activity(frames: Sequence[Frame], to_bqml: float) -> Uptake:
    header = frames[0].header
    correction = header.text("DecayCorrection").upper()
    corrected = [w.upper() for w in _texts(_dataset(header), "CorrectedImage")]
    if corrected and "DECY" not in corrected:
        raise _NoSuv(f"CorrectedImage ({', '.join(corrected)}) does not say that decay was corrected")
    item = _radiopharmaceutical(header)
    weight = _positive(header.numbers("PatientWeight"), "PatientWeight", 0.2, 700)
    dose = _positive(_numbers(item, "RadionuclideTotalDose"), "RadionuclideTotalDose", 1e5, 1e11)
    said: dict[str, float | str] = {
        "units": "BQML",
        "decay_correction": correction,
        "weight_kg": weight,
        "dose_bq": dose,
    }
    defects: tuple[Defect, ...] = ()
    left = dose
    if correction == "START":
        half_life = _positive(_numbers(item, "RadionuclideHalfLife"), "RadionuclideHalfLife", 60, 1e7)
        first = _scan(header, frames)
        scan, told = _series_start(header, first, len({id(f.header) for f in frames}))
        injected, defects = _injection(item, header, scan)
        defects = (*told, *defects)
        if scan - injected > _MOST_HALF_LIVES * half_life:
            lives = (scan - injected) / half_life
            raise _NoSuv(
                f"RadionuclideHalfLife is {half_life:g} s: {lives:.0f} of them passed before the scan; seconds?"
            )
        left = dose * 2 ** (-(scan - injected) / half_life)
        said |= {"half_life_s": half_life, "from_injection_to_scan_s": scan - injected}
    elif correction != "ADMIN":
        raise _NoSuv(f"DecayCorrection is {correction or 'absent'}; START and ADMIN are understood")
    factor = to_bqml * weight * 1000 / left
    return Uptake(Quantity.SUV, factor, defects, {**said, "suv_factor": factor})


def _radiopharmaceutical(header: Header) -> Dataset:
    items = _dataset(header).get("RadiopharmaceuticalInformationSequence") or []
    if len(items) != 1:
        raise _NoSuv(f"RadiopharmaceuticalInformationSequence has {len(items)} items where one is needed")
    item: Dataset = items[0]
    return item


def _scan(header: Header, frames: Sequence[Frame]) -> float:
    """When the scan began: the earliest acquisition of the series; seconds on the clock of `days_of`, in local time."""
    found = []
    for each in {id(f.header): f.header for f in frames}.values() or [header]:
        stamp = each.text("AcquisitionDateTime")
        if stamp:
            moment = _moment(stamp, header)
        else:
            seconds = seconds_of(each.text("AcquisitionTime"))
            day = days_of(each.text("AcquisitionDate")) or days_of(header.text("SeriesDate"))
            moment = None if seconds is None or not day else day * _DAY_S + seconds
        if moment is None:
            raise _NoSuv("AcquisitionDate or AcquisitionTime is absent or malformed")
        found.append(moment)
    return min(found)


def _series_start(header: Header, first: float, count: int) -> tuple[float, tuple[Defect, ...]]:
    """What decay was corrected to: the first acquisition, or the series' own start where slices are missing.

    A series of which only a part is here may lack its first bed position: its earliest acquisition is then too late.
    """
    seconds, day = seconds_of(header.text("SeriesTime")), days_of(header.text("SeriesDate"))
    whole = header.number("NumberOfSlices", 0)
    if seconds is None or not day or not _START_S < first - (day * _DAY_S + seconds) < _LONGEST_S:
        return first, ()
    start = day * _DAY_S + seconds
    values = {"s": first - start, "n": count, "all": whole}
    if whole > count:
        text = (
            "the series began {s:.0f} s before its first acquisition here, and {n} of {all:g} slices are here: its own "
            "start counts"
        )
        return start, (noted("time-inconsistent", text, **values),)
    text = "the series began {s:.0f} s before its first acquisition, from which decay is reckoned"
    return first, (noted("time-inconsistent", text, **values),)


def _moment(stamp: str, header: Header) -> float | None:
    """Seconds of a DICOM date and time (`YYYYMMDDHHMMSS.FFFFFF&ZZXX`) in the local time of the file."""
    seconds, day = seconds_of(stamp[8:]), days_of(stamp[:8])
    if seconds is None or not day:
        return None
    own = _offset(stamp[8:])
    return day * _DAY_S + seconds + (0.0 if own is None else _zone(header, own) - own)


def _zone(header: Header, otherwise: float) -> float:
    """Seconds east of UTC of the scanner's clock: stated for the file, or behind its acquisition times."""
    for stated in (header.text("TimezoneOffsetFromUTC"), header.text("AcquisitionDateTime")[8:]):
        found = _offset(stated)
        if found is not None:
            return found
    return otherwise


def _offset(text: str) -> float | None:
    """Seconds east of UTC that a time states behind its sign; None where it states none."""
    match = re.search(r"([+-])(\d{2})(\d{2})$", text)
    return None if match is None else float(f"{match[1]}1") * (int(match[2]) * 3600 + int(match[3]) * 60)


def _injection(item: Dataset, header: Header, scan: float) -> tuple[float, tuple[Defect, ...]]:
    """When the tracer was given: its date and time where that agrees with the scan, else its time of day."""
    stamp = _text(item, "RadiopharmaceuticalStartDateTime")
    injected = _moment(stamp, header)
    if injected is not None and 0 <= scan - injected <= _LONGEST_S:
        return injected, ()
    clock = seconds_of(_text(item, "RadiopharmaceuticalStartTime"))
    if clock is None:
        raise _NoSuv("the time of injection is absent, malformed, or does not fit the scan")
    injected = scan // _DAY_S * _DAY_S + clock
    if injected > scan:
        injected -= _DAY_S  # given before midnight
    if scan - injected > _LONGEST_S:
        raise _NoSuv(f"{(scan - injected) / 3600:.1f} hours lie between injection and scan")
    if not stamp:
        return injected, ()
    text = "the tracer's start ({stamp}) does not lie before the scan of {date} {clock}; its time of day does"
    values = {"stamp": stamp, "date": header.text("AcquisitionDate"), "clock": header.text("AcquisitionTime")}
    return injected, (noted("time-inconsistent", text, **values),)


def _positive(numbers: Sequence[float], keyword: str, low: float, high: float) -> float:
    if not numbers:
        raise _NoSuv(f"{keyword} is absent")
    if not low <= numbers[0] <= high:
        raise _NoSuv(f"{keyword} is {numbers[0]:g}, which cannot be")
    return numbers[0]


def _numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    try:
        value = dataset.get(keyword)
        return () if value is None or value == "" else (float(value),)
    except (TypeError, ValueError):
        return ()


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _texts(dataset: Dataset, keyword: str) -> list[str]:
    value = dataset.get(keyword)
    return [] if not value else [value] if isinstance(value, str) else [str(v) for v in value]
