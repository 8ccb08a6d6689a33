"""Custom data as arrays: .npz, IDX files, CSV. They are read at once, checked, never unpickled."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from smidgen.config import Data
from smidgen.data.custom.cache import ImageStream
from smidgen.data.custom.splits import interleave_classes, stratified_split
from smidgen.data.idx import read_idx
from smidgen.data.images import Shape, fit
from smidgen.errors import DataError

_MAX_BYTES = 16 << 30
"""Of what a file may unpack to, as it is read into memory."""
_MAX_SIDE = 4096
_MAX_LINE_BYTES = 1 << 24
_NUMBERS = re.compile(rb"[0-9,]+")  # a repeated group would take 100 bytes for each number
_NOT_A_NUMBER = re.compile(rb"\A,|,,|,\Z|[0-9]{10}")
_NPZ = ("x_train", "y_train", "x_test", "y_test")
_IDX = re.compile(r"(?:.*-)?(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte")


class _NoLabelsError(DataError):
    """The first column of a CSV holds something else."""


@dataclass(frozen=True, slots=True, eq=False)
class LabeledImages:
    """The images of one split."""

    images: NDArray[np.uint8]
    """(images, height, width, channels), with 1 or 3 channels."""
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """The content of array files."""

    train: LabeledImages
    test: LabeledImages | None
    notes: tuple[str, ...] = ()


def array_files(path: Path) -> list[Path] | None:
    """The files to read if `path` is an .npz, a .csv or a folder of IDX or CSV files; else None."""
    if path.is_file():
        return [path] if path.suffix.lower() in (".npz", ".csv") else None
    if (path / "train.csv").is_file():
        return [file for name in ("train.csv", "test.csv") if (file := path / name).is_file()]
    if not path.is_dir():
        return None
    return [file for file in sorted(path.iterdir()) if _idx_kind(file) and file.is_file()] or None


def read_arrays(files: Sequence[Path]) -> Arrays:
    """Read `files`, which come from array_files.

    Raises:
        DataError: unreadable, damaged, pickled, a wrong type or shape, differing lengths, labels
            that are not integers; names the file.
    """
    readers = {".npz": _read_npz, ".csv": _read_csvs}
    try:
        return readers.get(files[0].suffix.lower(), _read_idx)(files)
    except OSError as error:
        raise DataError(f"{files[0]} cannot be read: {error.strerror or error}.") from error


def stream_arrays(path: Path, files: Sequence[Path], data: Data) -> ImageStream:
    """The images of `files`, of the data set at `path`, in the order of the cache.

    Raises:
        DataError: as read_arrays; fewer than two classes, a label that only test images have, none
            left to test on, images of two sizes without data.size.
    """
    arrays = read_arrays(files)
    train, test, notes = arrays.train, arrays.test, arrays.notes
    classes = np.unique(train.labels)
    if len(classes) < 2:
        raise DataError(f"{path} has only the label {classes[0]}; at least two are needed.")
    if test is None:
        numbers = [str(i) for i in range(len(train.labels))]
        try:
            split = stratified_split(train.labels, numbers, data.split.test, data.split.seed)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        names = [f"image {i} of {path.name}" for indices in split for i in indices]
        train, test = (LabeledImages(train.images[i], train.labels[i]) for i in split)
    else:
        names = [f"training image {i} of {path.name}" for i in range(len(train.labels))]
        names += [f"test image {i} of {path.name}" for i in range(len(test.labels))]
    if len(unknown := np.setdiff1d(test.labels, classes)):
        raise DataError(f"{path}: test images have the label {unknown[0]}, training images do not.")
    if len(absent := np.setdiff1d(classes, test.labels)):
        notes = (*notes, f"no test image has the label {absent[0]}.")
    if train.images.shape[1:] != test.images.shape[1:] and data.size is None:
        raise DataError(
            f"{path}: training images are {train.images.shape[1:]} and test images "
            f"{test.images.shape[1:]} (height, width, channels); data.size makes them one size."
        )
    num_train = len(train.labels)
    order = interleave_classes(train.labels, names[:num_train], data.split.seed)
    _, height, width, channels = train.images.shape
    if data.grayscale is not None:
        channels = 1 if data.grayscale else 3
    if data.size is not None:
        height = width = data.size
    shape = (channels, height, width)

    def batches() -> Iterator[list[NDArray[np.uint8]]]:
        yield from ([_fit(train.images[i], shape)] for i in order)
        yield from ([_fit(image, shape)] for image in test.images)

    return ImageStream(
        classes=tuple(str(value) for value in classes),
        image_shape=shape,
        names=[names[i] for i in order] + names[num_train:],
        labels=np.searchsorted(classes, np.concatenate([train.labels[order], test.labels])),
        num_train=num_train,
        num_validation=0,
        batches=batches,
        notes=notes,
    )


def _fit(image: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """An image (height, width, channels) in `shape`, which is (channels, height, width)."""
    channels, height, width = shape
    if image.shape == (height, width, channels):
        return image.transpose(2, 0, 1)
    single = image.shape[2] == 1
    return fit(Image.fromarray(np.ascontiguousarray(image[..., 0] if single else image)), shape)


def _read_npz(files: Sequence[Path]) -> Arrays:
    path = files[0]
    x_train, y_train, x_test, y_test = _read_members(path)
    train, test = (
        labeled_images(x, y, images_name=f"{path}: x_{split}", labels_name=f"{path}: y_{split}")
        for split, x, y in (("train", x_train, y_train), ("test", x_test, y_test))
    )
    return Arrays(train=train, test=test)


def _read_members(path: Path) -> list[NDArray[Any]]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            missing = [name for name in _NPZ if f"{name}.npy" not in archive.namelist()]
            if missing:
                raise DataError(
                    f"{path} lacks {', '.join(missing)}; it must hold {', '.join(_NPZ)}."
                )
            members = {name: archive.getinfo(f"{name}.npy") for name in _NPZ}
            if sum(member.file_size for member in members.values()) > _MAX_BYTES:
                raise DataError(f"{path} unpacks to more than {_MAX_BYTES >> 30} GiB; refused.")
            arrays = []
            for name, member in members.items():
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise DataError(
                        f"{path}: {name} is compressed in a way that numpy never uses; refused."
                    )
                with archive.open(member) as stream:
                    arrays.append(_read_npy(stream, member.file_size, f"{path}: {name}"))
            return arrays
    except (DataError, OSError):
        raise
    except Exception as error:  # a damaged zip or header makes these readers raise anything
        raise DataError(
            f"{path} is damaged or not an .npz ({type(error).__name__}: {error})."
        ) from None


def _read_npy(stream: IO[bytes], num_bytes: int, what: str) -> NDArray[Any]:
    """Read an array after checking that its header fits its size and that it holds no pickle."""
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


def labeled_images(
    images: NDArray[Any], labels: NDArray[Any], images_name: str, labels_name: str
) -> LabeledImages:
    """Check arrays that hold one split; the names are for messages.

    Raises:
        DataError: pixels are not integers from 0 to 255, labels not integers, or shapes do not fit.
    """
    shape = images.shape
    if images.dtype.kind not in "iu" or (
        images.size and images.dtype != np.uint8 and (images.min() < 0 or images.max() > 255)
    ):
        raise DataError(
            f"{images_name} is {images.dtype}; pixels must be integers from 0 to 255 (np.uint8)."
        )
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise DataError(
            f"{images_name} has the shape {shape}; it must be (images, height, width), for color "
            "(images, height, width, 3) or (images, 3, height, width)."
        )
    if max(images.shape[1:3]) > _MAX_SIDE:
        raise DataError(f"{images_name} has images of {shape[1:]}; a side has at most {_MAX_SIDE}.")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{labels_name} is {labels.dtype}; labels must be integers.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{labels_name} has the shape {labels.shape}; it must be (labels,).")
    if len(images) != len(labels):
        raise DataError(
            f"{images_name} has {len(images):,} images and {labels_name} {len(labels):,} labels; "
            "each image needs one."
        )
    if len(labels) and int(labels.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{labels_name} holds {labels.max()}, which is too large for a label.")
    return LabeledImages(images.astype(np.uint8, copy=False), labels.astype(np.int64))


def _idx_kind(path: Path) -> tuple[str, str] | None:
    """The split and the content, images or labels, that an IDX file's name says."""
    match = _IDX.fullmatch(path.name.removesuffix(".gz"))
    if match is None:
        return None
    return ("train" if match["split"] == "train" else "test"), match["what"]


