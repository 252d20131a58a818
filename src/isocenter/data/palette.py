"""The colours of labels, the same in pictures and in files for other programs."""

COLOURS = ("#56b4e9", "#e69f00", "#f0e442", "#009e73", "#cc79a7", "#d55e00", "#0072b2")
"""Told apart by colour-blind readers too (M. Okabe, K. Ito, 2008), brightest contrast on grey first."""


def colour_of(index: int) -> str:
    """`#rrggbb` of the label with this index, counted from 0; they repeat after the last."""
    return COLOURS[index % len(COLOURS)]


def rgb_of(index: int) -> tuple[int, int, int]:
    """The same as three numbers from 0 to 255."""
    colour = colour_of(index)
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
