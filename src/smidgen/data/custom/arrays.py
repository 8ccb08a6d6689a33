"""A person's arrays: .npz, IDX files, CSV; read whole, checked, never unpickled."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from smidgen.data.idx import decompress, idx_size, parse_idx
from smidgen.errors import DataError

_MOST_BYTES = 16 << 30
"""What a file may unpack to: these formats are read into memory."""
_MOST_SIDE = 4096
_MOST_LINE = 1 << 24
_NUMBERS = re.compile(rb"[0-9,]+")  # a repeated group would take 100 bytes for each number
_NO_NUMBER = re.compile(rb"\A,|,,|,\Z|[0-9]{10}")
_NPZ = ("x_train", "y_train", "x_test", "y_test")
_IDX = re.compile(r"(?:.*-)?(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte")


class _NoLabelsError(DataError):
    """A CSV begins with something other than labels."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Images and labels as a file has them."""

    images: NDArray[np.uint8]
    """(images, height, width, channels), channels 1 or 3."""
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """What a person's arrays hold; without test images, some of the training ones become them."""

    train: Pixels
    test: Pixels | None
    notes: tuple[str, ...] = ()


def array_files(path: Path) -> list[Path] | None:
    """The files to read if `path` is an .npz, a .csv, a folder of IDX or CSV files; else None."""
    if path.is_file():
        return [path] if path.suffix.lower() in (".npz", ".csv") else None
    if (path / "train.csv").is_file():
        return [file for name in ("train.csv", "test.csv") if (file := path / name).is_file()]
    found = [file for file in sorted(path.iterdir()) if _idx_kind(file) and file.is_file()]
    return found or None


def read_arrays(files: list[Path]) -> Arrays:
    """What `files`, as array_files gives them, hold.

    Raises:
        DataError: unreadable, damaged, pickled, of a wrong type or shape, lengths that differ,
            labels that are no integers; names the file.
    """
    try:
        if files[0].suffix.lower() == ".npz":
            return _read_npz(files[0])
        if files[0].suffix.lower() == ".csv":
            return _read_csvs(files)
        return _read_idx(files)
    except OSError as error:
        raise DataError(f"{files[0]} cannot be read: {error.strerror or error}.") from error


def _read_npz(path: Path) -> Arrays:
    with path.open("rb") as file:
        x_train, y_train, x_test, y_test = _read_members(file, path)
    return Arrays(
        train=_pixels(x_train, y_train, f"{path}: x_train", f"{path}: y_train"),
        test=_pixels(x_test, y_test, f"{path}: x_test", f"{path}: y_test"),
    )


