"""Coded concepts (SNOMED CT codes as DICOM PS3.16 uses them) for the structures that our steps name."""

from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True)
class CodedConcept:
    """A code that another program understands."""

    value: str
    scheme: str
    meaning: str


TISSUE = CodedConcept("85756007", "SCT", "Tissue")
ANATOMICAL_STRUCTURE = CodedConcept("91723000", "SCT", "Anatomical Structure")
BODY_SUBSTANCE = CodedConcept("91720002", "SCT", "Body Substance")

CONCEPTS: dict[str, tuple[CodedConcept, CodedConcept]] = {
    "brain": (ANATOMICAL_STRUCTURE, CodedConcept("12738006", "SCT", "Brain")),
    "cerebrospinal fluid": (BODY_SUBSTANCE, CodedConcept("65216001", "SCT", "Cerebrospinal Fluid")),
    "grey matter": (TISSUE, CodedConcept("389081007", "SCT", "Gray Matter")),
    "white matter": (TISSUE, CodedConcept("389080008", "SCT", "White Matter")),
}
"""Label name -> (category, type). A name that is not here is written as `Tissue` with its own text."""


def concepts_of(name: str) -> tuple[CodedConcept, CodedConcept]:
    """Category and type of a label by its name; a private code for names that the table lacks."""
    private = CodedConcept(f"LABEL_{abs(hash_name(name)) % 10**8:08d}", "99ISOCENTER", name[:64])
    return CONCEPTS.get(name.replace("_", " ").lower(), (TISSUE, private))


def hash_name(name: str) -> int:
    """A number for `name` that is the same in every process (unlike `hash`)."""
    return int.from_bytes(sha256(name.encode()).digest()[:6], "big")
