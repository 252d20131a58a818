"""How a prediction fits into the memory that it may take: windows, overlap, precision of the sums, or exact tiles."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, prod

from torch import nn

from isocenter.errors import NotEnoughMemory
from isocenter.inference.answers import windows_of
from isocenter.inference.model import Spec
from isocenter.inference.onnx_network import OnnxNetwork
from isocenter.inference.sliding import Windows, starts, tile_rows
from isocenter.networks.dynamic_unet import DynamicUNet
from isocenter.networks.unet import UNet

_GIB = 2**30
_LIBRARIES = 800 * 2**20
"""What Python, torch and the runtime take before the first window."""


@dataclass(frozen=True)
class Fit:
    """How a prediction is made.

    Args:
        windows: to walk with.
        peak: bytes that it is predicted to take in all.
        words: the same for people.
    """

    windows: Windows
    peak: int
    words: str


def reach_of(module: nn.Module) -> tuple[int, int] | None:
    """How far a network looks from a voxel, and by what its poolings can be moved; the first a multiple of the second.

    None for a network that looks at the whole window: by normalising it, by attention, or by a mean over it.
    """
    wide = (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm, nn.Linear)
    if any(isinstance(part, wide) for part in module.modules()) or not isinstance(module, UNet | DynamicUNet):
        return None
    stages = module.down if isinstance(module, UNet) else module.encoder.stages
    ups = module.up if isinstance(module, UNet) else module.decoder.stages
    scale, reach, scales = 1, 0, []
    for number, stage in enumerate(stages):
        step = 2 if isinstance(module, UNet) and number else _stride(stage)
        scale *= step
        scales.append(scale)
        reach += _kernels(stage) * scale + (step - 1) * scale
    for up, below in zip(ups, scales[-2::-1], strict=True):
        reach += (_kernels(up) + 2) * below  # interpolation looks one coarse voxel beyond
    return ceil(reach / scale) * scale, scale


def _kernels(stage: nn.Module) -> int:
    """Half edges of the convolutions in a row."""
    convs = [m for m in stage.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    return sum(max(int(k) for k in c.kernel_size) // 2 for c in convs)


def _stride(stage: nn.Module) -> int:
    convs = [m for m in stage.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    return max(max(int(s) for s in c.stride) for c in convs)


def bytes_per_voxel(module: nn.Module, outputs: int, *, half: bool) -> int:
    """Memory that a window takes for each of its voxels: layers at full size, and its answers as numbers of 4 bytes.

    Measured: 424 and 800 bytes in float32, 272 and 409 in bfloat16 for U-Nets of 16 and 32 channels with 3 and 20
    outputs; 179 and 488 with OpenVINO.
    """
    if isinstance(module, OnnxNetwork):
        return round(1.25 * 6 * module.width * 4) + 16 * outputs
    first = next((m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), 32)
    return round(1.25 * 6 * first * (2 if half else 4)) + 16 * outputs


def fit(
    spec: Spec, module: nn.Module, shape: tuple[int, int, int], *, limit: int, held: int, exact: bool | None = None,
    flips: bool = True, overlap: float = 0.5, half: bool = False,
) -> Fit:  # fmt: skip
    """The best way that stays within the limit.

    Args:
        spec: of the network.
        module: the network.
        shape: of the prepared image.
        limit: bytes that the process may take in all.
        held: bytes that it holds already for the image, as it came and as it is prepared.
        exact: tiles with halos; None: where the network allows them and they cost less than windows.
        flips: average over the model's flips.
        overlap: of windows.
        half: the network runs in bfloat16.
    Raises: NotEnoughMemory with what would be needed.
    """
    voxels = prod(shape)
    base = _LIBRARIES + held + voxels  # the label map
    each = bytes_per_voxel(module, spec.outputs, half=half)
    least = None
    for windows in _ways(spec, module, shape, exact=exact, flips=flips, overlap=overlap):
        size = [min(s, n) for s, n in zip(windows.size, shape, strict=True)] if windows.halo else windows.size
        window = prod(size) * each * windows.batch
        sums = 0
        if windows.halo is None:
            plane = -(-shape[1] // windows.strips) * shape[2]
            sums = min(windows.size[0], shape[0]) * plane * ((2 if windows.half else 4) * spec.outputs + 4)
            sums += 12 * 4 * plane * spec.outputs  # a few finished slices, as they are decided
        peak = base + window + sums
        least = peak if least is None else min(least, peak)
        if peak <= limit:
            return Fit(windows, peak, _words(windows, peak))
    raise NotEnoughMemory(
        f"an image of {' x '.join(map(str, shape))} with {spec.outputs} outputs takes {(least or 0) / _GIB:.1f} GiB, "
        f"and {limit / _GIB:.1f} may be used: allow more with --memory, or crop the image"
    )


def _ways(
    spec: Spec, module: nn.Module, shape: tuple[int, int, int], *, exact: bool | None, flips: bool, overlap: float
) -> Iterator[Windows]:
    """Ways from the best to the most modest."""
    plain = windows_of(spec, overlap=overlap, flips=flips)
    local = reach_of(module) if exact is not False else None
    if local is not None:
        reach, multiple = local
        halo = (0, reach, reach) if spec.flat else (reach,) * 3
        for edge in (1024, 512, 384, 320, 256, 224, 192, 160, 128):
            core = edge // reach * reach  # windows begin at multiples of the reach
            size = tuple(1 if spec.flat and axis == 0 else core + 2 * reach for axis in range(3))
            if core < reach:
                break
            tiled = replace(
                plain, size=(size[0], size[1], size[2]), halo=(halo[0], halo[1], halo[2]), multiple=multiple, batch=1
            )
            if exact or _cost(tiled, shape) <= _cost(plain, shape):
                yield tiled
    yield plain
    yield replace(plain, half=True)
    for strips in (2, 4, 8):
        yield replace(plain, half=True, batch=1, strips=strips)


def _cost(windows: Windows, shape: tuple[int, int, int]) -> float:
    """Voxels that are computed."""
    if windows.halo is None:
        counts = [len(starts(n, s, windows.overlap)) for n, s in zip(shape, windows.size, strict=True)]
        return float(prod(counts) * prod(windows.size))
    return float(prod(sum(b - a for a, b, _, _ in row) for row in tile_rows(shape, windows)))


def _words(windows: Windows, peak: int) -> str:
    size = " x ".join(map(str, windows.size))
    how = f"exact tiles of {size}" if windows.halo else f"windows of {size}, overlap {windows.overlap:g}"
    strips = f", {windows.strips} strips" if windows.strips > 1 else ""
    return f"{how}{', sums in half precision' if windows.half else ''}{strips}; about {peak / _GIB:.1f} GiB in all"
