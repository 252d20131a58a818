"""One examination: who, which series, which of them can be trusted, and what was made of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.notebook import html_table
from isocenter.data.provenance import Json
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
    """Something wrong with a series. `fatal` means that no volume is given."""

    code: str
    message: Message
    fatal: bool = True


@dataclass(frozen=True)
class RefusedFile:
    """A file that is not part of any series, and why."""

    file: Path
    message: str


@dataclass(frozen=True, eq=False)
class Series:
    """One series as its headers tell it; voxels are read on demand.

    Args:
        uid: Series Instance UID, or the file's name where there is none.
        format: `dicom`, `nifti`, `nrrd`, `raster`.
        modality: DICOM's (`CT`, `MR`); empty where the file does not say.
        description: the series' own words.
        shape: (d, h, w).
        channels: numbers per voxel.
        spacing_mm: along (d, h, w); None where there are no millimetres or no regular grid.
        attributes: acquisition parameters by DICOM keyword, for selection and preconditions.
        defects: what the series doctor found.
        files: in slice order where that is known.
        read: gives the voxels.
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
    read: Callable[[], Volume] = field(repr=False)

    @property
    def usable(self) -> bool:
        """No defect forbids reading it."""
        return not any(defect.fatal for defect in self.defects)

    def volume(self) -> Volume:
        """Read the voxels.

        Raises: IrregularSeries with the defects' sentences.
        """
        fatal = [str(defect.message) for defect in self.defects if defect.fatal]
        if fatal:
            raise IrregularSeries(f"series {self.uid} is refused: " + "; ".join(fatal))
        try:
            return self.read()
        except IsocenterError:
            raise
        except Exception as error:  # a codec's surprise: the file's fault, said in a sentence
            raise UnreadableFile(f"series {self.uid}: its voxels cannot be read ({cause_of(error)})") from error


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

    def volume(self, uid: str | None = None) -> Volume:
        """Read the series `uid`, or the only one there is.

        Raises: AmbiguousSelection with the list to choose from.
        """
        if uid is not None:
            chosen = [s for s in self.series if s.uid == uid]
            wanted = f"no series has the UID {uid}"
        else:
            chosen = list(self.series)
            wanted = f"{self.path} holds {len(self.series)} series and one was wanted"
        if len(chosen) == 1:
            return chosen[0].volume()
        raise AmbiguousSelection(f"{wanted}; choose one by its UID:\n" + "\n".join(map(describe, self.series)))

    def with_volume(self, name: str, volume: Volume) -> "Case":
        """A case that also holds `volume` under `name`."""
        return replace(self, volumes={**self.volumes, name: volume})

    def with_labels(self, name: str, labels: LabelMap) -> "Case":
        """A case that also holds `labels` under `name`."""
        return replace(self, label_maps={**self.label_maps, name: labels})

    def _repr_html_(self) -> str:
        rows = [
            (s.uid, s.modality or "-", s.description or "-", " x ".join(map(str, s.shape)), _verdict(s))
            for s in self.series
        ]
        return html_table(f"Case {self.name}", rows, head=("series", "modality", "description", "d x h x w", "verdict"))


def _verdict(series: Series) -> str:
    if not series.defects:
        return "ok"
    return ("refused: " if not series.usable else "ok, but ") + "; ".join(str(d.message) for d in series.defects)


def describe(series: Series) -> str:
    """One line about a series, for lists to choose from."""
    spacing = "no mm" if series.spacing_mm is None else " x ".join(f"{s:.3g}" for s in series.spacing_mm) + " mm"
    shape = " x ".join(map(str, series.shape))
    words = f"{series.modality or '?'}  {shape}  {spacing}  {series.description or ''}".rstrip()
    return f"  {series.uid}  {words}" + ("" if series.usable else "  (refused)")
