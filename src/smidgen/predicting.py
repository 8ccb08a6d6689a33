"""What a run's network sees in pictures from elsewhere."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from smidgen.data import normalize
from smidgen.errors import DataError
from smidgen.record import read_record
from smidgen.run import restore

_MOST_PIXELS = 50_000_000  # more is refused before it is decoded
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")  # none that runs a program to be read
_INK = (
    0.2  # of the range from paper to the darkest stroke: above it, a pixel belongs to the drawing
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The classes of one picture, the most likely first, with their probabilities."""

    path: Path
    classes: tuple[tuple[str, float], ...]


@torch.no_grad()
def predict(folder: Path, pictures: list[Path]) -> list[Prediction]:
    """Classify PNG or JPEG files with the network of the run in `folder`.

    Raises:
        RecordError: the run is missing or damaged.
        DataError: a file is no picture, or too large; nothing is classified then.
    """
    record = read_record(folder)
    network = restore(folder, record)
    _, height, width = record.data.image_shape
    images = np.stack([as_digit(read_grey(path), height, width) for path in pictures])
    batch = torch.from_numpy(images)[:, None]  # (batch, 1, height, width)
    shares = network(normalize(batch, record.data.mean, record.data.std)).softmax(1)
    found = []
    for path, row in zip(pictures, shares, strict=True):
        order = row.argsort(descending=True).tolist()
        classes = tuple((record.data.classes[i], float(row[i])) for i in order)
        found.append(Prediction(path=path, classes=classes))
    return found


def read_grey(path: Path) -> NDArray[np.float32]:
    """The picture in shades of grey from 0 to 1, (height, width); what is transparent is white.

    Raises:
        DataError: it cannot be read, is no picture, or has over 50 million pixels.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(path, formats=_FORMATS) as picture,
        ):
            if picture.width * picture.height > _MOST_PIXELS:
                raise DataError(
                    f"{path} has {picture.width}x{picture.height} pixels; at most "
                    f"{_MOST_PIXELS:,} are read. Make it smaller."
                )
            if picture.mode.startswith(
                "I"
            ):  # 16 bits a pixel, which convert() would cut off at 255
                return np.asarray(picture, dtype=np.float32) / np.float32(65535)
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
            flat = Image.new("RGBA", upright.size, "white")
            flat.alpha_composite(upright)
            return np.asarray(flat.convert("L"), dtype=np.float32) / np.float32(255)
    except UnidentifiedImageError:
        raise DataError(f"{path} is no picture that can be read (PNG or JPEG, say).") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}.") from None


def as_digit(grey: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    """The drawing in the manner of MNIST: bright on black, (height, width).

    What most of the border shows is the paper, so dark on bright is turned round. A picture of
    another size than the network's has its drawing cut out, scaled so that its longer side takes
    20 of 28 parts of the frame, and centred by its centre of mass.
    (LeCun, Cortes, Burges: The MNIST database.)
    """
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    if grey.shape == (height, width):
        return np.round((grey if paper < 0.5 else 1 - grey) * 255).astype(np.uint8)
    ink = np.abs(grey - paper)
    ink = np.clip(ink / max(float(ink.max()), 1e-6), 0, 1)
    ink[ink < _INK] = 0  # the grain of paper
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    frame = np.zeros((height, width), dtype=np.uint8)
    if not rows.size:
        return frame
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = min(height, width) * 20 / 28 / max(cut.shape)
    size = [max(1, round(side * scale)) for side in cut.shape]
    small = Image.fromarray((cut * 255).astype(np.uint8)).resize(
        (size[1], size[0]), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    )
    drawing = np.asarray(small)
    if not drawing.any():  # a few specks far apart
        return frame
    top, left = (
        min(max(0, round(side / 2 - centre)), side - extent)
        for side, centre, extent in zip((height, width), _centre(drawing), size, strict=True)
    )
    frame[top : top + size[0], left : left + size[1]] = drawing
    return frame


def _centre(drawing: NDArray[np.uint8]) -> tuple[float, float]:
    """The centre of mass, (row, column), in pixels from the upper left corner."""
    mass = drawing.astype(np.float64)
    total = mass.sum()
    rows = (mass.sum(1) * (np.arange(mass.shape[0]) + 0.5)).sum() / total
    columns = (mass.sum(0) * (np.arange(mass.shape[1]) + 0.5)).sum() / total
    return float(rows), float(columns)
