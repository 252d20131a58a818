"""Radiomic features beside pyradiomics and nyxus, each by its public API, in one run.

    python -m benchmarks.features --pyradiomics PYTHON --nyxus PYTHON

PYTHON is the interpreter of an environment that has the peer (docs/en/features.md says how to make one). pyradiomics is
compared on images in memory, nyxus on the same NIfTI files, which is all that its 3-D interface reads.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = {"4 k": 10, "270 k": 40, "5 M": 106}
"""Radius in voxels of a ball of about so many voxels."""

_PYRADIOMICS = """
import json, logging, sys, time
import SimpleITK as sitk
from radiomics import featureextractor
logging.getLogger("radiomics").setLevel(logging.ERROR)
extractor = featureextractor.RadiomicsFeatureExtractor()
out = {}
for name, image, mask in json.loads(sys.argv[1]):
    times = []
    image, mask = sitk.ReadImage(image), sitk.ReadImage(mask)
    for _ in range(3):
        start = time.perf_counter(); found = extractor.execute(image, mask); times.append(time.perf_counter() - start)
    out[name] = [min(times), sum(key.startswith("original") for key in found)]
extractor.disableAllFeatures()
voxels = featureextractor.RadiomicsFeatureExtractor(binCount=32, kernelRadius=2, maskedKernel=True)
voxels.disableAllFeatures()
for family in ("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm"):
    voxels.enableFeatureClassByName(family)
start = time.perf_counter(); voxels.execute(sys.argv[2], sys.argv[3], voxelBased=True)
out["maps"] = [time.perf_counter() - start, 0]
print(json.dumps(out))
"""

_NYXUS = """
import json, sys, time
from nyxus import Nyxus3D
out = {}
for name, image, mask in json.loads(sys.argv[1]):
    times = []
    for _ in range(3):
        machine = Nyxus3D(["*3D_ALL*"])
        start = time.perf_counter(); found = machine.featurize_files([image], [mask], True)
        times.append(time.perf_counter() - start)
    out[name + " files"] = [min(times), found.shape[1]]
print(json.dumps(out))
"""

_OURS = """
import json, sys, time
import isocenter
out = {}
for name, image, mask in json.loads(sys.argv[1]):
    volume = isocenter.open(image).volume()
    labels = isocenter.LabelMap.of_mask(isocenter.open(mask).volume().grid > 0, volume.geometry, name="region")
    for kind, pair in (("", (volume, labels)), (" files", (image, mask))):
        times = []
        for _ in range(40 if name == "4 k" else 4):
            start = time.perf_counter(); found = isocenter.extract_features(*pair, settings={"bin_width": 25})
            times.append(time.perf_counter() - start)
        out[name + kind] = [min(times), len(found)]
from isocenter.features.maps import feature_maps
from isocenter.features.settings import Radiomics
volume, mask = isocenter.open(sys.argv[2]).volume(), isocenter.open(sys.argv[3]).volume()
for _ in range(2):
    start = time.perf_counter()
    feature_maps(volume.grid, mask.grid > 0, (1.0, 1.0, 1.0), Radiomics(bin_count=32), radius_mm=12**0.5,
                 quantity=volume.quantity)
    out["maps"] = [time.perf_counter() - start, 0]
import resource
out["memory"] = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 0]
print(json.dumps(out))
"""


def ball(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth and noisy intensities like those of soft tissue, and a ball in them."""
    from scipy.ndimage import gaussian_filter

    size = 2 * radius + 9
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:size, :size, :size]
    middle = size // 2
    mask = (z - middle) ** 2 + (y - middle) ** 2 + (x - middle) ** 2 <= radius**2
    smooth = gaussian_filter(rng.normal(0, 1, (size,) * 3).astype(np.float32), 1.5)
    values = smooth / smooth.std() * 100 + 40 + 20 * rng.normal(0, 1, smooth.shape)
    return np.round(values).astype(np.int16), mask


def measured(python: str, script: str, *arguments: str) -> dict[str, list[float]]:
    done = subprocess.run([python, "-c", script, *arguments], capture_output=True, text=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pyradiomics", help="interpreter with pyradiomics")
    parser.add_argument("--nyxus", help="interpreter with nyxus")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for name, radius in {**SIZES, "maps": 8}.items():
            values, mask = ball(radius)
            cases.append((name, *written(Path(folder), name, values, mask)))
        small = cases.pop()
        start = time.perf_counter()
        measured(sys.executable, _OURS, json.dumps(cases[:1]), *small[1:])
        print(f"first process, which may compile: {time.perf_counter() - start:.1f} s")
        ours = measured(sys.executable, _OURS, json.dumps(cases), *small[1:])
        peers = {}
        if chosen.pyradiomics:
            peers["pyradiomics"] = measured(chosen.pyradiomics, _PYRADIOMICS, json.dumps(cases[:2]), *small[1:])
        if chosen.nyxus:
            peers["nyxus"] = measured(chosen.nyxus, _NYXUS, json.dumps(cases[:2]))
    print(f"most memory: {ours.pop('memory')[0]:.2f} GB")
    for name, (seconds, count) in ours.items():
        line = f"{name:12} isocenter {seconds * 1000:9.1f} ms ({count} features)"
        for peer, rows in peers.items():
            if name in rows:
                line += f"   {peer} {rows[name][0] * 1000:.1f} ms ({rows[name][1]}): {rows[name][0] / seconds:.1f} x"
        print(line)


def written(folder: Path, name: str, values: np.ndarray, mask: np.ndarray) -> tuple[str, str]:
    import nibabel

    paths = [folder / f"{name.replace(' ', '')}-{kind}.nii" for kind in ("image", "mask")]
    for path, grid in zip(paths, (values, mask.astype(np.uint8)), strict=True):
        image = nibabel.Nifti1Image(grid.T, np.eye(4))
        image.set_sform(np.eye(4), 1)
        image.set_qform(np.eye(4), 1)
        nibabel.save(image, path)
    return str(paths[0]), str(paths[1])


if __name__ == "__main__":
    main()
