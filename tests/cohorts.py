"""A generated cohort of 60 patients, and a table with planted mismatches of every kind."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from tests.phantoms import write_series

FIRST = date(2025, 3, 1)


@dataclass(frozen=True)
class Patient:
    number: int

    @property
    def id(self) -> str:
        return f"{1000 + 37 * self.number:05d}"  # never one edit apart on purpose; test_cohort checks it

    @property
    def name(self) -> str:
        return f"Family{chr(65 + self.number % 26)}{self.number}^Given"

    @property
    def accession(self) -> str:
        return f"A{7 * self.number + 500:06d}X"

    @property
    def day(self) -> date:
        return FIRST + timedelta(days=3 * self.number)

    @property
    def uid(self) -> str:
        return f"1.2.826.0.1.3680043.10.511.77.{self.number + 1}"


PATIENTS = [Patient(n) for n in range(60)]


def write_study(folder: Path, patient: Patient, **more: object) -> None:
    rng = np.random.default_rng(patient.number)
    voxels = rng.integers(-20, 20, (6, 24, 24)).astype(np.int16) - 1000
    voxels[1:5, 6:18, 6:18] += 1040
    settings = {
        "PatientID": patient.id, "PatientName": patient.name, "AccessionNumber": patient.accession,
        "StudyDate": f"{patient.day:%Y%m%d}", "StudyInstanceUID": patient.uid,
        "SeriesInstanceUID": f"{patient.uid}.1", **more,
    }  # fmt: skip

    def named(slices: list) -> list:
        for number, ds in enumerate(slices, start=1):
            for key, value in settings.items():
                setattr(ds, key, value)
            ds.SOPInstanceUID = f"{settings['SeriesInstanceUID']}.{number}"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        return slices

    write_series(folder, voxels, change=named)


def write_cohort(root: Path, count: int = 60) -> None:
    for patient in PATIENTS[:count]:
        write_study(root / f"s{patient.number:03d}", patient)
