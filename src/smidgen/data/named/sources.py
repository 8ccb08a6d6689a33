"""Where a built-in set is: a given folder, SMIDGEN_DATA, the cache, the mirrors, in this order."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from smidgen._storage.cache import cache_folder
from smidgen.data.datasets import RawDataset, Split, TestSplit
from smidgen.data.idx import decompress
from smidgen.data.named.archives import read_tar_gz, read_zip
from smidgen.data.named.decode import Contents
from smidgen.data.named.download import Remote, download
from smidgen.errors import DataError

_SLACK_BYTES = 1 << 16  # a gzip file of what cannot be compressed is a little larger than that
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of its own, gzipped as the mirrors serve it."""

    name: str
    num_bytes: int
    """Of what it unpacks to."""
    packed: Remote
    sha256: str | None = None
    """Of what it unpacks to. Where it is not known, only the packed file can be checked, so an
    unpacked one is not taken."""

    def path_in(self, folder: Path) -> Path | None:
        """Its place in `folder`, unpacked (faster to load) or packed; None if not there."""
        names = [self.packed.name] if self.sha256 is None else [self.name, self.packed.name]
        return next((folder / name for name in names if (folder / name).is_file()), None)

    def read(self, path: Path, title: str, mirror: str) -> dict[str, bytes]:
        """What it unpacks to, checked."""
        limit = max(self.num_bytes, self.packed.num_bytes) + _SLACK_BYTES
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise DataError(f"{path} is larger than the {self.num_bytes:,} bytes of {self.name}.")
        if self.sha256 is None:
            digest = hashlib.sha256(content).hexdigest()
            _require_digest(digest, self.packed.sha256, path, title, mirror + self.packed.name)
        if path.name == self.packed.name:
            try:
                content = decompress(content, str(path), self.num_bytes)
            except DataError as error:
                digest = hashlib.sha256(content).hexdigest()
                raise DataError(
                    f"{error} The SHA-256 of the file is {digest} instead of "
                    f"{self.packed.sha256}. Delete it and get it again, from "
                    f"{mirror}{self.packed.name} for one."
                ) from None
        if self.sha256 is not None:
            digest = hashlib.sha256(content).hexdigest()
            _require_digest(digest, self.sha256, path, title, mirror + self.packed.name)
        return {self.name: content}


@dataclass(frozen=True, slots=True)
class Archive:
    """A .tar.gz or a .zip as the mirrors serve it; it is read where it lies."""

    packed: Remote
    members: Mapping[str, int]
    """What is read of it: bytes, exactly (.tar.gz) or at most (.zip), by name."""

    def path_in(self, folder: Path) -> Path | None:
        """Its place in `folder`; None if not there."""
        path = folder / self.packed.name
        return path if path.is_file() else None

    def read(self, path: Path, title: str, mirror: str) -> dict[str, bytes]:
        """The members' contents, once the whole archive has been checked."""
        with path.open("rb") as stream:
            digest = _digest_of(stream)
            _require_digest(digest, self.packed.sha256, path, title, mirror + self.packed.name)
            stream.seek(0)
            reader = read_zip if path.suffix == ".zip" else read_tar_gz
            return reader(stream, str(path), self.members)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltIn:
    """A published data set, and how its files become images and labels."""

    name: str
    title: str
    about: str
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: tuple[str, ...]
    num_train: int
    num_test: int
    files: tuple[SourceFile | Archive, ...]
    mirrors: tuple[str, ...]
    """Addresses that a file's name is appended to: the publisher's own."""
    folders: tuple[str, ...]
    """Names of its folder within a given one; the first is its name in the cache."""
    decode: Callable[[Contents], tuple[Split, TestSplit]]
    default_validation: int
    mean_and_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a check of one of a set's files found."""

    name: str
    path: Path | None
    """None where it is not there."""
    problem: str | None
    """None where its digest is the published one."""


def load_builtin(source: BuiltIn, folder: Path | None, patience: float) -> RawDataset:
    """The set from the first place that has it; `folder` is the one that was asked for, if any.

    Each file is checked by SHA-256 at every load.

    Raises:
        DataError: not where it was said to be, incomplete, altered, or nowhere to be had.
    """
    contents, words = read_builtin(source, folder, patience)
    train, test = source.decode(contents)
    return RawDataset(
        name=source.name,
        source=words,
        train=train,
        test=test,
        classes=source.classes,
        default_validation=source.default_validation,
        mean_and_std=source.mean_and_std,
    )


