"""Images of one shape in one picture, the page's own colour between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SIDE = 96  # pixels of an image on a page: more would not be seen, but make it large


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """Rows of images in one."""

    sheet: NDArray[np.uint8]
    """(height, width, 4): red, green, blue and alpha, which is 0 where no image is."""
    tile: tuple[int, int]
    """Height and width of an image in it."""
    middle_rows: tuple[float, ...]
    """Where the middle of each row is, in pixels of the sheet."""
    middle_columns: tuple[float, ...]


def mosaic(rows: Sequence[NDArray[np.uint8]], cmap: str = "gray") -> ImageGrid:
    """Rows of images (n, channels, height, width), one below the other.

    Rows may differ in length, images not in shape; those of one channel take the colours of `cmap`.
    Large ones are thinned.
    """
    coloured = [_coloured(_thinned(row), cmap) for row in rows]
    height, width = coloured[0].shape[1:3]
    gap = max(1, round(max(height, width) / 24))  # few pixels, but enough to be seen
    tops = [number * (height + gap) for number in range(len(rows))]
    lefts = [place * (width + gap) for place in range(max(map(len, rows)))]
    sheet: NDArray[np.uint8] = np.zeros((tops[-1] + height, lefts[-1] + width, 4), np.uint8)
    for top, row in zip(tops, coloured, strict=True):
        for left, image in zip(lefts, row, strict=False):
            sheet[top : top + height, left : left + width] = image
    return ImageGrid(
        sheet=sheet,
        tile=(height, width),
        middle_rows=tuple(top + (height - 1) / 2 for top in tops),
        middle_columns=tuple(left + (width - 1) / 2 for left in lefts),
    )


def _thinned(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = -(-max(images.shape[2:]) // _SIDE)
    return images[:, :, ::step, ::step]


def _coloured(images: NDArray[np.uint8], cmap: str) -> NDArray[np.uint8]:
    """Images (n, channels, height, width) as (n, height, width, 4)."""
    from matplotlib import colormaps

    if images.shape[1] == 1:
        return np.asarray(colormaps[cmap](images[:, 0], bytes=True))
    opaque = np.full_like(images[:, :1], 255)
    return np.concatenate([images, opaque], axis=1).transpose(0, 2, 3, 1)