def _read_members(file: IO[bytes], path: Path) -> list[NDArray[Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {name: f"{name}.npy" for name in _NPZ}
            missing = [name for name in _NPZ if members[name] not in archive.namelist()]
            if missing:
                raise DataError(
                    f"{path} lacks {', '.join(missing)}; it must hold {', '.join(_NPZ)}."
                )
            infos = [archive.getinfo(members[name]) for name in _NPZ]
            if sum(info.file_size for info in infos) > _MOST_BYTES:
                raise DataError(f"{path} unpacks to more than {_MOST_BYTES >> 30} GiB; refused.")
            arrays = []
            for name, info in zip(_NPZ, infos, strict=True):
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise DataError(
                        f"{path}: {name} is packed in a way that numpy does not write; refused."
                    )
                with archive.open(info) as stream:
                    arrays.append(_read_npy(stream, info.file_size, f"{path}: {name}"))
    except DataError:
        raise
    except Exception as error:  # a damaged zip or header makes these readers raise anything
        raise DataError(
            f"{path} is damaged or no .npz ({type(error).__name__}: {error})."
        ) from None
    return arrays


def _read_npy(stream: IO[bytes], num_bytes: int, what: str) -> NDArray[Any]:
    """The array, once its header is known to fit its size and to hold no pickle."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{what} is in version {version} of the format; only 1 and 2 are read.")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects (pickled), which could run code; refused.")
    size = prod(shape) * dtype.itemsize
    if stream.tell() + size != num_bytes:
        raise DataError(f"{what} is damaged: its header says {size:,} bytes of values.")
    flat = np.frombuffer(stream.read(size), dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _pixels(images: NDArray[Any], labels: NDArray[Any], what: str, whose: str) -> Pixels:
    shape = images.shape
    if images.dtype.kind not in "iu" or (
        images.size and images.dtype != np.uint8 and (images.min() < 0 or images.max() > 255)
    ):
        raise DataError(
            f"{what} is {images.dtype}; pixels must be integers from 0 to 255 (np.uint8)."
        )
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise DataError(
            f"{what} has the shape {shape}; it must be (images, height, width), for colour "
            "(images, height, width, 3) or (images, 3, height, width)."
        )
    if max(images.shape[1:3]) > _MOST_SIDE:
        raise DataError(f"{what} has images of {shape[1:]}; a side has at most {_MOST_SIDE}.")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{whose} is {labels.dtype}; labels must be integers.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{whose} has the shape {labels.shape}; it must be (labels,).")
    if len(images) != len(labels):
        raise DataError(
            f"{what} has {len(images):,} images and {whose} {len(labels):,} labels; each image "
            "needs one."
        )
    if len(labels) and int(labels.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{whose} holds {labels.max()}, which is too large for a label.")
    return Pixels(images.astype(np.uint8, copy=False), labels.astype(np.int64))


def _idx_kind(path: Path) -> tuple[str, str] | None:
    """Split and content of an IDX file by its name, gzipped or not."""
    match = _IDX.fullmatch(path.name.removesuffix(".gz"))
    if match is None:
        return None
    return ("train" if match["part"] == "train" else "test"), match["what"]


def _read_idx(files: list[Path]) -> Arrays:
    places: dict[tuple[str, str], Path] = {}
    for file in files:
        kind = _idx_kind(file)
        assert kind is not None  # array_files chose them by it
        other = places.setdefault(kind, file)
        if other.name.removesuffix(".gz") != file.name.removesuffix(".gz"):
            raise DataError(f"{other} and {file} are both the {kind[0]} {kind[1]}; keep one.")
    for kind in (("train", "images"), ("train", "labels")):
        if kind not in places:
            raise DataError(f"{files[0].parent} has no IDX file of the train {kind[1]}.")
    if (("test", "images") in places) != (("test", "labels") in places):
        raise DataError(f"{files[0].parent} has test images or test labels, but not both.")
    parts = []
    for part in ("train", "test"):
        if (part, "images") in places:
            images, labels = places[part, "images"], places[part, "labels"]
            parts.append(_pixels(_idx_array(images), _idx_array(labels), str(images), str(labels)))
    return Arrays(train=parts[0], test=parts[1] if len(parts) == 2 else None)


def _idx_array(path: Path) -> NDArray[np.uint8]:
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path} has more than {_MOST_BYTES >> 30} GiB; refused.")
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            start = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(content, 64)
        except zlib.error as error:
            raise DataError(f"{path} is damaged or no gzip file ({error}).") from None
        size = idx_size(start, str(path))
        if size > _MOST_BYTES:
            raise DataError(f"{path} unpacks to more than {_MOST_BYTES >> 30} GiB; refused.")
        content = decompress(content, str(path), size)
    return parse_idx(content, str(path))


def _read_csvs(files: list[Path]) -> Arrays:
    train = _read_csv(files[0])
    if not files[1:]:
        return Arrays(train, None)
    try:
        return Arrays(train, _read_csv(files[1]))
    except _NoLabelsError:
        return Arrays(train, None, (f"{files[1].name} has no labels, so it is not used.",))


def _read_csv(path: Path) -> Pixels:
    """The images of a CSV, label first.

    Raises:
        _NoLabelsError: its heading begins with something else.
    """
    labels: list[int] = []
    rows: list[NDArray[np.uint8]] = []
    width, num_bytes = None, 0
    for number, line in _lines(path):
        if number == 1 and not line[:1].isdigit():
            names = [name.strip().strip(b'"') for name in line.split(b",")]
            if names[0] != b"label":
                said = names[0][:20].decode(errors="replace")
                raise _NoLabelsError(f"{path}: the first column is {said!r}; it must be 'label'.")
            width = len(names)
            continue
        if not _NUMBERS.fullmatch(line) or _NO_NUMBER.search(line):
            raise DataError(
                f"{path}, line {number}, is not an integer label and integers from 0 to 255, with "
                "commas between."
            )
        values = np.fromstring(line, np.int64, sep=",")
        width = width or len(values)
        if len(values) != width:
            raise DataError(f"{path}, line {number}, has {len(values)} values instead of {width}.")
        if isqrt(width - 1) ** 2 != width - 1 or width < 2:
            raise DataError(
                f"{path} has {width - 1} pixels a line; images must be square, as 784 = 28 x 28."
            )
        if values[1:].max() > 255:
            raise DataError(f"{path}, line {number}, has a pixel above 255.")
        num_bytes += width
        if num_bytes > _MOST_BYTES:
            raise DataError(f"{path} has more than {_MOST_BYTES >> 30} GiB of pixels; refused.")
        labels.append(int(values[0]))
        rows.append(values[1:].astype(np.uint8))
    if not rows:
        raise DataError(f"{path} has no image.")
    side = isqrt(len(rows[0]))
    images = np.stack(rows).reshape(-1, side, side, 1)
    return Pixels(images, np.array(labels, np.int64))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers."""
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(_MOST_LINE):
            number += 1
            if len(line) == _MOST_LINE:
                raise DataError(f"{path}, line {number}, has more than {_MOST_LINE:,} bytes.")
            if line := line.strip():
                yield number, line
