"""A folder of pictures in folders of classes: what is in it, before any of it is read."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from smidgen.data.images import SUFFIXES
from smidgen.errors import DataError

SplitName = Literal["train", "val", "test"]
PARTS: tuple[SplitName, ...] = ("train", "val", "test")


class Picture(NamedTuple):  # there may be millions, and a frozen dataclass is slow to make
    """A file, by what its place says of it."""

    name: str
    """From the data set's folder on, with slashes."""
    part: SplitName
    label: int
    num_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder's pictures, ordered by part, class and name."""

    root: Path
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]
    """A sentence on files that were left alone, if there are any."""


def scan(root: Path) -> Listing:
    """What stands in train/CLASS, val/CLASS and test/CLASS, or in CLASS alone (all of it train).

    Names that begin with a dot are left alone; files that are no pictures by their names too, with
    a note.

    Raises:
        DataError: no class or one only, a class without a picture, classes that differ between the
            parts, a folder within a class, a link that leaves the folder, what cannot be read.
    """
    try:
        resolved = root.resolve()
        parts = [part for part in PARTS if (root / part).is_dir()]
        if "train" not in parts:
            if parts:
                raise DataError(f"{root} has {' and '.join(parts)}, but no train.")
            return _listing(root, [*_part(root, resolved, "train", "")])
        return _listing(
            root, [found for part in parts for found in _part(root, resolved, part, f"{part}/")]
        )
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error


_Found = tuple[SplitName, str, list[tuple[str, os.stat_result]], list[str]]


def _part(root: Path, resolved: Path, part: SplitName, prefix: str) -> Iterator[_Found]:
    """Each class of a part in the order of their names, with its pictures and its other files."""
    place = root / prefix
    if prefix:
        _require_inside(place, resolved)
    for folder in sorted(_entries(place, resolved), key=lambda entry: entry.name):
        if not folder.is_dir():
            continue
        pictures, others = [], []
        for entry in _entries(Path(folder.path), resolved):
            name = f"{prefix}{folder.name}/{entry.name}"
            if entry.is_dir():
                raise DataError(
                    f"{root / name} is a folder within a class; pictures stand directly in it."
                )
            if entry.name.lower().endswith(SUFFIXES):
                if not entry.is_file():  # opening a pipe would wait for ever
                    raise DataError(f"{root / name} is no file; put the picture itself there.")
                pictures.append((name, entry.stat()))
            else:
                others.append(name)
        yield part, folder.name, sorted(pictures, key=lambda pair: pair[0]), sorted(others)


def _entries(folder: Path, resolved: Path) -> Iterator[os.DirEntry[str]]:
    """What is in the folder but hidden names; links are followed where they stay inside."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                _require_inside(Path(entry.path), resolved)
            yield entry


def _require_inside(path: Path, resolved: Path) -> None:
    if not path.is_symlink():
        return
    try:
        inside = path.resolve().is_relative_to(resolved)
    except RuntimeError:  # a loop, before Python 3.13
        raise DataError(f"{path} is a link that leads to itself.") from None
    if not inside:
        raise DataError(f"{path} is a link that leaves {resolved}; put the picture itself there.")


def _listing(root: Path, found: list[_Found]) -> Listing:
    names = {part: [name for p, name, _, _ in found if p == part] for part, *_ in found}
    classes = tuple(names.get("train", ()))
    if len(classes) < 2:
        what = f"only the class {classes[0]}" if classes else "no class"
        raise DataError(
            f"{root} has {what}; it is to hold a folder of pictures for each of two classes or "
            "more, in train (with or without val and test beside it) or directly."
        )
    for part, there in names.items():
        differing = sorted({*classes} ^ {*there})
        if differing:
            raise DataError(
                f"{root / part} and {root / 'train'} differ in their classes: {differing[0]} is "
                "only in one of them."
            )
    for part, name, pictures, _ in found:
        if not pictures:
            place = root / (name if root.joinpath(name).is_dir() else f"{part}/{name}")
            raise DataError(f"{place} has no picture; a class needs at least one.")
    others = [name for *_, rest in found for name in rest]
    notes: tuple[str, ...] = ()
    if others:
        notes = (f"{len(others):,} files that are no pictures were left alone, as {others[0]}.",)
    return Listing(
        root=root,
        classes=classes,
        pictures=tuple(
            Picture(name, part, place, stat.st_size, stat.st_mtime_ns)
            for part, label, pictures, _ in found
            for place in [classes.index(label)]
            for name, stat in pictures
        ),
        notes=notes,
    )
