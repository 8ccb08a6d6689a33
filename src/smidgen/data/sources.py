"""Where MNIST is: a given folder, SMIDGEN_DATA, the cache, the mirrors, in this order."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from smidgen.data.download import Remote, download
from smidgen.data.formats import decompress, parse_idx
from smidgen.data.parts import Decoded, Part, TestPart
from smidgen.errors import DataError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

_SLACK_BYTES = 1 << 16  # a gzip file of what cannot be compressed is a little larger than that


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One of a data set's files: unpacked, and as the mirrors serve it."""

    name: str
    num_bytes: int
    sha256: str
    packed: Remote

    def path_in(self, folder: Path) -> Path | None:
        """Its place in `folder`, unpacked (faster to load) or with .gz; None if not there."""
        for path in (folder / self.name, folder / f"{self.name}.gz"):
            if path.is_file():
                return path
        return None


MNIST = (
    SourceFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        Remote(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
    ),
    SourceFile(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        Remote(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
    SourceFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        Remote(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
    ),
    SourceFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        Remote(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
)


def load_mnist(
    folder: Path | None,
    patience: float,
    *,
    files: Sequence[SourceFile] = MNIST,
    mirrors: Sequence[str] = MIRRORS,
) -> Decoded:
    """MNIST from the first place that has it; `folder` is the one that was asked for, if any.

    Each file's content is checked by SHA-256 at every load, unpacked or not.

    Raises:
        DataError: not where it was said to be, incomplete, altered, or nowhere to be had.
    """
    place, source = _find(folder, patience, files, mirrors)
    train_images, train_labels, test_images, test_labels = (_read(file, place) for file in files)
    return Decoded(
        name="mnist",
        source=source,
        train=Part(_images(train_images), _labels(train_labels)),
        test=TestPart(_images(test_images), _labels(test_labels)),
        classes=tuple(str(digit) for digit in range(10)),
        usual_validation=10_000,
        mean_and_std=((0.1307,), (0.3081,)),
    )


def cache_folder() -> Path:
    """The user's cache folder for MNIST: in XDG_CACHE_HOME, or ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # unset, or what the XDG specification says to ignore
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            raise DataError(
                "there is no home folder to keep MNIST in; give its folder with --data-dir."
            ) from None
    return base / "smidgen" / "mnist"


def _find(
    folder: Path | None, patience: float, files: Sequence[SourceFile], mirrors: Sequence[str]
) -> tuple[Path, str]:
    """The folder that has all files, and where they came from in words.

    A place that somebody named either has them or is an error: nothing is downloaded instead.
    """
    try:
        if folder is not None:
            place = _place_in(folder, "--data-dir", files)
            return place, f"the folder {place}"
        if named := os.environ.get("SMIDGEN_DATA"):
            place = _place_in(Path(named), "SMIDGEN_DATA", files)
            return place, f"the folder {place}"
        cache = cache_folder()
        missing = _missing(cache, files)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    if not missing:
        return cache, f"the folder {cache}"
    hosts = download([file.packed for file in missing], cache, mirrors, patience=patience)
    return cache, f"downloaded from {' and '.join(hosts)}"


def _place_in(folder: Path, said_by: str, files: Sequence[SourceFile]) -> Path:
    places = (folder, folder / "mnist", folder / "MNIST" / "raw")  # the last is torchvision's
    for place in places:
        missing = _missing(place, files)
        if not missing:
            return place
        if len(missing) < len(files):
            raise DataError(
                f"{place} ({said_by}) lacks {', '.join(file.name for file in missing)} of MNIST, "
                "each with or without .gz; put them there."
            )
    if not folder.is_dir():
        raise DataError(f"{said_by} is {folder}, which is no folder.")
    raise DataError(
        f"{said_by} is {folder}, where there is no MNIST: it is to hold "
        f"{', '.join(file.name for file in files)}, each with or without .gz, directly or in mnist "
        f"or MNIST/raw. Without {said_by}, smidgen downloads it."
    )


def _missing(folder: Path, files: Sequence[SourceFile]) -> list[SourceFile]:
    return [file for file in files if file.path_in(folder) is None]


def _read(file: SourceFile, folder: Path) -> NDArray[np.uint8]:
    path = file.path_in(folder)
    if path is None:
        raise DataError(f"{folder / file.name} was there a moment ago and is gone.")
    limit = file.num_bytes + _SLACK_BYTES
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > limit:
        raise DataError(f"{path} is larger than the {file.num_bytes:,} bytes of {file.name}.")
    if path.suffix == ".gz":
        content = decompress(content, str(path), file.num_bytes)
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise DataError(
            f"{path} is damaged or not MNIST's: the SHA-256 of its content is {digest} instead of "
            f"{file.sha256}. Delete it and get it again, from {MIRRORS[0]}{file.packed.name} for "
            "one."
        )
    return parse_idx(content, str(path))


def _images(array: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(array).unsqueeze(1)  # (images, 1, height, width)


def _labels(array: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64))
