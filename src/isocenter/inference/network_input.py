"""What a network eats: the prepared image, on the finer grid that it fills, with columns of a table beside it."""

from collections.abc import Mapping
from dataclasses import replace

from isocenter.data.volume import Volume
from isocenter.errors import InputError
from isocenter.inference.columns import with_columns
from isocenter.inference.degradation import finer, own_factor
from isocenter.inference.model import Spec
from isocenter.inference.prepare import Prepared


def require_images(volume: Volume, spec: Spec) -> None:
    """Refuse an image alone where a model looks at several modalities: it would be taken for each of them.

    Raises: InputError.
    """
    names = spec.channels
    if len(names) > 1 and volume.channels != len(names):
        raise InputError(
            f"the model takes {len(names)} images a case ({', '.join(names)}), and this is {volume.channels}: "
            "`isocenter predict` with a table of these columns; a cell may be empty where the model can do without"
        )


def network_input(ready: Prepared, spec: Spec, row: Mapping[str, str]) -> tuple[Prepared, tuple[str, ...]]:
    """The whole input, and the columns that the case has no value for.

    Args:
        ready: the prepared image.
        spec: of the model.
        row: the case's cells in a table.

    Raises: InputError for a cell that is no number.
    """
    if spec.degradation is not None:
        ready = replace(ready, array=finer(ready.array, own_factor(spec.degradation, ready.array.shape)))
    return with_columns(ready, row, spec.columns)
