"""Data for the tests: real data where they are, phantoms otherwise."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from isocenter.data.geometry import Geometry
from isocenter.data.volume import Quantity, Volume
from tests.phantoms import write_series

# The same examples on every machine; no deadlines, which a busy machine would miss.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A folder of real data, or a skip that says where it was looked for."""
    root = Path(os.environ.get("ISOCENTER_DATA", Path(__file__).parents[2] / "shared" / "data"))

    def folder(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"real data {name!r} are not at {root}; set ISOCENTER_DATA to where they are")
        return root / name

    return folder


@pytest.fixture
def ct_series(tmp_path: Path) -> Path:
    """A regular CT series of 12 slices of 2.5 mm in a folder with a space and Chinese characters."""
    folder = tmp_path / "胸部 CT"
    rng = np.random.default_rng(0)
    write_series(folder, rng.integers(-1000, 1500, (12, 16, 20)).astype(np.int16), spacing=(2.5, 0.8, 0.7))
    return folder


@pytest.fixture
def ball() -> Volume:
    """A bright ball (radius 12 mm, 300) on dark ground (100) with a little noise, anisotropic voxels."""
    geometry = Geometry.regular((24, 40, 40), spacing_mm=(1.5, 1.0, 1.0), origin_mm=(-20.0, -20.0, -18.0))
    index = np.argwhere(np.ones(geometry.shape, np.bool_)).astype(np.float64)
    radius = np.linalg.norm(geometry.index_to_world(index), axis=1).reshape(geometry.shape)
    rng = np.random.default_rng(1)
    voxels = np.where(radius <= 12, 300, 100) + rng.normal(0, 5, geometry.shape)
    return Volume(voxels[None].astype(np.float32), geometry, Quantity.ARBITRARY)
