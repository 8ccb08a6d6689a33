"""Grids of pictures: a data set's samples by class, and augmented ones beside their originals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smidgen.report.image_grid import mosaic
from smidgen.report.plots import names as labels
from smidgen.report.style import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = 0.5  # inches


def grid(
    rows: Sequence[NDArray[np.uint8]], names: Sequence[str], title: str, below: Sequence[str] = ()
) -> "Figure":
    """Rows of images (n, channels, height, width), each with its name to the left.

    Rows may differ in length, images not in shape. `below` names the columns, if anything.
    """
    across = max(len(row) for row in rows)
    height, width = rows[0].shape[2:]
    tall = _CELL * height / width
    with canvas(_CELL * across + 1.8, tall * len(rows) + 0.6) as figure:
        axes = figure.subplots()
        images = mosaic(rows)
        axes.imshow(images.sheet, interpolation="nearest")
        axes.grid(visible=False)
        axes.set_yticks(images.middle_rows, labels(names))
        axes.set_xticks(images.middle_columns[: len(below)], below)
        axes.tick_params(length=0, labelsize=8)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(title, loc="left")
        return figure
