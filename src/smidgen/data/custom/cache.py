"""Custom images, decoded once into one memory-mapped array in the user's cache folder.

A data set's folder holds images.npy and labels.npy (train, validation, test, in this order) and,
written last, dataset.json: which files they were made from, and what is known about them. If any of
it is missing, damaged or made from other files, all of it is made again.
"""

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from smidgen._storage.digests import sha256_of
from smidgen._storage.files import make_folder, remove_partial_files, write_atomic
from smidgen._storage.locks import locked
from smidgen._storage.serialization import from_plain, to_plain
from smidgen.data.datasets import channel_statistics, default_validation_size, sha256_of_tensors
from smidgen.data.images import Shape
from smidgen.errors import DataError
from smidgen.formatting import counted

_IMAGES, _LABELS, _DATASET = "images.npy", "labels.npy", "dataset.json"
_LISTED = 20  # skipped images that a note names
T = TypeVar("T")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ImageStream:
    """A data set's images in the order of the cache, to be decoded batch by batch."""

    classes: tuple[str, ...]
    image_shape: Shape
    names: Sequence[str]
    """Of the images, for messages: train, validation, test, in this order."""
    labels: NDArray[np.int64]
    num_train: int
    num_validation: int
    batches: Callable[[], Iterator[Sequence[Pixels | DataError]]]
    """Decodes the images in the order of `names`; an error takes the place of an unreadable one."""
    root: Path = Path()
    """The folder that the names start from. Notes leave it out: it can be written in many ways."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedDataset:
    """The content of dataset.json."""

    files_sha256: str
    """Of the names, sizes and modification times of the files it was made from."""
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    num_train: int
    num_validation: int
    num_test: int
    sha256: str
    """As in smidgen.data.Dataset."""
    default_validation: int
    mean_and_std: tuple[tuple[float, ...], tuple[float, ...]]
    """By channel, of the training images without the default validation split."""
    labels_sha256: str
    images_bytes: int
    images_mtime_ns: int
    """Of images.npy: if either differs, the file was changed since."""
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = field(default=())
    """Why each image that is missing could not be read; begins with its path in the folder."""


def read_cache(folder: Path, files_sha256: str) -> CachedDataset | None:
    """The data set cached in `folder`; None if it is damaged or was made from other files."""
    cached = _read_json(folder / _DATASET, CachedDataset)
    if cached is None or cached.files_sha256 != files_sha256:
        return None
    try:
        status = (folder / _IMAGES).stat()
        if (status.st_size, status.st_mtime_ns) != (cached.images_bytes, cached.images_mtime_ns):
            return None
        map_tensors(folder, cached)
    except (OSError, ValueError, EOFError):
        return None
    return cached


def map_tensors(folder: Path, cached: CachedDataset) -> tuple[Tensor, Tensor]:
    """Images and labels of all splits; images are read from disk when they are used.

    Raises:
        OSError, ValueError, EOFError: the files are not those that `cached` describes.
    """
    # Copy on write: torch needs writable memory, and the file must stay as it is.
    images = np.load(folder / _IMAGES, mmap_mode="c", allow_pickle=False)
    labels = np.load(folder / _LABELS, allow_pickle=False)
    count = cached.num_train + cached.num_validation + cached.num_test
    if images.shape != (count, *cached.image_shape) or images.dtype != np.uint8:
        raise ValueError(f"{_IMAGES} has another shape")
    if labels.dtype != np.int64 or sha256_of(labels.data) != cached.labels_sha256:
        raise ValueError(f"{_LABELS} has other labels")
    return from_numpy(images), from_numpy(labels)


def write_cache(
    folder: Path, files_sha256: str, stream: ImageStream, *, skip_bad: bool
) -> CachedDataset:
    """Decode the images of `stream` into `folder`, unless another process did so meanwhile.

    If several processes start on one data set, the first decodes and the others wait for it.

    Raises:
        DataError: an unreadable image, unless `skip_bad`; a class without a readable training
            image; the folder cannot be written to.
    """
    try:
        with locked(make_folder(folder), wait=True) as exclusive:
            cached = read_cache(folder, files_sha256)
            if cached is None:
                if exclusive:
                    remove_partial_files(folder)
                cached = _write(folder, files_sha256, stream, skip_bad)
            return cached
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written to: {error.strerror or error}. XDG_CACHE_HOME can name "
            "another place for the cache."
        ) from error


def _write(folder: Path, files_sha256: str, stream: ImageStream, skip_bad: bool) -> CachedDataset:
    partial = folder / f".{_IMAGES}.{os.getpid()}.part"
    try:
        with partial.open("w+b") as file:
            written = _write_images(file, stream, skip_bad)
        readable = np.array(written.readable, np.int64)
        num_train = int((readable < stream.num_train).sum())
        num_fit = int((readable < stream.num_train + stream.num_validation).sum())
        labels = stream.labels[readable]
        _require_every_class(stream.classes, labels, num_fit, written.skipped)
        (folder / _DATASET).unlink(missing_ok=True)  # until it is written again, nothing is cached
        partial.replace(folder / _IMAGES)
    finally:
        partial.unlink(missing_ok=True)
    saved = io.BytesIO()
    np.save(saved, labels)
    write_atomic(folder / _LABELS, saved.getvalue())
    images = from_numpy(np.load(folder / _IMAGES, mmap_mode="c"))
    status = (folder / _IMAGES).stat()
    default_validation = num_fit - num_train or default_validation_size(num_fit)
    cached = CachedDataset(
        files_sha256=files_sha256,
        classes=stream.classes,
        image_shape=stream.image_shape,
        num_train=num_train,
        num_validation=num_fit - num_train,
        num_test=len(readable) - num_fit,
        sha256=sha256_of_tensors(
            *(images[:num_fit], from_numpy(labels[:num_fit])),
            *(images[num_fit:], from_numpy(labels[num_fit:])),
        ),
        default_validation=default_validation,
        mean_and_std=channel_statistics(images[: num_fit - default_validation]),
        labels_sha256=sha256_of(labels.data),
        images_bytes=status.st_size,
        images_mtime_ns=status.st_mtime_ns,
        notes=(*stream.notes, *written.notes(stream.names)),
        skipped=tuple(written.skipped),
    )
    _write_json(folder / _DATASET, cached)
    return cached


@dataclass(slots=True)
class _Written:
    """What is known once all images have been decoded."""

    readable: list[int] = field(default_factory=list)
    """Places in the stream of the images that could be read."""
    skipped: list[str] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    """Places of a test image and of the training image that has the same pixels."""

    def notes(self, names: Sequence[str]) -> Iterator[str]:
        if self.skipped:
            more = len(self.skipped) - _LISTED
            rest = f" And {more:,} more." if more > 0 else ""
            listed = " ".join(self.skipped[:_LISTED])
            count = len(self.skipped)
            were = "was" if count == 1 else "were"
            yield f"{counted(count, 'image')} {were} skipped. {listed}{rest}"
        if self.duplicates:
            test, train = self.duplicates[0]
            count = len(self.duplicates)
            yield (
                f"{count:,} test image{'s are' if count > 1 else ' is'} among the training images "
                f"too, such as {names[test]}, which is the same as {names[train]}: the test "
                "accuracy is too high by what was learned from them."
            )


def _write_images(file: BinaryIO, stream: ImageStream, skip_bad: bool) -> _Written:
    """Write images.npy with plain writes: a full disk is then an error, not a crash."""
    written, seen = _Written(), dict[bytes, int]()
    _write_header(file, len(stream.names), stream.image_shape)
    begin, num_fit = file.tell(), stream.num_train + stream.num_validation
    for place, image in enumerate(chain.from_iterable(stream.batches())):
        if isinstance(image, DataError):
            if not skip_bad:
                raise image
            written.skipped.append(str(image).removeprefix(f"{stream.root}{os.sep}"))
            continue
        content = image.tobytes()
        file.write(content)
        written.readable.append(place)
        digest = blake2b(content, digest_size=16).digest()
        if place < num_fit:
            seen.setdefault(digest, place)
        elif digest in seen:
            written.duplicates.append((place, seen[digest]))
    file.seek(0)
    _write_header(file, len(written.readable), stream.image_shape)
    assert file.tell() == begin  # numpy pads the header so that the number of images may change
    file.flush()
    os.fsync(file.fileno())
    return written


def _write_header(file: BinaryIO, count: int, image_shape: Shape) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *image_shape)}
    npy.write_array_header_1_0(file, header)


def _require_every_class(
    classes: tuple[str, ...], labels: NDArray[np.int64], num_fit: int, skipped: list[str]
) -> None:
    missing = set(range(len(classes))) - set(labels[:num_fit].tolist())
    if missing or num_fit == len(labels):
        what = f"image of {classes[min(missing)]}" if missing else "test image"
        reason = f": {skipped[0]}" if skipped else "."
        raise DataError(f"no readable {what} is left{reason}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _CommonShape:
    files_sha256: str
    shape: tuple[int, int, int]


def cached_shape(folder: Path, files_sha256: str, find: Callable[[], Shape]) -> Shape:
    """The common shape of the files, which `find` returns if it is not in the cache.

    So the headers of a large folder are read once, even if its images are not decoded yet.
    """
    path = folder / "shape.json"
    with locked(make_folder(folder), wait=True):
        known = _read_json(path, _CommonShape)
        if known is None or known.files_sha256 != files_sha256:
            known = _CommonShape(files_sha256=files_sha256, shape=find())
            _write_json(path, known)
        return known.shape


def _read_json(path: Path, kind: type[T]) -> T | None:
    """The `kind` that the file at `path` holds; None if it is missing or damaged."""
    try:
        return from_plain(kind, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def _write_json(path: Path, value: object) -> None:
    write_atomic(path, json.dumps(to_plain(value), indent=1) + "\n")
