"""What a run's network sees in pictures from elsewhere."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from smidgen.data import load_image, normalize, open_image
from smidgen.record import RunRecord, read_record
from smidgen.runs.load import restore

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
    images = np.stack([_as_input(path, record) for path in pictures])
    batch = torch.from_numpy(images)  # (batch, channels, height, width)
    shares = network(normalize(batch, record.data.mean, record.data.std)).softmax(1)
    found = []
    for path, row in zip(pictures, shares, strict=True):
        order = row.argsort(descending=True).tolist()
        classes = tuple((record.data.classes[i], float(row[i])) for i in order)
        found.append(Prediction(path=path, classes=classes))
    return found


def _as_input(path: Path, record: RunRecord) -> NDArray[np.uint8]:
    """The picture as the run's network saw those it learnt from, (channels, height, width)."""
    channels, height, width = record.data.image_shape
    if record.experiment.data.path is None and channels == 1:  # drawings, bright on black
        return as_digit(read_grey(path), height, width)[None]
    return load_image(path, record.data.image_shape)


def read_grey(path: Path) -> NDArray[np.float32]:
    """The image in grayscale from 0 to 1, (height, width); transparent pixels are white.

    Raises:
        DataError: it cannot be read, is no picture, or has over 50 million pixels.
    """
    return np.asarray(open_image(path).convert("L"), dtype=np.float32) / np.float32(255)


def as_digit(grayscale: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    """The drawing in the manner of MNIST: bright on black, (height, width).

    What most of the border shows is the paper, so dark on bright is turned round. A picture of
    another size than the network's has its drawing cut out of the paper, which may be lit
    unevenly, scaled so that its longer side takes 20 of 28 parts of the frame, and centred by its
    centre of mass.
    (LeCun, Cortes, Burges: The MNIST database.)
    """
    if grayscale.shape == (height, width):
        border = np.concatenate([grayscale[0], grayscale[-1], grayscale[:, 0], grayscale[:, -1]])
        bright = float(np.median(border)) >= 0.5
        return np.round((1 - grayscale if bright else grayscale) * 255).astype(np.uint8)
    ink = np.abs(grayscale - _paper(grayscale))
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


def _paper(grayscale: NDArray[np.float32]) -> NDArray[np.float32]:
    """The paper's brightness at each pixel: the plane that fits the border best.

    Fitted twice, the second time without what is far from the first plane: a stroke at the edge.
    """
    height, width = grayscale.shape
    rows, columns = np.mgrid[0:height, 0:width]
    edge = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns == width - 1)
    places = np.stack([np.ones(edge.sum()), rows[edge], columns[edge]], 1)
    shades = grayscale[edge]
    near = np.abs(shades - np.median(shades)) <= 0.25
    for _ in range(2):
        plane = np.linalg.lstsq(places[near], shades[near], rcond=None)[0]
        near = np.abs(shades - places @ plane) <= 0.1
        if near.sum() < 3:
            break
    paper: NDArray[np.float32] = (plane[0] + plane[1] * rows + plane[2] * columns).astype(
        np.float32
    )
    return paper


def _centre(drawing: NDArray[np.uint8]) -> tuple[float, float]:
    """The centre of mass, (row, column), in pixels from the upper left corner."""
    mass = drawing.astype(np.float64)
    total = mass.sum()
    rows = (mass.sum(1) * (np.arange(mass.shape[0]) + 0.5)).sum() / total
    columns = (mass.sum(0) * (np.arange(mass.shape[1]) + 0.5)).sum() / total
    return float(rows), float(columns)
