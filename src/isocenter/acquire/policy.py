"""What is done about a series that is not as it should be."""

from dataclasses import dataclass
from typing import Literal, get_args

from isocenter.errors import InputError

Mode = Literal["repair", "strict", "report"]
"""`repair` mends what can be mended and says so; `strict` refuses whatever is not right; `report` says all and gives no
volume for an irregular stack."""


@dataclass(frozen=True)
class Policy:
    """How defects are met.

    Args:
        mode: see `Mode`.
        fill: gaps of up to so many missing slices are interpolated; wider ones are refused.
        suv: PET in counts or Bq/mL is turned into SUV, or refused with the reason; False keeps Bq/mL.

    Raises: InputError for a mode or number that cannot be.
    """

    mode: Mode = "repair"
    fill: int = 1
    suv: bool = True

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InputError(f"{self.mode!r} is no policy; there are {', '.join(get_args(Mode))}")
        if not isinstance(self.fill, int) or not 0 <= self.fill <= 100:
            raise InputError(f"gaps of 0 to 100 slices can be filled; {self.fill} was asked for")

    @property
    def key(self) -> str:
        """The policy as text, for hashes and lineage."""
        return f"{self.mode}, fill {self.fill}, {'SUV' if self.suv else 'Bq/mL'}"


REPAIR = Policy()
