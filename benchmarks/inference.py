"""Networks over whole volumes, beside MONAI's sliding window: time, agreement, and memory measured from outside.

python -m benchmarks.inference            # the table of speeds
python -m benchmarks.inference memory     # 512 x 512 x 800 with 20 classes in 4 GiB
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SHAPE, WINDOW = (160, 256, 256), (96, 96, 96)
STEPS = {"1.4 million": 300, "31 million": 100}
NETS = {"1.4 million": (16, 32, 64, 128), "31 million": (32, 64, 128, 256, 320, 320)}


def phantom(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with bright and dark balls, and their labels."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.5, shape).astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    for number in range(max(2, int(np.prod(shape) // 60_000))):
        centre, radius = rng.uniform(0, shape), rng.uniform(5, 12)
        lows = [max(0, int(c - radius)) for c in centre]
        part = tuple(slice(a, min(n, int(c + radius) + 1)) for a, c, n in zip(lows, centre, shape, strict=True))
        grid = np.ogrid[part]
        ball = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < radius**2
        labels[part][ball] = 1 + number % 2
    return (image + 1.5 * (labels == 1) - 1.5 * (labels == 2)).astype(np.float32), labels


def trained(widths: tuple[int, ...], *, steps: int):
    """A dynamic U-Net with batch normalisation, trained for a moment: on random weights every answer looks alike."""
    import torch

    from isocenter.networks.catalogue import build
    from isocenter.training.images.losses import LOSSES
    from isocenter.training.images.plan import LossPlan

    torch.manual_seed(0)
    module = build(
        "dynamic_unet", {"widths": widths, "norm": "batch", "deep_supervision": False}, channels=1, outputs=3, dims=3
    )
    module = module.to(memory_format=torch.channels_last_3d).train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
    rng = np.random.default_rng(1)
    for _ in range(steps):
        image, labels = phantom((64, 64, 64), int(rng.integers(2**31)))
        x = torch.from_numpy(image)[None, None].to(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16):
            answer = module(x)
        loss = LOSSES["dice_ce"](answer, torch.from_numpy(labels.astype(np.int64))[None], LossPlan())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    print(f"  loss after {steps} steps: {float(loss.detach()):.3f}", flush=True)
    return module.eval()


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([2 * ((a == k) & (b == k)).sum() / max(1, (a == k).sum() + (b == k).sum()) for k in (1, 2)]))


def speeds() -> None:
    import torch
    from monai.inferers import sliding_window_inference

    from isocenter.inference.answers import segmented
    from isocenter.inference.model import NetworkSpec, Spec
    from isocenter.inference.planner import reach_of
    from isocenter.inference.prepare import Preparation
    from isocenter.inference.runtime import fastest
    from isocenter.inference.sliding import Windows, softmax

    image, truth = phantom(SHAPE)
    for name, widths in NETS.items():
        module = trained(widths, steps=STEPS[name])
        count = sum(p.numel() for p in module.parameters()) / 1e6
        print(
            f"{name} ({count:.1f} million weights), {SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}, windows of 96, overlap 0.5",
            flush=True,
        )
        begun = time.perf_counter()
        with torch.inference_mode():
            logits = sliding_window_inference(
                torch.from_numpy(image)[None, None], WINDOW, 1, module, overlap=0.5, mode="gaussian"
            )
        theirs = time.perf_counter() - begun
        reference = logits[0].argmax(dim=0).numpy().astype(np.uint8)
        print(
            f"  {'MONAI sliding_window_inference, float32':44} {theirs:7.1f} s   Dice with the truth {dice(reference, truth):.4f}",
            flush=True,
        )
        spec = Spec(
            task="segment",
            labels={1: "a", 2: "b"},
            preparation=Preparation(),
            patch=WINDOW,
            network=NetworkSpec(name="dynamic_unet"),
        )
        chosen = fastest(
            module,
            image[None, None, :96, :96, :96],
            answer=lambda x: softmax(x.copy()),
            names=("torch-bfloat16", "openvino-float32", "openvino-bfloat16"),
        )
        for one in chosen.tried:
            print(
                f"    {one.name:20} {one.seconds:6.3f} s a window, differs by {one.difference:.1e} {one.refused}",
                flush=True,
            )
        ways = {"windows": Windows(WINDOW, 0.5)}
        local = reach_of(module)
        if local is not None:
            reach, multiple = local
            ways["exact tiles"] = Windows((1024,) * 3, halo=(reach,) * 3, multiple=multiple)
        for kind, windows in ways.items():
            took = []
            for _ in range(2):  # the first case waits for the compiler too, each later one of its size does not
                begun = time.perf_counter()
                found = segmented(chosen.forward, image[None], spec, windows)
                took.append(time.perf_counter() - begun)
            first, ours = took
            print(
                f"  {f'isocenter, {kind}, {chosen.name}':44} {ours:7.1f} s   {theirs / ours:5.1f} x   (first case {first:.1f} s)   "
                f"Dice with MONAI's {dice(found, reference):.4f}, with the truth {dice(found, truth):.4f}",
                flush=True,
            )
    flags = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").exists() else ""
    print("CPU:", ", ".join(f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags) or "unknown")


CHILD = """
import sys, json, resource
import numpy as np
from isocenter.data.geometry import Geometry
from isocenter.data.volume import Volume
from isocenter.inference.predictor import Predictor, Running
model, limit, shape = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
rng = np.random.default_rng(0)
voxels = np.empty((1, *shape), np.int16)
for plane in voxels[0]:
    plane[:] = rng.integers(-1000, 1000, plane.shape, dtype=np.int16)
