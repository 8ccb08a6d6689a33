"""Images of one shape in rows and columns, with nothing between them but the page's own color."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smidgen.report.style import NARROW, new_figure, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PIXELS = 96  # on each side of an image: more would enlarge the page and not be seen
_ACROSS = 8  # images in a row of `image_grid`


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """Rows of images as one image."""

    pixels: NDArray[np.uint8]
    """(height, width, 4): red, green, blue and alpha, which is 0 between the images."""
    tile: tuple[int, int]
    """Height and width of each image."""
    row_centres: tuple[float, ...]
    """In pixels from the top."""
    column_centres: tuple[float, ...]
    """In pixels from the left."""


def arrange(rows: Sequence[NDArray[np.uint8]], cmap: str = "gray") -> ImageGrid:
    """Arrange rows of images (n, channels, height, width) from top to bottom.

    Rows may differ in length, images must not differ in shape; `cmap` colors those with one
    channel, and of any other number but three, the first is shown. Large images are thinned out.
    """
    colored = [_colored(_thinned(row), cmap) for row in rows]
    height, width = colored[0].shape[1:3]
    gap = max(1, round(max(height, width) / 24))
    tops = [row * (height + gap) for row in range(len(rows))]
    lefts = [column * (width + gap) for column in range(max(map(len, rows)))]
    pixels: NDArray[np.uint8] = np.zeros((tops[-1] + height, lefts[-1] + width, 4), np.uint8)
    for top, row in zip(tops, colored, strict=True):
        for left, image in zip(lefts, row, strict=False):
            pixels[top : top + height, left : left + width] = image
    return ImageGrid(
        pixels=pixels,
        tile=(height, width),
        row_centres=tuple(top + (height - 1) / 2 for top in tops),
        column_centres=tuple(left + (width - 1) / 2 for left in lefts),
    )


def draw_images(axes: "Axes", images: ImageGrid, title: str = "") -> None:
    """Draw the images on axes without ticks or frame."""
    axes.imshow(images.pixels, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=10)


def named_rows(
    rows: Sequence[NDArray[np.uint8]], names: Sequence[str], title: str = "", cell: float = 0.5
) -> "Figure":
    """Rows of images (n, channels, height, width), each with its name to the left.

    `cell` is the width of an image in inches.
    """
    images = arrange(rows)
    height, width = images.pixels.shape[:2]
    labels = short_names(names)
    inches = cell * len(images.column_centres)
    margin = 0.3 + 0.08 * max(map(len, labels))
    with new_figure(inches + margin, inches * height / width + 0.2 + 0.4 * bool(title)) as figure:
        axes = figure.subplots()
        draw_images(axes, images)
        axes.set_axis_on()
        axes.grid(visible=False)
        axes.set_yticks(images.row_centres, labels)
        axes.set_xticks([])
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
        axes.set_title(title, loc="left")
        return figure


def image_grid(
    images: NDArray[np.uint8], title: str, cmap: str = "gray", outlined: bool = False
) -> "Figure":
    """Images (n, channels, height, width) in rows of eight.

    `outlined` draws a line around each, for images that may be as pale as the page.
    """
    from matplotlib.patches import Rectangle

    rows = [images[start : start + _ACROSS] for start in range(0, len(images), _ACROSS)]
    grid = arrange(rows, cmap)
    height, width = grid.pixels.shape[:2]
    with new_figure(NARROW, NARROW * height / width + 0.4) as figure:
        axes = figure.subplots()
        draw_images(axes, grid, title)
        high, wide = grid.tile
        for number in range(len(images) if outlined else 0):
            row, column = divmod(number, _ACROSS)
            corner = (grid.column_centres[column] - wide / 2, grid.row_centres[row] - high / 2)
            axes.add_patch(
                Rectangle(corner, wide, high, fill=False, edgecolor="#888888", linewidth=1)
            )
        return figure


def _thinned(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = -(-max(images.shape[2:]) // _MOST_PIXELS)
    return images[:, :, ::step, ::step]


def _colored(images: NDArray[np.uint8], cmap: str) -> NDArray[np.uint8]:
    """Images (n, channels, height, width) as (n, height, width, 4)."""
    from matplotlib import colormaps

    if images.shape[1] != 3:
        return np.asarray(colormaps[cmap](images[:, 0], bytes=True))
    opaque = np.full_like(images[:, :1], 255)
    return np.concatenate([images, opaque], axis=1).transpose(0, 2, 3, 1)
