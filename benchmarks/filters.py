"""Every filter beside the fastest of SimpleITK, scipy and scikit-image, array to array; and the memory of every step."""

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
import skimage.exposure as ske
import skimage.filters as skf
import skimage.restoration as skr
from scipy import ndimage

from isocenter.ops import denoise, histogram
from isocenter.ops import filter as filters
from isocenter.ops.clahe import clahe
from isocenter.ops.edges import canny
from isocenter.ops.resample import resample

Work = Callable[[], object]
ONE = (1.0, 1.0, 1.0)


def grid(shape: tuple[int, int, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (
        ndimage.gaussian_filter(rng.normal(0, 1, shape), [min(3, n) for n in shape]) * 1000 + rng.normal(0, 20, shape)
    ).astype(np.float32)


def through(function: Callable, a: np.ndarray, *rest: object) -> Work:
    return lambda: sitk.GetArrayFromImage(function(sitk.GetImageFromArray(a), *rest))


def unit_affine() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] *= 0.8
    return affine


def cases(a: np.ndarray, small: np.ndarray) -> dict[str, tuple[Work, dict[str, Work]]]:
    """Name -> our filter, and the peers' (named by library); `small` for what takes seconds."""
    u = (a - a.min()) / np.ptp(a)
    v = (small - small.min()) / np.ptp(small)
    b = (a**2 / 200).astype(np.float32)
    size = [int(n / 0.8) for n in a.shape]
    return {
        "gaussian": (lambda: filters.gaussian(a, sigma=(2, 2, 2)), {
            "scipy": lambda: ndimage.gaussian_filter(a, 2, output=np.float32), "scikit-image": lambda: skf.gaussian(a, 2),
            "SimpleITK": through(sitk.SmoothingRecursiveGaussian, a, 2.0)}),
        "mean 5x5x5": (lambda: filters.mean(a, radius=(2, 2, 2)), {
            "scipy": lambda: ndimage.uniform_filter(a, 5), "SimpleITK": through(sitk.BoxMean, a, [2, 2, 2])}),
        "median 3x3x3": (lambda: filters.median(a, radius=(1, 1, 1)), {
            "scipy": lambda: ndimage.median_filter(a, 3), "SimpleITK": through(sitk.Median, a, [1, 1, 1])}),
        "median 5x5x5": (lambda: filters.median(small, radius=(2, 2, 2)), {
            "scipy": lambda: ndimage.median_filter(small, 5), "SimpleITK": through(sitk.Median, small, [2, 2, 2])}),
        "bilateral": (lambda: filters.bilateral(small, sigma=1.0, spacing=ONE, contrast=50), {
            "SimpleITK": through(sitk.Bilateral, small, 1.0, 50.0, 200)}),
        "non-local means 3/7": (lambda: denoise.non_local_means(v, patch=(1, 1, 1), search=(3, 3, 3), strength=0.05, noise=0), {
            "scikit-image": lambda: skr.denoise_nl_means(v, patch_size=3, patch_distance=3, h=0.05, fast_mode=True)}),
        "total variation": (lambda: denoise.total_variation(v, spacing=ONE, weight=0.1, iterations=50, tolerance=0), {
            "scikit-image": lambda: skr.denoise_tv_chambolle(v, weight=0.1, eps=0, max_num_iter=100)}),
        "anisotropic diffusion": (lambda: filters.diffuse(a, spacing=ONE, iterations=5, conductance=3), {
            "SimpleITK": through(sitk.CurvatureAnisotropicDiffusion, a, 0.05625, 3.0, 1, 5)}),
        "laplacian": (lambda: filters.laplacian(a, spacing=ONE), {
            "scipy": lambda: ndimage.laplace(a), "SimpleITK": through(sitk.Laplacian, a)}),
        "gradient magnitude": (lambda: filters.gradient_magnitude(a, spacing=ONE), {"SimpleITK": through(sitk.GradientMagnitude, a)}),
        "sobel": (lambda: filters.gradient_magnitude(a, spacing=ONE, sobel=True), {
            "scikit-image": lambda: skf.sobel(a), "scipy": lambda: np.sqrt(sum(ndimage.sobel(a, i) ** 2 for i in range(3)))}),
        "canny": (lambda: canny(a, spacing=ONE, sigma=1.4, low=0.1, high=0.3), {
            "SimpleITK": through(sitk.CannyEdgeDetection, a, 10.0, 20.0, [2, 2, 2])}),
        "histogram equalisation": (lambda: histogram.equalised(a), {"scikit-image": lambda: ske.equalize_hist(u)}),
        "CLAHE": (lambda: clahe(a, tiles=(8, 8, 8), clip=3), {"scikit-image": lambda: ske.equalize_adapthist(u)}),
        "histogram matching": (lambda: histogram.matched(a, b), {
            "scikit-image": lambda: ske.match_histograms(a, b),
            "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.HistogramMatching(sitk.GetImageFromArray(a), sitk.GetImageFromArray(b), 256, 7))}),
        "stretch": (lambda: stretched(u), {"scikit-image": lambda: ske.rescale_intensity(u, in_range=tuple(np.percentile(u, (1, 99))))}),
        "gamma": (lambda: powered(u), {"scikit-image": lambda: ske.adjust_gamma(u, 0.7)}),
        "unsharp": (lambda: sharpened(a), {"scikit-image": lambda: skf.unsharp_mask(u, 2, 1.0)}),
        "resample linear": (lambda: resample(a, affine=np.eye(4), to_shape=tuple(size), to_affine=unit_affine()), {
            "scipy": lambda: ndimage.zoom(a, 1.25, order=1),
            "SimpleITK": through(sitk.Resample, a, size[::-1], sitk.Transform(), sitk.sitkLinear, (0, 0, 0), (0.8, 0.8, 0.8))}),
        "otsu": (lambda: histogram.otsu_cut(*histogram.histogram(a, bins=256)), {
            "scikit-image": lambda: skf.threshold_otsu(a), "SimpleITK": through(sitk.OtsuThreshold, a, 0, 1, 256)}),
        "li": (lambda: histogram.li_cut(*histogram.histogram(a, bins=4096)), {
            "scikit-image": lambda: skf.threshold_li(a), "SimpleITK": through(sitk.LiThreshold, a, 0, 1, 256)}),
    }  # fmt: skip


def stretched(u: np.ndarray) -> object:
    from isocenter.preprocess.enhance import ContrastStretching, contrast_stretching

    return contrast_stretching(_volume(u), ContrastStretching())


def powered(u: np.ndarray) -> object:
    from isocenter.preprocess.enhance import Gamma, gamma

    return gamma(_volume(u), Gamma(gamma=0.7))


def sharpened(a: np.ndarray) -> object:
    from isocenter.preprocess.enhance import UnsharpMask, unsharp_mask

    return unsharp_mask(_volume(a), UnsharpMask(sigma_px=2))


def _volume(a: np.ndarray) -> object:
    from isocenter.data.geometry import Geometry
    from isocenter.data.volume import Volume

    return Volume(a[None], Geometry.regular(a.shape))


def best_of(work: Work, runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def speed() -> list[tuple[str, str, str, str]]:
    """Each filter on 9.8 MB in 3-D and on 9.8 MB in 2-D; ours and the peers in turns, the best of each."""
    rows = []
    table = cases(grid((96, 160, 160)), grid((84, 160, 160)))
    for name, (ours, peers) in table.items():
        slow = best_of(ours, 1) > 1
        rounds = 1 if slow else 5
        mine, theirs = [], {peer: [] for peer in peers}
        for _ in range(rounds):
            mine.append(best_of(ours, 1))
            for peer, work in peers.items():
                theirs[peer].append(best_of(work, 1))
        fastest = min(theirs, key=lambda p: min(theirs[p]))
        ratio = min(mine) / min(theirs[fastest])
        rows.append(
            (
                name,
                f"{min(mine) * 1000:.0f} ms",
                f"{fastest} {min(theirs[fastest]) * 1000:.0f} ms",
                f"{ratio:.2f}{'' if ratio <= 1.1 else ' **over 1.1**'}",
            )
        )
        print("|", " | ".join(rows[-1]), "|", flush=True)
    return rows


MEMORY = """
import sys, threading, time, json, psutil, numpy as np
import scipy.ndimage, SimpleITK
from isocenter import preprocess, segment
from isocenter.ops import edges, region, denoise, clahe, cluster, histogram, morphology, components, label, register
from isocenter.data.geometry import Geometry
from isocenter.data.labels import LabelMap, Label
from isocenter.data.volume import Volume, Quantity
name, settings = sys.argv[1], json.loads(sys.argv[2])
kind = {**preprocess.STEPS, **segment.STEPS}[name]
shape = (300, 512, 512)
process, peak, stop = psutil.Process(), 0, False
def watch():
    global peak
    while not stop:
        peak = max(peak, process.memory_info().rss); time.sleep(0.005)
before = process.memory_info().rss
voxels = np.empty((1, *shape), np.float32)
rng = np.random.default_rng(0)
z, y, x = np.ogrid[:300, :512, :512]
for i in range(300):
    body = ((y[0] - 256) / 180) ** 2 + ((x[0] - 256) / 230) ** 2 < 1
    lungs = ((y[0] - 256) / 90) ** 2 + ((abs(x[0] - 256) - 100) / 70) ** 2 + ((i - 150) / 120) ** 2 < 1
    voxels[0, i] = np.where(lungs, -850, np.where(body, 40, -1000)) + rng.normal(0, 20, (512, 512))
volume = Volume(voxels, Geometry.regular(shape, spacing_mm=(1.0, 0.7, 0.7)), Quantity.HU)
labels = None
if kind.takes in ("labels", "region"):
    mask = np.zeros(shape, np.uint8)
    mask[voxels[0] > 0] = 1
    if kind.takes == "region": mask[voxels[0] < -900] = 2
    labels = LabelMap(mask, volume.geometry, (Label(1, "a"), Label(2, "b")))
if name == "lungs": labels = segment.body(volume, segment.Body())
thread = threading.Thread(target=watch); thread.start()
start = time.perf_counter()
s = kind.settings.model_validate(settings)
if kind.takes == "labels": out = kind.run(labels, s)
elif kind.takes == "region": out = kind.run(volume, labels, s)
elif kind.takes == "pair": out = kind.run(volume, volume, s)
elif name == "lungs": out = kind.run(volume, s, within=labels)
else: out = kind.run(volume, s)
seconds = time.perf_counter() - start
stop = True; thread.join()
print((peak - before) / (4 * 300 * 512 * 512), seconds)
"""
STEPS: dict[str, str] = {
    "mean": '{"radius_mm": 1}', "median": '{"radius_mm": 1}', "gaussian": '{"sigma_mm": 1}', "anisotropic_diffusion": '{"iterations": 2}',
    "non_local_means": '{"patch_mm": 0.7, "search_mm": 1}', "total_variation": '{"iterations": 3}', "n4": '{"iterations": 5}',
    "histogram_equalization": "{}", "clahe": "{}", "contrast_stretching": "{}", "gamma": '{"gamma": 2}', "unsharp_mask": '{"sigma_mm": 1}',
    "laplacian_sharpening": "{}", "window": '{"preset": "lung"}', "z_score": "{}", "min_max": "{}", "percentile": "{}", "histogram_matching": "{}",
    "orient": '{"to": "LPS"}', "resample": '{"spacing_mm": 1.5}', "onto": "{}", "crop": "{}", "pad": '{"margin_px": 4}', "register": "{}",
    "threshold": '{"low": -500, "unit": "HU"}', "otsu": "{}", "li": "{}", "multi_otsu": '{"classes": ["a", "b", "c"]}', "adaptive": '{"sigma_mm": 10}',
    "region_growing": '{"seeds_px": [[150, 256, 156]], "low": -950, "high": -700, "unit": "HU"}', "confidence_connected": '{"seeds_px": [[150, 256, 156]]}',
    "edges": "{}", "k_means": '{"classes": ["a", "b", "c"]}', "fuzzy_c_means": '{"classes": ["a", "b", "c"]}', "chan_vese": '{"iterations": 3}',
    "watershed": "{}", "body": "{}", "lungs": "{}", "components": "{}", "fill_holes": "{}", "opening": '{"radius_mm": 2}', "closing": '{"radius_mm": 2}',
    "smooth": '{"sigma_mm": 1}',
}  # fmt: skip


def memory(names: list[str] | None = None) -> list[tuple[str, str, str]]:
    """Peak memory of steps on 512 x 512 x 300, the volume itself counted, in volumes of float32."""
    rows = []
    for name, settings in STEPS.items():
        if names and name not in names:
            continue
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, name, settings], capture_output=True, text=True, check=False
        )
        if done.returncode:
            rows.append((name, "failed", done.stderr.strip().splitlines()[-1][:80]))
        else:
            factor, seconds = map(float, done.stdout.split())
            rows.append((name, f"{factor:.2f}", f"{seconds:.1f} s"))
        print("|", " | ".join(rows[-1]), "|", flush=True)
    return rows


if __name__ == "__main__":
    memory(sys.argv[2:]) if sys.argv[1:2] == ["memory"] else speed()
