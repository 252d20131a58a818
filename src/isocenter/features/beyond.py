"""Families of features beyond the standard, as the step `radiomics` gives them."""

from collections.abc import Callable

from isocenter.data.features import Feature
from isocenter.features import colour, fractal, local_pattern, planar
from isocenter.features.catalogue import Beyond
from isocenter.features.first_order import Numbers
from isocenter.features.settings import Radiomics
from isocenter.types import Array, Grid, Mask

SOURCES: dict[Beyond, str] = {
    "region": "voxels of the region's mask",
    "shape_2d": "the slice in which the region is largest; its outline runs half-way between pixels",
    "local_binary_patterns": "LBP riu2 of 8 neighbours at radius 1, Ojala 2002; in three planes, Zhao 2007",
    "oriented_gradients": "HOG of one block, Dalal and Triggs 2005",
    "fractal": "box counting of the border, Falconer",
    "colour": "histogram, Swain and Ballard 1991; moments, Stricker and Orengo 1995",
}
"""Where each family is defined."""


def families_for(settings: Radiomics, *, flat: bool, coloured: bool) -> tuple[Beyond, ...]:
    """Those that the settings ask for, or that suit the picture where they ask for none."""
    if settings.families is not None:
        return tuple(family for family in SOURCES if family in settings.families)
    return ("region", *(("shape_2d",) if flat else ()), *(("colour",) if coloured else ()))


def beyond(
    family: Beyond,
    grid: Grid,
    mask: Mask,
    *,
    colours: Array | None,
    steps: tuple[float, float],
    length: str,
    label: str,
) -> list[Feature]:
    """Features of one family.

    Args:
        family: which.
        grid: intensities, `d h w`.
        mask: the region.
        colours: red, green, blue, `3 d h w`; None where the image has none.
        steps: between rows and between columns.
        length: unit of `steps`: `mm` or `px`.
        label: the region's name.
    """
    flat = mask.shape[0] == 1
    powers = {"": "1", "1": length, "2": f"{length}2"}
    units = {name: powers[power] for name, power in planar.NAMES.items()} if family == "shape_2d" else {}
    names: dict[Beyond, Callable[[], tuple[str, ...]]] = {
        "region": lambda: ("voxels", "slices"),
        "shape_2d": lambda: tuple(planar.NAMES),
        "local_binary_patterns": lambda: local_pattern.pattern_names(flat=flat),
        "oriented_gradients": local_pattern.gradient_names,
        "fractal": lambda: fractal.NAMES,
        "colour": colour.names,
    }
    numbers, reason = _numbers(family, grid, mask, colours, steps)
    return [
        Feature(
            name, numbers.get(name), units.get(name, "1"), SOURCES[family], label,
            "" if name in numbers else reason, family=family,
        )
        for name in names[family]()
    ]  # fmt: skip


def _numbers(
    family: Beyond, grid: Grid, mask: Mask, colours: Array | None, steps: tuple[float, float]
) -> tuple[Numbers, str]:
    if family == "region":
        return {"voxels": float(mask.sum()), "slices": float(mask.any(axis=(1, 2)).sum())}, ""
    if not mask.any():
        return {}, "the region is empty"
    if family == "shape_2d":
        return planar.shape_2d(mask, steps), "the region has no width"
    if family == "local_binary_patterns":
        return local_pattern.binary_patterns(grid, mask), ""
    if family == "oriented_gradients":
        reason = "the region's box is narrower than 4 pixels, or has no gradient"
        return local_pattern.oriented_gradients(grid, mask), reason
    if family == "fractal":
        return fractal.fractal(mask), "the region is too small for three sizes of boxes"
    if colours is None:
        return {}, "the image has no colours"
    return colour.colour(colours[:, mask]), ""
