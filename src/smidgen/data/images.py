"""Image files through Pillow: their headers, and their pixels in one size, many at a time."""

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

from smidgen._storage.cores import usable_cores
from smidgen._storage.progress import progress_bar
from smidgen.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
MAX_PIXELS = 50_000_000
"""A larger image is refused before it is decoded."""

# Pillow warns about images that are refused here anyway.
warnings.filterwarnings("ignore", "Image size", Image.DecompressionBombWarning)

# Pillow may try nothing else, whatever the file's name: some of its readers start programs.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_BATCH = 64  # images per task: a task for each would cost more than its image
_ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap the sides
_ORIENTATION = 0x0112

Shape = tuple[int, int, int]
"""Channels, height, width."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image file's header says."""

    height: int
    width: int
    color: bool
    """Whether it is stored in color, even if every pixel is gray."""


def read_header(path: Path) -> ImageHeader:
    """Read the header of the image at `path`; nothing is decoded.

    Raises:
        DataError: not an image, or one of more than 50 million pixels.
    """
    with _open(path) as image:
        width, height = image.size
        if _orientation(image) in _ROTATED:
            width, height = height, width
        return ImageHeader(height, width, _is_color(image))


def most_common_size(headers: Sequence[ImageHeader]) -> tuple[int, int]:
    """The most common (height, width); of several, the smallest.

    >>> most_common_size([ImageHeader(8, 8, False), ImageHeader(9, 7, False)])
    (9, 7)
    """
    counts = Counter((header.height, header.width) for header in headers)
    return max(counts, key=lambda size: (counts[size], -size[0] * size[1], size))


def load_image(path: Path, shape: Shape) -> NDArray[np.uint8]:
    """The image at `path` in `shape`, stretched if its aspect ratio differs.

    Raises:
        DataError: as open_image.
    """
    return fit(open_image(path, 2 * max(shape[1:])), shape)


def open_image(path: Path, side: int | None = None) -> Image.Image:
    """The image at `path`, decoded: upright, 8 bits a channel, on white where it is transparent.

    Of several frames the first counts. With `side`, a large JPEG is decoded at a reduced size, not
    below `side` pixels.

    Raises:
        DataError: not an image, damaged, or of more than 50 million pixels.
    """
    with _open(path) as image:
        if side is not None:
            image.draft(None, (side, side))
        try:
            flat = _flatten(image)
            flat.load()
            return flat
        except Exception as error:  # Pillow raises anything on a damaged file, KeyErrors included
            raise DataError(f"{path} is damaged: {_reason(error)}.") from None


def fit(image: Image.Image, shape: Shape) -> NDArray[np.uint8]:
    """The image as an array of `shape`, resized bilinearly if need be."""
    channels, height, width = shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def in_parallel(
    function: Callable[[T], R], items: Sequence[T], title: str
) -> Iterator[list[R | DataError]]:
    """Yield the results for `items` in order, in batches; a DataError that was raised is a result.

    Threads do the work: Pillow decodes without holding the interpreter's lock. Only a few batches
    are decoded ahead, so memory stays bounded. A bar named `title` shows if stderr is a terminal.
    """

    def work(batch: Sequence[T]) -> list[R | DataError]:
        return [_result_or_error(function, item) for item in batch]

    batches = (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
    workers = min(usable_cores(), 16)
    pending: deque[Future[list[R | DataError]]] = deque()
    completed = 0
    Image.init()  # before the threads: it is not thread-safe
    with (
        progress_bar(title, len(items)) as update,
        warnings.catch_warnings(action="ignore"),  # Pillow's remarks on odd files
        ThreadPoolExecutor(workers) as pool,
    ):
        for batch in chain(batches, [None] * (4 * workers)):
            if batch is not None:
                pending.append(pool.submit(work, batch))
            if pending and (batch is None or len(pending) == 4 * workers):
                done = pending.popleft().result()
                completed += len(done)
                update(completed)
                yield done


def _result_or_error(function: Callable[[T], R], item: T) -> R | DataError:
    try:
        return function(item)
    except DataError as error:
        return error.with_traceback(None)


def _open(path: Path) -> Image.Image:
    """Open an image, read its header and bound its size."""
    try:
        image = Image.open(path, formats=_FORMATS)
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image that can be read, such as PNG or JPEG.") from None
    except Exception as error:  # as in open_image
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError(
            f"{path} has {image.width}x{image.height} pixels; at most {MAX_PIXELS:,} "
            "are read. Make it smaller."
        )
    return image


def _flatten(image: Image.Image) -> Image.Image:
    """Upright, 8 bits a channel, on white where it is transparent."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip at 255
        deep = np.asarray(image).astype(np.int64)
        image = _with_exif(Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8)), image)
    elif image.mode == "F":
        raise DataError("its pixels are floating-point numbers")
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        return white
    return image


def _with_exif(image: Image.Image, of: Image.Image) -> Image.Image:
    image.info["exif"] = of.getexif().tobytes()
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata does not make an image unusable
        return 1


def _is_color(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        entries = np.array(image.getpalette() or [0, 0, 0]).reshape(-1, 3)
        return bool((entries != entries[:, :1]).any())
    return image.mode not in ("1", "L", "LA", "La", "F") and not image.mode.startswith("I")


def _reason(error: Exception) -> str:
    text = str(getattr(error, "strerror", None) or error or type(error).__name__)
    return text.splitlines()[0].rstrip(".")