def _read_idx(files: Sequence[Path]) -> Arrays:
    found: dict[tuple[str, str], Path] = {}
    for file in files:
        kind = _idx_kind(file)
        assert kind is not None  # array_files chose them by it
        other = found.setdefault(kind, file)
        if other.name.removesuffix(".gz") != file.name.removesuffix(".gz"):
            raise DataError(f"{other} and {file} are both the {kind[0]} {kind[1]}; keep one.")
    for split in ("train", "test"):
        lacking = [what for what in ("images", "labels") if (split, what) not in found]
        if lacking and (split == "train" or len(lacking) == 1):
            raise DataError(f"{files[0].parent} has no IDX file of the {split} {lacking[0]}.")
    splits = []
    for split in ("train", "test"):
        if (split, "images") in found:
            images, labels = found[split, "images"], found[split, "labels"]
            x, y = read_idx(images, _MAX_BYTES), read_idx(labels, _MAX_BYTES)
            splits.append(labeled_images(x, y, str(images), str(labels)))
    return Arrays(train=splits[0], test=splits[1] if len(splits) == 2 else None)


def _read_csvs(files: Sequence[Path]) -> Arrays:
    train = _read_csv(files[0])
    try:
        return Arrays(train, _read_csv(files[1]) if files[1:] else None)
    except _NoLabelsError:
        return Arrays(train, None, (f"{files[1].name} has no labels, so it is not used.",))


