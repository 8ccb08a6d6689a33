"""A person's own data set: found by its path, split, decoded once, kept, mapped.

An image folder (train/CLASS, val/CLASS, test/CLASS, or CLASS alone), an .npz, a folder of IDX
files, a CSV. Where there is no test part, a share of each class becomes it. The order of images is
drawn from names and a seed, so that it is the same on every machine and an image that is added
moves few others; classes alternate in it, so that the last ones, which are set aside to choose by,
hold each class's share.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smidgen._storage.cache import cache_folder
from smidgen._storage.files import write_atomic
from smidgen._storage.serialization import to_plain
from smidgen.config import Data
from smidgen.data.custom.arrays import Arrays, Pixels, array_files, read_arrays
from smidgen.data.custom.cache import (
    Draft,
    Stored,
    open_stored,
    read_json,
    read_stored,
    statistics,
    stored,
)
from smidgen.data.custom.image_folder import Listing, Picture, scan
from smidgen.data.datasets import DatasetInfo, RawDataset, Split, TestSplit
from smidgen.data.images import Look, Shape, fit, in_parallel, load_image, look, most_common
from smidgen.errors import DataError, SmidgenError

_FORMAT = 1  # of what is stored: a change makes everything again
_USUAL_VALIDATION = 6  # a sixth of the training images, as of MNIST's


def describe_own(data: Data) -> DatasetInfo:
    """Shape and number of classes of the set at `data.path`.

    Of an image folder, names are listed and, where neither size nor colour are said, headers are
    read; other formats are read whole, and kept. Either happens once.

    Raises:
        DataError: as load_own, but for a picture whose header is sound.
    """
    path = _path(data)
    files = _array_files(path)
    if files is not None:
        found = _arrays(data, path, files)
        return DatasetInfo(found.image_shape, len(found.classes))
    listing = scan(path)
    kept = read_stored(_place(data, path), _digest(listing))
    if kept is not None:
        return DatasetInfo(kept.image_shape, len(kept.classes))
    return DatasetInfo(_shape(data, listing), len(listing.classes))


def load_own(data: Data, *, skip_bad: bool) -> RawDataset:
    """The set at `data.path`, its images mapped from the cache folder.

    Raises:
        DataError: it is not there or in no known form, something in it is unreadable (pictures are
            skipped and noted instead if `skip_bad`), classes do not make sense, no space.
    """
    path = _path(data)
    place, files = _place(data, path), _array_files(path)
    found = _arrays(data, path, files) if files is not None else _pictures(data, path, skip_bad)
    if found.skipped and not skip_bad:
        raise DataError(found.skipped[0])
    images, labels = open_stored(place, found)
    count = found.num_train + found.num_validation
    usual = found.num_validation or max(1, count // _USUAL_VALIDATION)
    aside = usual if data.validation is None else data.validation
    return RawDataset(
        name=path.name or "data",
        source=f"the {'folder' if path.is_dir() else 'file'} {data.path}",
        train=Split(images[:count], labels[:count]),
        test=TestSplit(images[count:], labels[count:]),
        classes=found.classes,
        default_validation=usual,
        mean_and_std=statistics(place, found, images[: count - aside]) if aside < count else None,
        sha256=found.sha256,
        notes=found.notes,
    )


def _pictures(data: Data, path: Path, skip_bad: bool) -> Stored:
    listing = scan(path)
    place, digest = _place(data, path), _digest(listing)
    return stored(place, digest, lambda: _drawn(data, listing), skip_bad=skip_bad)


def _drawn(data: Data, listing: Listing) -> Draft:
    """The folder's pictures in their order, yet to be decoded."""
    shape = _shape(data, listing)
    train, validation, test = (
        [picture for picture in listing.pictures if picture.part == part]
        for part in ("train", "val", "test")
    )
    if not test:
        train, test = _split_pictures(train, data)
    ordered = [*_alternating(train, data), *_alternating(validation, data), *test]

    def rows() -> Iterator[Sequence[NDArray[np.uint8] | DataError]]:
        paths = [listing.root / picture.name for picture in ordered]
        return in_parallel(lambda picture: load_image(picture, shape), paths, "decoding pictures")

    return Draft(
        classes=listing.classes,
        shape=shape,
        names=[picture.name for picture in ordered],
        labels=np.array([picture.label for picture in ordered], np.int64),
        num_train=len(train),
        num_validation=len(validation),
        rows=rows,
        notes=listing.notes,
    )