predictor = Predictor(model, Running(memory=limit))
answer = predictor(Volume(voxels, Geometry.regular(tuple(shape), spacing_mm=(1.0, 1.0, 1.0))))
print(predictor.told, predictor.runner._remembered, int((answer.labels.voxels > 0).sum()))
# The high-water mark of this program: what getrusage gives is at least that of the process that started it.
status = open("/proc/self/status").read().split("VmHWM:")
print(int(status[1].split()[0]) * 1024 if len(status) > 1 else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def untrained_model(folder: Path, *, classes: int, patch: int, widths: tuple[int, ...], norm: str = "batch") -> Path:
    """A model's folder with fresh weights."""
    from isocenter.data.card import ModelCard
    from isocenter.formats import model_folder
    from isocenter.inference.model import NetworkSpec, Spec, build_of
    from isocenter.inference.prepare import Preparation

    network = NetworkSpec(name="dynamic_unet", settings={"widths": widths, "norm": norm, "deep_supervision": False})
    spec = Spec(
        task="segment",
        labels={i: f"c{i}" for i in range(1, classes)},
        preparation=Preparation(spacing_mm=(1.0, 1.0, 1.0)),
        patch=(patch,) * 3,
        network=network,
    )
    card = ModelCard("segment", "dynamic_unet", ("labels",), (), (), network=spec.model_dump(mode="json"))
    model_folder.write_tensors(build_of(spec).state_dict(), card, folder)
    return folder


def peak_of(model: Path, *, limit: int, shape: tuple[int, int, int]) -> tuple[str, int, float]:
    """What a prediction says of itself, its peak in bytes as the system counts it, and seconds."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(model), str(limit), json.dumps(shape)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    lines = done.stdout.strip().splitlines()
    return lines[-2], int(lines[-1]), time.perf_counter() - begun


def memory() -> None:
    limit = 4 * 2**30
    with tempfile.TemporaryDirectory() as folder:
        for norm in ("instance", "batch"):
            model = untrained_model(Path(folder) / norm, classes=20, patch=96, widths=(16, 32, 64, 128), norm=norm)
            said, peak, seconds = peak_of(model, limit=limit, shape=(800, 512, 512))
            print(
                f"{norm} normalisation: peak {peak / 2**30:.2f} GiB of {limit / 2**30:.0f}, {seconds:.0f} s; predicted: {said}",
                flush=True,
            )


if __name__ == "__main__":
    print(f"limit of files {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}", file=sys.stderr)
    memory() if "memory" in sys.argv else speeds()