def _read_csv(path: Path) -> LabeledImages:
    """Read a CSV of a label and the pixels of a square image in each line.

    Raises:
        _NoLabelsError: its header names another first column.
    """
    labels: list[int] = []
    rows: list[NDArray[np.uint8]] = []
    width, num_bytes = None, 0
    for number, line in _lines(path):
        if number == 1 and not line[:1].isdigit():
            names = [name.strip().strip(b'"') for name in line.split(b",")]
            if names[0] != b"label":
                first = names[0][:20].decode(errors="replace")
                raise _NoLabelsError(f"{path}: the first column is {first!r}; it must be 'label'.")
            width = len(names)
            continue
        if not _NUMBERS.fullmatch(line) or _NOT_A_NUMBER.search(line):
            raise DataError(
                f"{path}, line {number}, is not an integer label and integers from 0 to 255, "
                "separated by commas."
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
        if num_bytes > _MAX_BYTES:
            raise DataError(f"{path} has more than {_MAX_BYTES >> 30} GiB of pixels; refused.")
        labels.append(int(values[0]))
        rows.append(values[1:].astype(np.uint8))
    if not rows:
        raise DataError(f"{path} has no image.")
    side = isqrt(len(rows[0]))
    return LabeledImages(np.stack(rows).reshape(-1, side, side, 1), np.array(labels, np.int64))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers."""
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(_MAX_LINE_BYTES):
            number += 1
            if len(line) == _MAX_LINE_BYTES:
                raise DataError(f"{path}, line {number}, has more than {_MAX_LINE_BYTES:,} bytes.")
            if line := line.strip():
                yield number, line
