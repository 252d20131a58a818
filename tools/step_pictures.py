"""Write docs/images/steps/: what each step does, on the MNI152 average head and on generated pictures."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from isocenter.data.geometry import Geometry
from isocenter.data.labels import Label, LabelMap
from isocenter.data.volume import Quantity, Volume
from isocenter.formats import mni152, nifti
from isocenter.ops.itk import limited_threads
from isocenter.pipeline.attempt import try_step

TARGET = Path(__file__).parents[1] / "docs" / "images" / "steps"
NOISY = {
    "mean": {"radius_mm": 2}, "median": {"radius_mm": 2}, "gaussian": {"sigma_mm": 1.5}, "bilateral": {"sigma_mm": 1},
    "non_local_means": {"search_mm": 4}, "total_variation": {}, "anisotropic_diffusion": {"iterations": 15},
    "n4": {},
}  # fmt: skip
CLEAN = {
    "histogram_equalization": {}, "clahe": {}, "contrast_stretching": {"low_percentile": 30}, "gamma": {"gamma": 0.5},
    "unsharp_mask": {"sigma_mm": 2}, "laplacian_sharpening": {}, "window": {"low": 60, "high": 240},
    "resample": {"spacing_mm": 4}, "crop": {}, "pad": {"margin_mm": 30}, "orient": {"to": "SPR"},
    "threshold": {"low": 150, "unit": "arbitrary"}, "otsu": {}, "li": {}, "adaptive": {"sigma_mm": 8},
    "multi_otsu": {"classes": ["background", "grey", "white"]}, "k_means": {"classes": ["air", "fluid", "grey", "white"]},
    "fuzzy_c_means": {"classes": ["air", "fluid", "grey", "white"]},
    "gaussian_mixture": {"classes": ["air", "fluid", "grey", "white"]},
    "region_growing": {"seeds_mm": [[20, 20, 30]], "low": 190, "high": 255, "unit": "arbitrary"},
    "confidence_connected": {"seeds_mm": [[20, 20, 30]]}, "chan_vese": {},
}  # fmt: skip


REFINED = {
    "components": {}, "fill_holes": {}, "opening": {"radius_mm": 2}, "closing": {"radius_mm": 2},
    "dilation": {"radius_mm": 2}, "erosion": {"radius_mm": 2}, "smooth": {"sigma_mm": 1.5},
}  # fmt: skip


def noisy_head() -> Volume:
    """The average head with noise and a coil's drift, its middle slices only."""
    head = mni152.t1().voxels[0, 60:110].astype(np.float32)
    rng = np.random.default_rng(0)
    drift = np.exp(0.4 * np.linspace(-1, 1, head.shape[2]))[None, None]
    return Volume((head * drift + rng.normal(0, 15, head.shape)).astype(np.float32)[None], _geometry(head.shape))


def _geometry(shape: tuple[int, ...]) -> Geometry:
    return Geometry.regular(shape, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(-98.0, -134.0, -12.0))


def cells() -> np.ndarray:
    """A generated smear: touching pink discs with a purple nucleus here and there."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:240, :320]
    picture = np.full((240, 320, 3), 235.0)
    for i in range(38):
        cy, cx, r = rng.uniform(10, 230), rng.uniform(10, 310), rng.uniform(13, 18)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < r**2
        picture[inside] = (120, 80, 170) if i % 9 == 0 else (215, 160, 165)
    return np.clip(picture + rng.normal(0, 5, picture.shape), 0, 255).astype(np.uint8)


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, limited_threads(2):
        folder = Path(name)
        nifti.write(noisy_head(), folder / "noisy.nii.gz")
        head = mni152.t1()
        flat = Volume(head.voxels[:, 60:110], _geometry(head.voxels[0, 60:110].shape))
        nifti.write(flat, folder / "clean.nii.gz")
        marks = np.zeros(flat.geometry.shape, np.uint8)
        marks[flat.grid > 235], marks[(flat.grid > 130) & (flat.grid < 150)], marks[flat.grid < 40] = 2, 1, 3
        nifti.write(
            LabelMap(marks, flat.geometry, (Label(1, "grey"), Label(2, "white"), Label(3, "ground"))),
            folder / "marks.nii.gz",
        )
        Image.fromarray(cells()).save(folder / "cells.png")
        grey = Image.fromarray(cells()).convert("L")
        Image.fromarray(np.where(np.asarray(grey) < 205, 255, 0).astype(np.uint8)).save(folder / "mask.png")
        for table, image in ((NOISY, "noisy.nii.gz"), (CLEAN, "clean.nii.gz")):
            for step, settings in table.items():
                shown(step, folder / image, settings)
        bright = LabelMap.of_mask(np.asarray(noisy_head().grid > 210), flat.geometry, name="bright")
        nifti.write(bright, folder / "bright.nii.gz")
        for step, settings in REFINED.items():
            shown(step, folder / "clean.nii.gz", settings, mask=folder / "bright.nii.gz")
        shown("edges", mni152.path_of("t1"), {"sigma_mm": 2})
        shown("watershed", folder / "clean.nii.gz", {}, mask=folder / "marks.nii.gz")
        shown("channel", folder / "cells.png", {"take": "saturation"})
        shown("stain", folder / "cells.png", {})
        shown("split", folder / "cells.png", {"depth_px": 2}, mask=folder / "mask.png")
        small = Volume(flat.voxels[:, 20:26, 60:180, 40:160], Geometry.regular((6, 120, 120)), Quantity.ARBITRARY)
        nifti.write(small, folder / "small.nii.gz")
        nifti.write(
            LabelMap(
                marks[20:26, 60:180, 40:160], small.geometry, (Label(1, "grey"), Label(2, "white"), Label(3, "ground"))
            ),
            folder / "few.nii.gz",
        )
        shown("random_walker", folder / "small.nii.gz", {}, mask=folder / "few.nii.gz")


def shown(step: str, image: Path, settings: dict, mask: Path | None = None) -> None:
    """One step's picture, shrunk to 256 colours."""
    target = TARGET / f"{step}.png"
    try_step(step, image, target, settings=settings, mask=mask)
    with Image.open(target) as picture:
        picture.convert("RGB").resize((picture.width * 3 // 4, picture.height * 3 // 4)).quantize(64).save(
            target, optimize=True
        )
    print(step, target.stat().st_size)


if __name__ == "__main__":
    main()
