"""Image folders: train/CLASS/*.png, with or without val/ and test/, or CLASS/*.png alone."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smidgen.config import Data
from smidgen.data.custom.cache import ImageStream
from smidgen.data.custom.splits import interleave_classes, stratified_split
from smidgen.data.images import (
    SUFFIXES,
    ImageHeader,
    Shape,
    in_parallel,
    load_image,
    most_common_size,
    read_header,
)
from smidgen.errors import DataError
from smidgen.formatting import counted

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class ImageFile(NamedTuple):  # there may be millions, and a frozen dataclass is slow to make
    """An image file, before it is opened."""

    name: str
    """Its path from the data set's folder, with slashes."""
    split: SplitName
    label: int
    num_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The image files of a folder, ordered by split, class and name."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    notes: tuple[str, ...]
    """A sentence on the files that are ignored, if there are any."""


def scan(root: Path) -> ImageFolder:
    """List the image files in `root`; without a folder train, its folders are classes to train on.

    Names that begin with a dot are ignored, and so are files without the suffix of an image.

    Raises:
        DataError: fewer than two classes, a class without an image, classes that differ between
            the splits, a folder within a class, a link that leaves `root`.
        OSError: a folder cannot be read.
    """
    inside = root.resolve()
    splits = [split for split in SPLITS if (root / split).is_dir()]
    if splits and "train" not in splits:
        raise DataError(f"{root} has {' and '.join(splits)}, but no train.")
    classes: tuple[str, ...] = ()
    files: list[ImageFile] = []
    ignored: list[str] = []
    for split in splits or SPLITS[:1]:
        prefix = f"{split}/" if splits else ""
        _require_inside(root / prefix, inside)
        found = tuple(entry.name for entry in _entries(root / prefix, inside) if entry.is_dir())
        classes = classes or found
        _require_classes(root / prefix, classes, found)
        for label, name in enumerate(classes):
            images = 0
            for entry in _entries(root / prefix / name, inside):
                place = f"{prefix}{name}/{entry.name}"
                if entry.is_dir():
                    raise DataError(
                        f"{root / place} is a folder inside a class; put its images directly into "
                        "the class's folder."
                    )
                if not entry.name.lower().endswith(SUFFIXES):
                    ignored.append(place)
                    continue
                if not entry.is_file():  # opening a pipe would wait forever
                    raise DataError(f"{root / place} is not a regular file; put the image there.")
                status = entry.stat()
                files.append(ImageFile(place, split, label, status.st_size, status.st_mtime_ns))
                images += 1
            if not images:
                raise DataError(f"{root / prefix / name} has no image; a class needs at least one.")
    notes = (
        (f"Ignored {counted(len(ignored), 'other file')}, such as {ignored[0]}.",)
        if ignored
        else ()
    )
    return ImageFolder(root=root, classes=classes, files=tuple(files), notes=notes)


def _require_classes(folder: Path, classes: tuple[str, ...], found: tuple[str, ...]) -> None:
    if len(classes) < 2:
        what = f"only the class {classes[0]}" if classes else "no class"
        raise DataError(
            f"{folder} has {what}; a data set must have a folder of images for each of at least "
            "two classes, either directly or in train (with or without val and test)."
        )
    if differing := sorted({*classes} ^ {*found}):
        raise DataError(
            f"{folder} and {folder.parent / 'train'} differ in their classes: only one of them "
            f"has {differing[0]}."
        )


def _entries(folder: Path, inside: Path) -> list[os.DirEntry[str]]:
    """The entries of `folder` by name, except hidden ones; links may not leave `inside`."""
    with os.scandir(folder) as entries:
        found = sorted((e for e in entries if e.name[0] != "."), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_symlink():
            _require_inside(Path(entry.path), inside)
    return found


def _require_inside(path: Path, inside: Path) -> None:
    if not path.is_symlink():
        return
    try:
        resolved = path.resolve()
    except RuntimeError:  # a loop, before Python 3.13
        raise DataError(f"{path} is a link that leads to itself.") from None
    if not resolved.is_relative_to(inside):
        raise DataError(f"{path} is a link that leaves {inside}; put the image itself there.")


def stream_images(folder: ImageFolder, data: Data, shape: Shape) -> ImageStream:
    """The folder's images in the order of the cache, each in `shape`.

    Raises:
        DataError: without a test split, no class has an image to test on.
    """
    train, validation, test = (
        [file for file in folder.files if file.split == split] for split in SPLITS
    )
    if not test:
        try:
            chosen = stratified_split(*_keys(train), data.split.test, data.split.seed)
        except DataError as error:
            raise DataError(f"{folder.root}: {error}") from None
        train, test = ([train[i] for i in indices] for indices in chosen)
    ordered = [*_interleave(train, data), *_interleave(validation, data), *test]

    def batches() -> Iterator[Sequence[NDArray[np.uint8] | DataError]]:
        paths = [folder.root / file.name for file in ordered]
        return in_parallel(lambda path: load_image(path, shape), paths, "decoding images")

    labels, names = _keys(ordered)
    return ImageStream(
        classes=folder.classes,
        image_shape=shape,
        names=names,
        labels=labels,
        num_train=len(train),
        num_validation=len(validation),
        batches=batches,
        root=folder.root,
        notes=folder.notes,
    )


def _keys(files: Sequence[ImageFile]) -> tuple[NDArray[np.int64], list[str]]:
    return np.array([file.label for file in files], np.int64), [file.name for file in files]


def _interleave(files: list[ImageFile], data: Data) -> list[ImageFile]:
    return [files[i] for i in interleave_classes(*_keys(files), data.split.seed)]


def common_shape(folder: ImageFolder, data: Data) -> Shape:
    """The shape of all images: as `data` says, otherwise by their headers the most common one.

    Raises:
        DataError: no image has a readable header.
    """
    if data.size is not None and data.grayscale is not None:
        return (1 if data.grayscale else 3), data.size, data.size
    paths = [folder.root / file.name for file in folder.files]
    results = [r for batch in in_parallel(read_header, paths, "reading headers") for r in batch]
    headers = [result for result in results if isinstance(result, ImageHeader)]
    if not headers:
        raise next(result for result in results if isinstance(result, DataError))
    color = (
        any(header.color for header in headers) if data.grayscale is None else not data.grayscale
    )
    height, width = (data.size, data.size) if data.size else most_common_size(headers)
    return (3 if color else 1), height, width
