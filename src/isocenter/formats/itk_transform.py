"""Affine maps as ITK's text transforms, which 3D Slicer and ITK-SNAP read."""

from pathlib import Path

from isocenter.types import Affine


def write(matrix: Affine, path: Path) -> None:
    """Write a world -> world map in LPS millimetres: from the fixed image to the moving one, as ITK has it."""
    linear = " ".join(repr(float(v)) for v in matrix[:3, :3].ravel())
    shift = " ".join(repr(float(v)) for v in matrix[:3, 3])
    path.write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {linear} {shift}\nFixedParameters: 0 0 0\n",
        "utf-8",
    )
