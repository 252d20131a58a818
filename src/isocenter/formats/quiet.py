"""Libraries that warn by quoting the header: their words would put patient data on the terminal and into logs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Swallow warnings inside. What is wrong with a file we say ourselves, without quoting the patient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
