"""Grids of pictures: a data set's samples by class, and augmented ones beside their originals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smidgen.report.canvas import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP = 1  # pixels between two images
_BETWEEN = 128
_CELL = 0.5  # inches


def grid(
    rows: Sequence[NDArray[np.uint8]], names: Sequence[str], title: str, below: Sequence[str] = ()
) -> "Figure":
    """Rows of images (n, channels, height, width), each with its name to the left.

    Rows may differ in length, images not in shape. `below` names the columns, if anything.
    """
    across = max(len(row) for row in rows)
    channels, height, width = rows[0].shape[1:]
    high, wide = height + _GAP, width + _GAP
    sheet = np.full((len(rows) * high - _GAP, across * wide - _GAP, channels), _BETWEEN, np.uint8)
    for number, row in enumerate(rows):
        for place, image in enumerate(row):
            top, left = number * high, place * wide
            sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    tall = _CELL * height / width
    with canvas(_CELL * across + 1.8, tall * len(rows) + 0.6) as figure:
        axes = figure.subplots()
        axes.imshow(
            sheet[..., 0] if channels == 1 else sheet,
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="nearest",
        )
        axes.grid(visible=False)
        axes.set_yticks([number * high + (height - 1) / 2 for number in range(len(rows))], names)
        axes.set_xticks([place * wide + (width - 1) / 2 for place in range(len(below))], below)
        axes.tick_params(length=0, labelsize=8)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(title, loc="left")
        return figure
