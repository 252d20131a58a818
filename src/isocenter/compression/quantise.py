"""Weights and activations as whole numbers of 8 bits."""

import io
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np

from isocenter.errors import InputError, cause_of
from isocenter.optional import require
from isocenter.types import Array


def quantised(data: bytes, windows: Sequence[Array]) -> bytes:
    """An ONNX network whose convolutions are done in whole numbers of 8 bits, fitted to what it sees.

    Source: NNCF's quantisation after training; B. Jacob et al., CVPR 2018, equation 1.

    Args:
        data: the network as ONNX, with one input.
        windows: prepared (`b c *w`), of cases like those that it will see: ranges of activations follow from them.
    Raises: MissingExtra without NNCF; InputError for a network that it does not quantise.
    """
    with _silent():
        nncf: Any = require("nncf", extra="compress")
        onnx: Any = require("onnx", extra="fast")
        model = onnx.load_from_string(data)
        name = model.graph.input[0].name
        seen = [{name: np.ascontiguousarray(window, np.float32)} for window in windows]
        try:
            found = nncf.quantize(model, nncf.Dataset(seen), subset_size=len(seen))
        except Exception as error:  # NNCF raises many kinds for layers that it does not know
            raise InputError(f"this network is not quantised ({cause_of(error)})") from error
    return bytes(found.SerializeToString())


@contextmanager
def _silent() -> Iterator[None]:
    """Without NNCF's bars and messages, and without its telemetry, which stays off where CI is set."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
