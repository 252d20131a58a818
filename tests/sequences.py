"""Sequences whose truth is known: how contrast agent comes and goes, and a heart that beats."""

from pathlib import Path

import nibabel
import numpy as np

from isocenter.types import Array

CURVES = ("persistent", "plateau", "washout")
"""How a lesion's signal goes on after its first rise; W. Kaiser, E. Zeitler, Radiology 170:681-686, 1989."""


def write_loop(path: Path, frames: Array, step_s: float = 1.0) -> None:
    """`t d h w` as NIfTI, with the seconds from frame to frame."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(frames.transpose(3, 2, 1, 0)).astype(np.float32), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = step_s
    nibabel.save(image, path)


def contrast(kind: str, rng: np.random.Generator, frames: int = 10, edge: int = 24) -> Array:
    """A lesion that takes up contrast agent: a rise to a peak, then one of `CURVES`; `t 1 h w`.

    Each single frame can be of any kind: only their order tells.
    """
    at = np.linspace(0, 1, frames)
    rise, height = rng.uniform(0.15, 0.35), rng.uniform(0.6, 1.4)
    after = {"persistent": rng.uniform(0.4, 0.7), "plateau": 0.0, "washout": -rng.uniform(0.4, 0.7)}[kind]
    curve = height * np.where(at < rise, at / rise, 1 + after * (at - rise) / (1 - rise))
    y, x = np.mgrid[:edge, :edge]
    centre, radius = rng.uniform(edge / 3, 2 * edge / 3, 2), edge * rng.uniform(0.12, 0.25)
    lesion = 1 / (1 + np.exp(np.hypot(y - centre[0], x - centre[1]) - radius))
    noise = rng.normal(0, 0.1, (frames, edge, edge))
    return (100 * (1 + lesion * curve[:, None, None] + noise))[:, None]


def beating(rng: np.random.Generator, frames: int = 12, edge: int = 32) -> tuple[Array, Array]:
    """A bright disc that shrinks and grows once (`t 1 h w`), and its pixels in each frame."""
    phase = np.linspace(0, 2 * np.pi, frames, endpoint=False)
    largest, share = edge * rng.uniform(0.22, 0.34), rng.uniform(0.2, 0.45)
    radii = largest * (1 - share * (1 - np.cos(phase)) / 2)
    centre = rng.uniform(edge * 0.4, edge * 0.6, 2)
    y, x = np.mgrid[:edge, :edge]
    far = np.hypot(y - centre[0], x - centre[1])
    discs = 1 / (1 + np.exp(2 * (far[None] - radii[:, None, None])))
    return (100 * (1 + discs + rng.normal(0, 0.1, discs.shape)))[:, None], np.pi * radii**2


def contrast_data(folder: Path, count: int = 48, seed: int = 0, edge: int = 24) -> Path:
    """A table of loops with one class each; every fourth is a test case."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = ["image,label,split"]
    for i in range(count):
        kind = CURVES[i % len(CURVES)]
        write_loop(folder / f"p{i:03d}.nii.gz", contrast(kind, rng, frames=int(rng.integers(8, 13)), edge=edge))
        rows.append(f"p{i:03d}.nii.gz,{kind},{'test' if i % 4 == 3 else 'train'}")
    (folder / "loops.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder / "loops.csv"


def beating_data(folder: Path, count: int = 32, seed: int = 0, edge: int = 32) -> Path:
    """A table of loops with a value of each frame and its time; every fourth is a test case."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = ["image,size,times,split"]
    for i in range(count):
        frames, sizes = beating(rng, edge=edge)
        write_loop(folder / f"p{i:03d}.nii.gz", frames)
        values = ";".join("" if t % 5 == 3 else f"{v:.1f}" for t, v in enumerate(sizes))  # some are not labelled
        times = ";".join(f"{0.06 * t:.2f}" for t in range(len(sizes)))
        rows.append(f"p{i:03d}.nii.gz,{values},{times},{'test' if i % 4 == 3 else 'train'}")
    (folder / "loops.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder / "loops.csv"