def _split_pictures(pictures: list[Picture], data: Data) -> tuple[list[Picture], list[Picture]]:
    labels = np.array([picture.label for picture in pictures], np.int64)
    train, test = split(labels, [picture.name for picture in pictures], data)
    return [pictures[i] for i in train], [pictures[i] for i in test]


def _alternating(pictures: list[Picture], data: Data) -> list[Picture]:
    labels = np.array([picture.label for picture in pictures], np.int64)
    order = alternating(labels, [picture.name for picture in pictures], data.split.seed)
    return [pictures[i] for i in order]


def _shape(data: Data, listing: Listing) -> Shape:
    """What all pictures become: as the experiment says, otherwise by their headers, read once."""
    if data.size is not None and data.grayscale is not None:
        return (1 if data.grayscale else 3), data.size, data.size
    cached = _place(data, listing.root) / "survey.json"
    digest = _digest(listing)
    survey = read_json(cached, _Survey)
    if survey is None or survey.listing != digest:
        paths = [listing.root / picture.name for picture in listing.pictures]
        found = [r for batch in in_parallel(look, paths, "looking at pictures") for r in batch]
        looks = [result for result in found if isinstance(result, Look)]
        if not looks:
            raise next(result for result in found if isinstance(result, DataError))
        height, width = most_common(looks)
        survey = _Survey(
            listing=digest, height=height, width=width, colour=any(look.colour for look in looks)
        )
        _keep(cached, survey)
    colour = survey.colour if data.grayscale is None else not data.grayscale
    size = (survey.height, survey.width) if data.size is None else (data.size, data.size)
    return (3 if colour else 1), *size


@dataclass(frozen=True, kw_only=True, slots=True)
class _Survey:
    """What the headers of a folder's pictures say."""

    listing: str
    height: int
    width: int
    colour: bool


def _keep(path: Path, survey: _Survey) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(to_plain(survey)) + "\n")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error
    except SmidgenError as error:
        raise DataError(str(error)) from error


def _arrays(data: Data, path: Path, files: list[Path]) -> Stored:
    place = _place(data, path)
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return stored(
        place,
        digest.hexdigest(),
        lambda: _drafted(read_arrays(files), path, data),
        skip_bad=False,
    )


def _drafted(arrays: Arrays, path: Path, data: Data) -> Draft:
    values = np.unique(arrays.train.labels)
    if len(values) < 2:
        raise DataError(f"{path} has only the label {values[0]}; it needs two classes or more.")
    train, test, notes = arrays.train, arrays.test, arrays.notes
    if test is None:
        learn, score = split(train.labels, [str(i) for i in range(len(train.labels))], data)
        names = [f"image {i} of {path.name}" for i in [*learn, *score]]
        test = Pixels(train.images[score], train.labels[score])
        train = Pixels(train.images[learn], train.labels[learn])
    else:
        names = [f"training image {i} of {path.name}" for i in range(len(train.labels))]
        names += [f"test image {i} of {path.name}" for i in range(len(test.labels))]
    unknown = np.setdiff1d(test.labels, values)
    if len(unknown):
        raise DataError(f"{path}: the test part has the label {unknown[0]}; training has not.")
    absent = np.setdiff1d(values, test.labels)
    if len(absent):
        notes = (*notes, f"the test part has no image of the label {absent[0]}.")
    if train.images.shape[1:] != test.images.shape[1:] and data.size is None:
        raise DataError(
            f"{path}: training images are {train.images.shape[1:]} and test images "
            f"{test.images.shape[1:]} (height, width, channels); data.size makes them one size."
        )
    order = alternating(train.labels, names[: len(train.labels)], data.split.seed)
    _, height, width, channels = train.images.shape
    if data.grayscale is not None:
        channels = 1 if data.grayscale else 3
    if data.size is not None:
        height = width = data.size
    shape = (channels, height, width)

    def rows() -> Iterator[Sequence[NDArray[np.uint8] | DataError]]:
        for pixels, places in ((train, order), (test, np.arange(len(test.labels)))):
            yield from ([_fitted(pixels.images[place], shape)] for place in places)

    return Draft(
        classes=tuple(str(value) for value in values),
        shape=shape,
        names=[names[i] for i in order] + names[len(order) :],
        labels=np.searchsorted(values, np.concatenate([train.labels[order], test.labels])),
        num_train=len(order),
        num_validation=0,
        rows=rows,
        notes=notes,
    )


