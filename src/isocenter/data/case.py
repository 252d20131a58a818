"""One examination: who, which series, which of them can be trusted, and what was made of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from isocenter.data.cine import Cine
from isocenter.data.geometry import Geometry
from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.notebook import html_table
from isocenter.data.provenance import Json
from isocenter.data.transform import Transform
from isocenter.data.volume import Volume
from isocenter.errors import AmbiguousSelection, IrregularSeries, IsocenterError, UnreadableFile, cause_of


@dataclass(frozen=True)
class Identity:
    """Who was examined; empty where the files do not say."""

    patient_id: str = ""
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    age: str = ""
    study_uid: str = ""
    study_date: str = ""
    accession_number: str = ""
    study_description: str = ""


@dataclass(frozen=True)
class Defect:
    """Something wrong with a series.

    Args:
        code: lower-case words with hyphens; `acquire.codes` says what each means.
        message: what is wrong, with slices and millimetres.
        fatal: no volume is given.
        remedy: what was done to mend it; None where nothing was changed.
    """

    code: str
    message: Message
    fatal: bool = True
    remedy: Message | None = None

    @property
    def said(self) -> Message:
        """What is wrong and what was done."""
        if self.remedy is None:
            return self.message
        return Message("{what}: {remedy}", {"what": self.message, "remedy": self.remedy})


@dataclass(frozen=True)
class RefusedFile:
    """A file that is not part of any series, and why."""

    file: Path
    message: str


@dataclass(frozen=True, eq=False)
class Result:
    """A segmentation that another program wrote: DICOM SEG or RTSTRUCT.

    Args:
        uid: Series Instance UID.
        instance_uid: SOP Instance UID.
        kind: `SEG` or `RTSTRUCT`.
        description: the series' own words.
        names: of its segments or regions.
        file: where it is.
        series_uid: of the image it was made on; empty where it does not say.
        read: brings it onto an image's grid; segments that overlap come in several label maps.
        keep: what must live as long as the file is needed; see `Series`.
    """

    uid: str
    instance_uid: str
    kind: str
    description: str
    names: tuple[str, ...]
    file: Path
    series_uid: str
    read: Callable[[Geometry], tuple[LabelMap, ...]] = field(repr=False)
    keep: object = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Series:
    """One series as its headers tell it; voxels are read on demand.

    Args:
        uid: Series Instance UID, or the file's name where there is none.
        format: `dicom`, `nifti`, `nrrd`, `metaimage`, `hdf5`, `raster`.
        modality: DICOM's (`CT`, `MR`); empty where the file does not say.
        description: the series' own words.
        shape: (d, h, w).
        channels: numbers per voxel.
        spacing_mm: along (d, h, w); None where there are no millimetres or no regular grid.
        attributes: acquisition parameters by DICOM keyword, for selection and preconditions.
        defects: what the series doctor found.
        files: in slice order where that is known.
        read: gives the voxels.
        index: which of the volumes that the doctor split a series into.
        parts: how many those are.
        frames: in time; 1 for a volume.
        localizer: a scout view that was split off.
        regridded: its slices were brought onto a regular grid: filled, resampled, or straightened.
        path: the file, or the folder that holds its files.
        keep: what must live as long as the files are needed: the folder of an unpacked archive.
    """

    uid: str
    format: str
    modality: str
    description: str
    shape: tuple[int, int, int]
    channels: int
    spacing_mm: tuple[float, float, float] | None
    attributes: Mapping[str, Json] = field(repr=False)
    defects: tuple[Defect, ...]
    files: tuple[Path, ...] = field(repr=False)
    read: Callable[[], Volume | Cine] = field(repr=False)
    index: int = 0
    parts: int = 1
    frames: int = 1
    localizer: bool = False
    regridded: bool = False
    path: Path = Path()
    keep: object = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """The UID, with `#n` behind it where the doctor split the series."""
        return self.uid if self.parts == 1 else f"{self.uid}#{self.index}"

    @property
    def slice_by_slice(self) -> bool:
        """Each slice of the volume is one file as the scanner wrote it: nothing was resampled or filled."""
        return self.format == "dicom" and len(self.files) == self.shape[0] and not self.regridded

    @property
    def usable(self) -> bool:
        """No defect forbids reading it."""
        return not any(defect.fatal for defect in self.defects)

    @property
    def verdict(self) -> Literal["ok", "repaired", "refused"]:
        """What the doctor says: `repaired` where something was mended."""
        if not self.usable:
            return "refused"
        return "repaired" if any(defect.remedy is not None for defect in self.defects) else "ok"

    def volume(self) -> Volume:
        """Read the voxels of one volume.

        Raises: IrregularSeries with the defects' sentences; AmbiguousSelection for a cine.
        """
        if self.usable and self.frames > 1:
            raise AmbiguousSelection(
                f"series {self.key} is a cine of {self.frames} frames and one volume was wanted: take one of them "
                "(`.cine().frame(i)`, or --frame)"
            )
        found = self._read()
        return found if isinstance(found, Volume) else found.frame(0)

    def cine(self) -> Cine:
        """Read all frames; a volume is a cine of one.

        Raises: IrregularSeries with the defects' sentences.
        """
        found = self._read()
        if isinstance(found, Cine):
            return found
        mask = None if found.not_measured is None else found.not_measured[None]
        return Cine(found.voxels[None], found.geometry, None, found.quantity, found.history, mask)

    def _read(self) -> Volume | Cine:
        fatal = [str(defect.message) for defect in self.defects if defect.fatal]
        if fatal:
            raise IrregularSeries(f"series {self.key} is refused: " + "; ".join(fatal))
        try:
            return self.read()
        except IsocenterError:
            raise
        except Exception as error:  # a codec's surprise: the file's fault, said in a sentence
            raise UnreadableFile(f"series {self.key}: its voxels cannot be read ({cause_of(error)})") from error


@dataclass(frozen=True, eq=False)
class Case:
    """One examination. Values: `with_volume` and `with_labels` return a new case."""

    name: str
    path: Path
    identity: Identity
    series: tuple[Series, ...]
    refused_files: tuple[RefusedFile, ...] = ()
    volumes: Mapping[str, Volume] = field(default_factory=dict, repr=False)
    label_maps: Mapping[str, LabelMap] = field(default_factory=dict, repr=False)
    results: tuple[Result, ...] = ()
    transforms: Mapping[str, Transform] = field(default_factory=dict, repr=False)
    dates: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Study date of volumes that came from another study."""
    cine: Cine | None = field(default=None, repr=False)
    """Frames in time, where a recipe took some; the volume `original` is then the one in the middle."""

    def one(self, uid: str | None = None) -> Series:
        """The series `uid` (`uid#n` where it was split), or the only one there is but for localizers split off.

        Raises: AmbiguousSelection with the list to choose from.
        """
        return one_of(self.series, uid, where=str(self.path))

    def volume(self, uid: str | None = None) -> Volume:
        """Read the series `uid`, or the only one there is; see `one`.

        Raises: AmbiguousSelection with the list to choose from.
        """
        return self.one(uid).volume()

    def labels(self, result: Result, *, on: Series | None = None) -> tuple[LabelMap, ...]:
        """The segments of a SEG or RTSTRUCT on the grid of the image that it was made on.

        Args:
            result: one of `results`.
            on: the image, where the result does not name one of this case.
        Returns: one label map, or more where segments overlap.
        Raises: AmbiguousSelection where the image cannot be told; GeometryError where they do not fit.
        """
        if on is None:
            of_it = [s for s in self.series if s.uid == result.series_uid] if result.series_uid else list(self.series)
            if not of_it:
                raise AmbiguousSelection(
                    f"{result.file.name} was made on the series {result.series_uid}, which is not here; open the "
                    "folder that holds both, or name the image"
                )
            on = one_of(of_it, None, where=str(self.path))
        return result.read(on.cine().geometry if on.frames > 1 else on.volume().geometry)

    def with_volume(self, name: str, volume: Volume) -> "Case":
        """A case that also holds `volume` under `name`."""
        return replace(self, volumes={**self.volumes, name: volume})

    def with_labels(self, name: str, labels: LabelMap) -> "Case":
        """A case that also holds `labels` under `name`."""
        return replace(self, label_maps={**self.label_maps, name: labels})

    def with_transform(self, name: str, transform: Transform) -> "Case":
        """A case that also holds the map that brought the volume `name` to where it lies."""
        return replace(self, transforms={**self.transforms, name: transform})

    def _repr_html_(self) -> str:
        rows = [
            (s.key, s.modality or "-", s.description or "-", " x ".join(map(str, s.shape)), _verdict(s))
            for s in self.series
        ]
        return html_table(f"Case {self.name}", rows, head=("series", "modality", "description", "d x h x w", "verdict"))


