"""A custom data set: found by its path, split, decoded once, mapped from the cache.

It is an image folder, an .npz, a folder of IDX files or CSV files. Without a test split, a share of
each class becomes one. Classes alternate in the order of the training images, so that the last
ones, which become the validation split, hold each class's share.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from smidgen._storage.cache import cache_folder
from smidgen._storage.digests import sha256_of
from smidgen._storage.serialization import to_plain
from smidgen.config import Data
from smidgen.data.custom.arrays import array_files, stream_arrays
from smidgen.data.custom.cache import (
    CachedDataset,
    ImageStream,
    cached_shape,
    map_tensors,
    read_cache,
    write_cache,
)
from smidgen.data.custom.image_folder import common_shape, scan, stream_images
from smidgen.data.datasets import DatasetInfo, RawDataset, Split, TestSplit
from smidgen.errors import DataError

_FORMAT = 3  # of the cache: a new number makes every data set again


def open_custom(data: Data, *, skip_bad: bool) -> tuple[DatasetInfo, Callable[[], RawDataset]]:
    """Return the shapes of the data set at `data.path`, and a function that loads it.

    What is in the cache is not read again. Otherwise an image folder's names and headers are read
    now and its images decoded by the function; other formats are read now.

    Raises:
        DataError: the path holds nothing that can be read; an unreadable image, unless `skip_bad`,
            which leaves it out with a note; classes that make no sense; no space in the cache.
    """
    path = Path(str(data.path))
    try:
        if not path.exists():
            raise DataError(f"data.path is {path}, which does not exist.")
        files = array_files(path)
        if files is None and not path.is_dir():
            raise DataError(
                f"data.path is {path}; a file must be an .npz or a .csv, a folder must hold "
                "folders of images, IDX files or train.csv."
            )
        if files is not None:
            key = _digest_of_files(_stat(file) for file in files)
        else:
            listing = scan(path)
            key = _digest_of_files((f.name, f.num_bytes, f.mtime_ns) for f in listing.files)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    folder = _cache_folder(data, path)
    found: CachedDataset | ImageStream | None = read_cache(folder, key)
    if found is None:
        if files is None:
            shape = cached_shape(folder, key, lambda: common_shape(listing, data))
            found = stream_images(listing, data, shape)
        else:
            found = stream_arrays(path, files, data)

    def load() -> RawDataset:
        cached = found
        if isinstance(cached, ImageStream):
            cached = write_cache(folder, key, cached, skip_bad=skip_bad)
        if cached.skipped and not skip_bad:
            raise DataError(f"{path}{os.sep}{cached.skipped[0]}")
        return _raw_dataset(data, path, folder, cached)

    return DatasetInfo(found.image_shape, len(found.classes)), load


def _raw_dataset(data: Data, path: Path, folder: Path, cached: CachedDataset) -> RawDataset:
    images, labels = map_tensors(folder, cached)
    num_fit = cached.num_train + cached.num_validation
    is_default = data.validation in (None, cached.default_validation)
    return RawDataset(
        name=path.name or "data",
        source=f"the {'folder' if path.is_dir() else 'file'} {data.path}",
        train=Split(images[:num_fit], labels[:num_fit]),
        test=TestSplit(images[num_fit:], labels[num_fit:]),
        classes=cached.classes,
        default_validation=cached.default_validation,
        mean_and_std=cached.mean_and_std if is_default else None,
        sha256=cached.sha256,
        notes=cached.notes,
    )


def _cache_folder(data: Data, path: Path) -> Path:
    """One folder for each path and way to read it."""
    way = [_FORMAT, str(path.resolve()), data.size, data.grayscale, to_plain(data.split)]
    return cache_folder("custom", sha256_of(json.dumps(way).encode())[:20])


def _stat(file: Path) -> tuple[str, int, int]:
    status = file.stat()
    return file.name, status.st_size, status.st_mtime_ns


def _digest_of_files(files: Iterable[tuple[str, int, int]]) -> str:
    """Of names, sizes in bytes and modification times in nanoseconds."""
    lines = (f"{name}\0{num_bytes}\0{mtime_ns}\n" for name, num_bytes, mtime_ns in files)
    return sha256_of("".join(lines).encode(errors="surrogateescape"))