def _fitted(image: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """An image (height, width, channels) as `shape` wants it."""
    channels, height, width = shape
    if image.shape == (height, width, channels):
        return image.transpose(2, 0, 1)
    return fit(
        Image.fromarray(np.ascontiguousarray(image.squeeze(2) if image.shape[2] == 1 else image)),
        shape,
    )


def split(
    labels: NDArray[np.int64], names: Sequence[str], data: Data
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of training and of test images: `data.split.test` of each class is the latter.

    At least one image of each class is in either, but that of a class of one image is trained on.

    Raises:
        DataError: no class has two images.
    """
    order, ranks, counts = _ranked(labels, names, data.split.seed)
    wanted = np.maximum(np.round(counts * data.split.test), 1).clip(max=counts - 1)
    chosen = ranks < wanted
    if not chosen.any():
        raise DataError(f"{data.path} has one image of each class, so none can be tested on.")
    return np.sort(order[~chosen]), np.sort(order[chosen])


def alternating(labels: NDArray[np.int64], names: Sequence[str], seed: int) -> NDArray[np.int64]:
    """All places, shuffled, so that any stretch of them holds each class's share.

    >>> alternating(np.array([0, 0, 0, 0, 1, 1]), list("abcdef"), seed=0) // 4
    array([0, 1, 0, 0, 1, 0])
    """
    order, ranks, counts = _ranked(labels, names, seed)
    return order[np.lexsort((labels[order], (ranks + 0.5) / counts))]


def _ranked(
    labels: NDArray[np.int64], names: Sequence[str], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Places by class, shuffled within it; each one's rank in its class; the class's images."""
    draws = [hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest() for name in names]
    keys = np.frombuffer(b"".join(draws), ">u8").astype(np.uint64)
    order = np.lexsort((keys, labels))
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ranks = np.arange(len(order)) - np.repeat(starts, counts)
    return order, ranks, np.repeat(counts, counts)


def _path(data: Data) -> Path:
    assert data.path is not None  # a Data has a name or a path
    path = Path(data.path)
    if not path.exists():
        raise DataError(f"data.path is {path}, where there is nothing.")
    return path


def _array_files(path: Path) -> list[Path] | None:
    try:
        files = array_files(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if files is None and not path.is_dir():
        raise DataError(
            f"data.path is {path}; a file must be an .npz or a .csv, a folder must hold folders of "
            "pictures, IDX files or train.csv."
        )
    return files


def _place(data: Data, path: Path) -> Path:
    """The set's place in the cache: one for each path and way to read it."""
    way: list[Any] = [_FORMAT, str(path.resolve()), data.size, data.grayscale, to_plain(data.split)]
    return cache_folder("own", hashlib.sha256(json.dumps(way).encode()).hexdigest()[:20])


def _digest(listing: Listing) -> str:
    digest = hashlib.sha256()
    for picture in listing.pictures:
        line = f"{picture.name}\0{picture.num_bytes}\0{picture.mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
