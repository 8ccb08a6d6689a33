"""The files of a named data set: in a given folder, in SMIDGEN_DATA, in the cache, on mirrors."""

import gzip
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smidgen._storage.cache import cache_folder
from smidgen._storage.digests import sha256_of_file
from smidgen.data.datasets import DatasetInfo, RawDataset, Split, TestSplit
from smidgen.data.images import Shape
from smidgen.data.named.download import RemoteFile, download
from smidgen.errors import DataError

Contents = Mapping[str, bytes]
"""The unpacked contents of a data set's files, by name."""


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """A gzip file, .tar.gz or .zip as the mirrors serve it."""

    remote: RemoteFile
    members: tuple[str, ...] = ()
    """Of an archive: the files in it that are needed."""
    unpacked_sha256: str | None = None
    """Of what a gzip file unpacks to, where it is known: then an unpacked file will do, too."""

    @property
    def unpacked_name(self) -> str | None:
        """The name of an unpacked file that will do; None if it could not be verified."""
        return self.remote.name.removesuffix(".gz") if self.unpacked_sha256 else None

    def path_in(self, folder: Path) -> Path | None:
        """Its path in `folder`, unpacked if possible, which is faster to load; None if missing."""
        names = (self.unpacked_name, self.remote.name)
        return next((folder / name for name in names if name and (folder / name).is_file()), None)

    def verify(self, path: Path, title: str, mirror: str) -> None:
        """Compare the digest of the file at `path` with the published one.

        Raises:
            DataError: they differ.
            OSError: it cannot be read.
        """
        packed = path.name == self.remote.name
        expected, found = (
            self.remote.sha256 if packed else self.unpacked_sha256,
            sha256_of_file(path),
        )
        if found != expected:
            raise DataError(
                f"{path} is damaged or not a file of {title}: its SHA-256 is {found} instead of "
                f"{expected}. Delete it and download it again, for example from "
                f"{mirror}{self.remote.name}."
            )

    def read(self, path: Path) -> dict[str, bytes]:
        """Unpack the verified file at `path`; contents by name."""
        if path.name == self.unpacked_name:
            return {path.name: path.read_bytes()}
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return {name: archive.read(name) for name in self.members}
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as tar:  # in its order: going back would unpack it again
                found = {m.name: tar.extractfile(m) for m in tar if m.name in self.members}
                return {name: file.read() for name, file in found.items() if file}
        return {path.name.removesuffix(".gz"): gzip.decompress(path.read_bytes())}


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogEntry:
    """A published data set, and how its files become images and labels."""

    name: str
    title: str
    about: str
    classes: tuple[str, ...]
    files: tuple[DatasetFile, ...]
    """Empty if the data set comes with scikit-learn."""
    mirrors: tuple[str, ...]
    """The publisher's addresses, to which a file's name is appended."""
    folders: tuple[str, ...]
    """Names of its folder within a given one; the first is its name in the cache."""
    decode: Callable[[Contents], tuple[Split, TestSplit]]
    image_shape: Shape = (1, 28, 28)
    num_train: int = 60_000
    num_test: int = 10_000
    default_validation: int = 10_000
    mean_and_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    handwriting: bool = False
    """Whether the strokes of each image are scaled and centered in the frame, as MNIST's are."""

    @property
    def info(self) -> DatasetInfo:
        """The shapes that a network must fit."""
        return DatasetInfo(self.image_shape, len(self.classes))


def load_named(entry: CatalogEntry, data_dir: Path | None, timeout: float) -> RawDataset:
    """Load the data set from the first place that has it; `data_dir` is the only one if given.

    Each file is verified by SHA-256 at every load.

    Raises:
        DataError: a given folder lacks files; altered files; a failed download.
    """
    contents, source = read_named(entry, data_dir, timeout)
    train, test = entry.decode(contents)
    return RawDataset(
        name=entry.name,
        source=source,
        train=train,
        test=test,
        classes=entry.classes,
        default_validation=entry.default_validation,
        mean_and_std=entry.mean_and_std,
    )


def read_named(
    entry: CatalogEntry, data_dir: Path | None, timeout: float
) -> tuple[dict[str, bytes], str]:
    """The verified contents of the data set's files, and where they came from, in words.

    Raises:
        DataError: as load_named.
    """
    if not entry.files:
        return {}, "embedded in scikit-learn"
    folder = _find_folder(entry, data_dir)
    source = f"the folder {folder.resolve().name}"
    if missing := _missing(entry, folder):
        hosts = download([f.remote for f in missing], folder, entry.mirrors, timeout=timeout)
        source = f"downloaded from {' and '.join(hosts)}"
    contents: dict[str, bytes] = {}
    for file in entry.files:
        path = file.path_in(folder) or folder / file.remote.name
        try:
            file.verify(path, entry.title, entry.mirrors[0])
            contents |= file.read(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return contents, source


def verify(entry: CatalogEntry, data_dir: Path | None) -> dict[Path, str | None]:
    """Verify the data set's files; map their paths to what is wrong, None if nothing is.

    Raises:
        DataError: a given folder lacks files.
    """
    if not entry.files:
        return {}
    folder = _find_folder(entry, data_dir)
    problems: dict[Path, str | None] = {}
    for file in entry.files:
        path = file.path_in(folder) or folder / file.remote.name
        try:
            file.verify(path, entry.title, entry.mirrors[0])
            problems[path] = None
        except FileNotFoundError:
            problems[path] = f"{path} is missing; run smidgen data get {entry.name}"
        except OSError as error:
            problems[path] = f"{path} cannot be read: {error.strerror}."
        except DataError as error:
            problems[path] = str(error)
    return problems


def _find_folder(entry: CatalogEntry, data_dir: Path | None) -> Path:
    """The folder of the data set: a given one that has all files, or that of the cache.

    Raises:
        DataError: a folder was given, by --data-dir or SMIDGEN_DATA, and lacks files.
    """
    variable = os.environ.get("SMIDGEN_DATA")
    if data_dir is None and not variable:
        return cache_folder(entry.folders[0])
    given, option = (data_dir, "--data-dir") if data_dir else (Path(variable or ""), "SMIDGEN_DATA")
    # Several data sets have files of the same names: folders with its name come first.
    for folder in (*(given / name for name in entry.folders), given):
        missing = _missing(entry, folder)
        if not missing:
            return folder
        if len(missing) < len(entry.files):
            raise DataError(
                f"{folder} ({option}) lacks {_names(missing)} of {entry.title}; put it there."
            )
    if not given.is_dir():
        raise DataError(f"{option} is {given}, which is not a folder.")
    raise DataError(
        f"{option} is {given}, which does not hold {entry.title}: {_names(entry.files)} must be in "
        f"it or in its folder {' or '.join(entry.folders)}. Without {option}, smidgen downloads "
        "them."
    )


def _missing(entry: CatalogEntry, folder: Path) -> list[DatasetFile]:
    try:
        return [file for file in entry.files if file.path_in(folder) is None]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _names(files: Sequence[DatasetFile]) -> str:
    """The names to ask the user for, with or without .gz where either will do."""
    either = [file.unpacked_name for file in files if file.unpacked_name]
    packed = [file.remote.name for file in files if not file.unpacked_name]
    return ", ".join(
        ([", ".join(either) + " (each with or without .gz)"] if either else []) + packed
    )
