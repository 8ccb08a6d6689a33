"""New images in the form of those that a network was trained on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smidgen.config import Data
from smidgen.data.images import Shape, load_image, open_image
from smidgen.data.named.catalog import CATALOG

_INK = 0.2  # of the range from paper to the darkest stroke; below it, a pixel is paper


def load_like(data: Data, image_shape: Shape, path: Path) -> NDArray[np.uint8]:
    """Load the image at `path` in the form of the images of `data`, which have `image_shape`.

    Handwriting is centered and scaled as MNIST's. Images of the other grayscale sets that have a
    name are bright on black, too, but fill the frame: they are only resized, and inverted if their
    border is bright. So are Fashion-MNIST's garments (trimmed, then resized to 28 pixels on the
    longer side and negated: Xiao, Rasul, Vollgraf, 2017) and KMNIST's characters (cut out of book
    pages by their bounding boxes, then resized: Clanuwat et al., 2018). Others are only resized.

    Raises:
        DataError: not an image, damaged, or of more than 50 million pixels.
    """
    entry = CATALOG.get(data.name or "")
    channels, height, width = image_shape
    if entry is None or channels != 1:
        return load_image(path, image_shape)
    if entry.handwriting:
        return center_handwriting(load_grayscale(path), height, width)[None]
    image = load_image(path, image_shape)
    return 255 - image if _has_bright_border(image[0]) else image


def load_grayscale(path: Path) -> NDArray[np.float32]:
    """The image at `path` in grayscale from 0 to 1, (height, width); transparent pixels are white.

    Raises:
        DataError: not an image, damaged, or of more than 50 million pixels.
    """
    return np.asarray(open_image(path).convert("L"), dtype=np.float32) / np.float32(255)


def center_handwriting(
    grayscale: NDArray[np.float32], height: int, width: int
) -> NDArray[np.uint8]:
    """A drawing as in MNIST: bright on black, (height, width).

    Most of the border shows the paper, so dark strokes on bright paper are inverted. If the image
    has another size, the drawing is separated from the paper, which may be lit unevenly, scaled so
    that its longer side takes 20/28 of the frame, and placed with its center of mass in the middle.
    (LeCun, Cortes, Burges: The MNIST database.)
    """
    if grayscale.shape == (height, width):
        ink = 1 - grayscale if _has_bright_border(grayscale * 255) else grayscale
        return np.round(ink * 255).astype(np.uint8)
    ink = np.abs(grayscale - _paper(grayscale))
    ink = np.clip(ink / max(float(ink.max()), 1e-6), 0, 1)
    ink[ink < _INK] = 0  # the grain of the paper
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    frame = np.zeros((height, width), dtype=np.uint8)
    if not rows.size:
        return frame
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = min(height, width) * 20 / 28 / max(cut.shape)
    size = [max(1, round(side * scale)) for side in cut.shape]
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    small = Image.fromarray((cut * 255).astype(np.uint8)).resize((size[1], size[0]), resampling)
    drawing = np.asarray(small)
    if not drawing.any():  # a few specks far apart
        return frame
    top, left = (
        min(max(0, round(side / 2 - center)), side - extent)
        for side, center, extent in zip(
            (height, width), _center_of_mass(drawing), size, strict=True
        )
    )
    frame[top : top + size[0], left : left + size[1]] = drawing
    return frame


def _has_bright_border(image: NDArray[np.floating | np.uint8]) -> bool:
    """Whether the median of the outermost pixels, from 0 to 255, is in the bright half."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return float(np.median(border)) >= 127.5


def _paper(grayscale: NDArray[np.float32]) -> NDArray[np.float32]:
    """The paper's brightness at each pixel: the plane that fits the border best.

    It is fitted twice, the second time without pixels far from the first plane: strokes that touch
    the border.
    """
    height, width = grayscale.shape
    rows, columns = np.mgrid[0:height, 0:width]
    border = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns == width - 1)
    points = np.stack([np.ones(border.sum()), rows[border], columns[border]], 1)
    shades = grayscale[border]
    near = np.abs(shades - np.median(shades)) <= 0.25
    for _ in range(2):
        plane = np.linalg.lstsq(points[near], shades[near], rcond=None)[0]
        near = np.abs(shades - points @ plane) <= 0.1
        if near.sum() < 3:
            break
    paper: NDArray[np.float64] = plane[0] + plane[1] * rows + plane[2] * columns
    return paper.astype(np.float32)


def _center_of_mass(drawing: NDArray[np.uint8]) -> tuple[float, float]:
    """(row, column), in pixels from the upper left corner."""
    mass = drawing.astype(np.float64)
    total = mass.sum()
    rows = (mass.sum(1) * (np.arange(mass.shape[0]) + 0.5)).sum() / total
    columns = (mass.sum(0) * (np.arange(mass.shape[1]) + 0.5)).sum() / total
    return float(rows), float(columns)