def read_builtin(
    source: BuiltIn, folder: Path | None, patience: float
) -> tuple[dict[str, bytes], str]:
    """What the set's files hold, checked, and where they came from in words; as load_builtin."""
    place, words = find(source, folder, patience)
    contents: dict[str, bytes] = {}
    for file in source.files:
        path = file.path_in(place)
        if path is None:
            raise DataError(f"{place / file.packed.name} was there a moment ago and is gone.")
        try:
            contents |= file.read(path, source.title, source.mirrors[0] if source.mirrors else "")
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return contents, words


def find(source: BuiltIn, folder: Path | None, patience: float) -> tuple[Path, str]:
    """The folder that has all files, downloaded if need be, and where they came from in words.

    A place that somebody named either has them or is an error: nothing is downloaded instead.

    Raises:
        DataError: not where it was said to be, incomplete, or nowhere to be had.
    """
    try:
        if folder is not None:
            place = _place_in(folder, "--data-dir", source)
            return place, f"the folder {place.resolve().name}"
        if named := os.environ.get("SMIDGEN_DATA"):
            place = _place_in(Path(named), "SMIDGEN_DATA", source)
            return place, f"the folder {place.resolve().name}"
        cache = cache_folder(source.folders[0])
        missing = _missing(cache, source)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    if not missing:
        return cache, f"the folder {cache.name}"
    hosts = download([file.packed for file in missing], cache, source.mirrors, patience=patience)
    return cache, f"downloaded from {' and '.join(hosts)}"


def verify(source: BuiltIn, folder: Path | None) -> list[Checked]:
    """Each file's state where the set is, or would be downloaded to; nothing is downloaded.

    Raises:
        DataError: a folder that was named lacks files.
    """
    named = folder or (Path(value) if (value := os.environ.get("SMIDGEN_DATA")) else None)
    said_by = "--data-dir" if folder else "SMIDGEN_DATA"
    place = _place_in(named, said_by, source) if named else cache_folder(source.folders[0])
    found = []
    for file in source.files:
        path, problem = file.path_in(place), None
        if path is None:
            problem = f"{place / file.packed.name} is not there; smidgen data get {source.name}"
        else:
            try:
                file.read(path, source.title, source.mirrors[0])
            except OSError as error:
                problem = f"{path} cannot be read: {error.strerror}."
            except DataError as error:
                problem = str(error)
        found.append(Checked(name=file.packed.name, path=path, problem=problem))
    return found


def _place_in(folder: Path, said_by: str, source: BuiltIn) -> Path:
    # Several sets have files of the same names: a folder of the set's own name goes first.
    places = (*(folder / name for name in source.folders), folder)
    for place in places:
        missing = _missing(place, source)
        if not missing:
            return place
        if len(missing) < len(source.files):
            raise DataError(
                f"{place} ({said_by}) lacks {_names(missing)} of {source.title}; put it there."
            )
    if not folder.is_dir():
        raise DataError(f"{said_by} is {folder}, which is no folder.")
    raise DataError(
        f"{said_by} is {folder}, where there is no {source.title}: it is to hold "
        f"{_names(source.files)}, directly or in {' or '.join(source.folders)}. Without {said_by}, "
        "smidgen downloads it."
    )


def _names(files: tuple[SourceFile | Archive, ...]) -> str:
    """Their names as one is asked for them: with or without .gz where both can be checked."""
    either = [file.name for file in files if isinstance(file, SourceFile) and file.sha256]
    packed = [f.packed.name for f in files if not (isinstance(f, SourceFile) and f.sha256)]
    parts = [", ".join(either) + " (each with or without .gz)"] if either else []
    return ", ".join(parts + packed)


def _missing(folder: Path, source: BuiltIn) -> tuple[SourceFile | Archive, ...]:
    return tuple(file for file in source.files if file.path_in(folder) is None)


def _require_digest(digest: str, wanted: str, path: Path, title: str, address: str) -> None:
    if digest != wanted:
        raise DataError(
            f"{path} is damaged or not {title}'s: the SHA-256 of its content is {digest} instead "
            f"of {wanted}. Delete it and get it again, from {address} for one."
        )


def _digest_of(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
