"""Images of one shape as PNGs, alone or in rows and columns with only the page between them."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smidgen.report.style import new_figure, set_margins, short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]

_MOST_PIXELS = 64  # on each side of an image: more would enlarge the page and not be seen
_MOST_EXACT = 32 * 32  # pixels of a color image that keeps its exact colors


def colored(images: Pixels) -> Pixels:
    """Images (n, channels, height, width) as (n, height, width, 4): red, green, blue and alpha.

    Of any number of channels but three, the first is shown. Large images are thinned out.
    """
    step = -(-max(images.shape[2:]) // _MOST_PIXELS)
    thinned = images[:, :, ::step, ::step]
    rgb = thinned if thinned.shape[1] == 3 else np.repeat(thinned[:, :1], 3, axis=1)
    opaque = np.full_like(rgb[:, :1], 255)
    return np.ascontiguousarray(np.concatenate([rgb, opaque], axis=1).transpose(0, 2, 3, 1))


def arrange(rows: Sequence[Pixels]) -> Pixels:
    """Rows of colored images (n, height, width, 4) as one image, transparent between them.

    Rows may differ in length, images must not differ in shape.
    """
    height, width = rows[0].shape[1:3]
    gap = _gap(height, width)
    size = (
        len(rows) * (height + gap) - gap,
        max(map(len, rows)) * (width + gap) - gap,
        4,
    )
    pixels: Pixels = np.zeros(size, np.uint8)
    for number, row in enumerate(rows):
        top = number * (height + gap)
        for column, image in enumerate(row):
            left = column * (width + gap)
            pixels[top : top + height, left : left + width] = image
    return pixels


def _gap(height: int, width: int) -> int:
    return max(1, round(max(height, width) / 24))


def as_png(pixels: Pixels, scale: int = 1) -> bytes:
    """An image (height, width, 4) as a PNG, each pixel `scale` pixels wide and high.

    Images in rows, and large ones, get a palette of 256 colors, to keep the file small.
    """
    from PIL import Image

    image = Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))
    if (pixels[..., 3] == 255).all():
        grays = (pixels[..., :1] == pixels[..., 1:3]).all()
        image = image.convert("L" if grays else "RGB")
        if not grays and image.width * image.height > _MOST_EXACT:
            image = image.quantize(256)
    else:
        image = image.quantize(256, Image.Quantize.FASTOCTREE)  # the one that keeps alpha
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def data_uri(pixels: Pixels) -> str:
    """An image (height, width, 4) as the address of an HTML image that needs no file."""
    return f"data:image/png;base64,{base64.b64encode(as_png(pixels)).decode()}"


def named_rows(rows: Sequence[Pixels], names: Sequence[str], title: str) -> "Figure":
    """Rows of images (n, channels, height, width), each with its name to the left."""
    shown = [colored(row) for row in rows]
    pixels = arrange(shown)
    height, width = pixels.shape[:2]
    tile = shown[0].shape[1]
    centres = [
        row * (tile + _gap(*shown[0].shape[1:3])) + (tile - 1) / 2 for row in range(len(rows))
    ]
    labels = short_names(names)
    inches, margin = 0.5 * max(map(len, rows)), 0.3 + 0.1 * max(map(len, labels))
    with new_figure(inches + margin + 0.1, inches * height / width + 0.5) as figure:
        set_margins(figure, left=margin, right=0.1, bottom=0.1, top=0.4)
        axes = figure.subplots()
        axes.imshow(pixels, interpolation="nearest", aspect="auto")
        axes.grid(visible=False)
        axes.set_yticks(centres, labels)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title)
        return figure
