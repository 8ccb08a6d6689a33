"""Pictures through Pillow: looked at by their headers, then decoded to one size, many at a time."""

import os
import sys
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from smidgen.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
MAX_PIXELS = 50_000_000
"""A picture of more is refused before it is decoded."""

# Pillow warns of pictures that are refused here anyway.
warnings.filterwarnings("ignore", "Image size", Image.DecompressionBombWarning)

# Nothing else is tried on a file, whatever its name: some of Pillow's readers start programs.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_BATCH = 64  # pictures to a task: a task for each would cost more than its picture
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides
_ORIENTATION = 0x0112

Shape = tuple[int, int, int]
"""Channels, height, width."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture's header says."""

    height: int
    width: int
    colour: bool
    """Whether it is stored in colour, even if all that it shows is grayscale."""


def look(path: Path) -> Look:
    """What the header of the picture at `path` says; nothing is decoded.

    Raises:
        DataError: no picture, or one of more than 50 million pixels.
    """
    with _opened(path) as picture:
        width, height = picture.size
        if _orientation(picture) in _TURNED:
            width, height = height, width
        return Look(height, width, _is_colour(picture))


def most_common(looks: Sequence[Look]) -> tuple[int, int]:
    """The most common (height, width); of several, the smallest.

    >>> most_common([Look(8, 8, False), Look(9, 7, False), Look(9, 7, True)])
    (9, 7)
    """
    counts = Counter((found.height, found.width) for found in looks)
    return max(counts, key=lambda size: (counts[size], -size[0] * size[1], size))


def load_image(path: Path, shape: Shape) -> NDArray[np.uint8]:
    """The picture at `path` in `shape`, stretched where its sides have another ratio.

    Raises:
        DataError: as open_image.
    """
    return fit(open_image(path, 2 * max(shape[1:])), shape)


def open_image(path: Path, side: int | None = None) -> Image.Image:
    """The picture at `path`, decoded: upright, 8 bits a channel, on white where it is transparent.

    Of several frames the first counts. A large JPEG is decoded to `side` pixels or somewhat more,
    where it is given.

    Raises:
        DataError: no picture, damaged, or of more than 50 million pixels.
    """
    with _opened(path) as picture:
        if side is not None:
            picture.draft(None, (side, side))
        try:
            flat = _flat(picture)
            flat.load()
            return flat
        except Exception as error:  # Pillow raises anything on a damaged file, KeyErrors included
            raise DataError(f"{path} is damaged: {_reason(error)}.") from None


def fit(picture: Image.Image, shape: Shape) -> NDArray[np.uint8]:
    """The picture as an array of `shape`, resized bilinearly if need be."""
    channels, height, width = shape
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(picture, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def in_parallel(
    function: Callable[[T], R], items: Sequence[T], title: str
) -> Iterator[list[R | DataError]]:
    """The results for `items`, in their order, in batches; a DataError stands where one was raised.

    Threads do it: Pillow decodes without holding the interpreter. Only a few batches are under way
    at a time, so memory stays bounded. A bar named `title` shows if stderr is a terminal.
    """

    def work(batch: Sequence[T]) -> list[R | DataError]:
        return [_attempt(function, item) for item in batch]

    batches = (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
    workers = min(os.cpu_count() or 1, 16)
    under_way: deque[Future[list[R | DataError]]] = deque()
    Image.init()  # before the threads: it is not made for being called by several
    with (
        _bar() as bar,
        # Pillow's remarks on odd files: what matters is decided by their content.
        warnings.catch_warnings(action="ignore"),
        ThreadPoolExecutor(workers) as pool,
    ):
        task = bar.add_task(title, total=len(items))
        for batch in chain(batches, [None] * (4 * workers)):
            if batch is not None:
                under_way.append(pool.submit(work, batch))
            if under_way and (batch is None or len(under_way) == 4 * workers):
                done = under_way.popleft().result()
                bar.update(task, advance=len(done))
                yield done


def _attempt(function: Callable[[T], R], item: T) -> R | DataError:
    try:
        return function(item)
    except DataError as error:
        return error.with_traceback(None)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _opened(path: Path) -> Image.Image:
    """The picture, its header read and its size bounded."""
    try:
        picture = Image.open(path, formats=_FORMATS)
    except UnidentifiedImageError:
        raise DataError(f"{path} is no picture that can be read (PNG or JPEG, say).") from None
    except Exception as error:  # as in decode
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from None
    if picture.width * picture.height > MAX_PIXELS:
        picture.close()
        raise DataError(
            f"{path} has {picture.width}x{picture.height} pixels; at most {MAX_PIXELS:,} are "
            "read. Make it smaller."
        )
    return picture


def _flat(picture: Image.Image) -> Image.Image:
    """Upright, 8 bits a channel, on white where it is transparent."""
    if picture.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
        deep = np.asarray(picture).astype(np.int64)
        picture = _with_exif(Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8)), picture)
    elif picture.mode == "F":
        raise DataError("its pixels are floating-point numbers")
    if _orientation(picture) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        return white
    return picture


def _with_exif(picture: Image.Image, of: Image.Image) -> Image.Image:
    picture.info["exif"] = of.getexif().tobytes()
    return picture


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged remarks about a picture do not spoil the picture
        return 1


def _is_colour(picture: Image.Image) -> bool:
    if picture.mode in ("P", "PA"):
        entries = np.array(picture.getpalette() or [0, 0, 0]).reshape(-1, 3)
        return bool((entries != entries[:, :1]).any())
    return picture.mode not in ("1", "L", "LA", "La", "F") and not picture.mode.startswith("I")


def _reason(error: Exception) -> str:
    text = str(getattr(error, "strerror", None) or error or type(error).__name__)
    return text.splitlines()[0].rstrip(".")