def one_of(series: Sequence[Series], uid: str | None, *, where: str) -> Series:
    """The series `uid` (or `uid#n`), or the only one but for localizers that were split off.

    Raises: AmbiguousSelection with the list to choose from.
    """
    if not series:
        raise AmbiguousSelection(
            f"{where} holds no image, only what others made of one (SEG, RTSTRUCT): give the image too"
        )
    if uid is not None:
        chosen = [s for s in series if uid in (s.key, s.uid)]
        wanted = f"{len(chosen)} volumes have" if chosen else "no series has"
        wanted = f"{wanted} the UID {uid}"
        chosen = [s for s in chosen if s.key == uid or not s.localizer]
    else:
        chosen = [s for s in series if not s.localizer] if len(series) > 1 else list(series)
        wanted = f"{where} holds {len(series)} series and one was wanted"
    if len(chosen) == 1:
        return chosen[0]
    raise AmbiguousSelection(f"{wanted}; choose one by its UID (--series):\n" + "\n".join(map(describe, series)))


def _verdict(series: Series) -> str:
    return ": ".join([series.verdict, *(["; ".join(str(d.said) for d in series.defects)] if series.defects else [])])


def describe(series: Series) -> str:
    """One line about a series, for lists to choose from."""
    spacing = "no mm" if series.spacing_mm is None else " x ".join(f"{s:.3g}" for s in series.spacing_mm) + " mm"
    shape = " x ".join(map(str, series.shape)) + (f" x {series.frames} frames" if series.frames > 1 else "")
    words = f"{series.modality or '?'}  {shape}  {spacing}  {series.description or ''}".rstrip()
    return f"  {series.key}  {words}" + ("" if series.usable else "  (refused)")
