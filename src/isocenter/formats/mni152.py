"""The MNI152 average brain (ICBM 2009a nonlinear symmetric, T1, 1 mm, already extracted) that nilearn carries.

Source: V. Fonov et al., NeuroImage 54(1):313-327, 2011; copyright McConnell Brain Imaging Centre, free to use with
its notice; redistributed by nilearn.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from isocenter.data.volume import Volume
from isocenter.errors import UnreadableFile
from isocenter.formats import nifti
from isocenter.ops.morphology import fill_holes
from isocenter.types import Mask


def path_of(kind: str) -> Path:
    """File of the T1 image (`t1`) or of a tissue map (`gm`, `wm`); nilearn itself is not imported.

    Raises: UnreadableFile where nilearn's data are absent.
    """
    spec = find_spec("nilearn")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        file = Path(place) / "datasets" / "data" / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        if file.is_file():
            return file
    raise UnreadableFile(f"the MNI152 {kind} image is not where nilearn keeps it; reinstall nilearn")


def t1() -> Volume:
    """The T1-weighted average brain; 0 outside."""
    return _volume("t1")


def brain_mask(t1_volume: Volume) -> Mask:
    """Where the average brain is."""
    return fill_holes(np.asarray(t1_volume.grid > 0))


def tissue_map(kind: str) -> Volume:
    """Share of grey (`gm`) or white (`wm`) matter in each voxel, 0 to 255."""
    return _volume(kind)


def _volume(kind: str) -> Volume:
    found = nifti.read(path_of(kind))
    assert isinstance(found, Volume), "the average brain does not move"
    return found
