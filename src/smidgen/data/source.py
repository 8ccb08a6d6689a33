"""From the name or path of a data set to its splits: found once, loaded once."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smidgen.config import Data
from smidgen.data.custom.open import open_custom
from smidgen.data.datasets import Dataset, DatasetInfo, RawDataset, split_validation
from smidgen.data.named.catalog import CATALOG
from smidgen.data.named.files import load_named
from smidgen.errors import ConfigError, did_you_mean

NAMES = tuple(CATALOG)
"""The values that data.name can have."""

PathOrName = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, eq=False)
class DatasetSource:
    """A data set that was found, and that can be loaded."""

    data: Data
    info: DatasetInfo
    """What a network must fit; known before anything is downloaded or decoded."""
    _load_raw: Callable[[], RawDataset]

    def load(self) -> Dataset:
        """Load the images, downloaded or decoded if need be, and make the validation split.

        Raises:
            ConfigError: no training image would remain.
            DataError: missing or damaged files, a failed download, an unreadable image.
        """
        return split_validation(self._load_raw(), self.data.validation, self.data.transforms)


def open_dataset(
    data: PathOrName | Data,
    *,
    data_dir: PathOrName | None = None,
    skip_bad: bool = False,
    timeout: float = 20.0,
) -> DatasetSource:
    """Find the data set that `data` names, is the path of, or describes.

    `data_dir` is the folder that holds the files of a named data set; without it, SMIDGEN_DATA and
    the cache are searched, and what is missing is downloaded by `load`. A mirror may take
    `timeout` seconds to answer. Unreadable images of a custom data set are left out and noted if
    `skip_bad`.

    Raises:
        ConfigError: neither the name of a data set nor a path.
        DataError: the path holds nothing that can be read.
    """
    data = find_data(data)
    if data.in_memory is not None:
        raise ConfigError(
            f"the data set {data.in_memory} was passed in Python and is in no file; pass it again: "
            "data=..."
        )
    if data.path is not None:
        return DatasetSource(data, *open_custom(data, skip_bad=skip_bad))
    entry = CATALOG.get(data.name or "")
    if entry is None:
        raise ConfigError(
            f"data.name is {data.name!r}; it must be one of {', '.join(NAMES)}."
            + did_you_mean(data.name or "", NAMES)
        )
    folder = None if data_dir is None else Path(data_dir)
    return DatasetSource(data, entry.info, lambda: load_named(entry, folder, timeout))


def load(
    data: PathOrName | Data,
    *,
    data_dir: PathOrName | None = None,
    skip_bad: bool = False,
    timeout: float = 20.0,
) -> Dataset:
    """Load the data set that `data` names, is the path of, or describes.

    The arguments are those of open_dataset.

    Raises:
        ConfigError: neither the name of a data set nor a path, or no training image would remain.
        DataError: missing or damaged files, a failed download, an unreadable image.
    """
    source = open_dataset(data, data_dir=data_dir, skip_bad=skip_bad, timeout=timeout)
    return source.load()


def find_data(data: PathOrName | Data) -> Data:
    """The description of the data set that `data` names or is the path of.

    Raises:
        ConfigError: neither the name of a data set nor an existing path.
    """
    if isinstance(data, Data):
        return data
    if isinstance(data, str) and data in CATALOG:
        return Data(name=data)
    path = os.fspath(data) if isinstance(data, str | os.PathLike) else None
    if isinstance(path, str) and os.path.exists(path):  # noqa: PTH110 (Path.exists may raise)
        return Data(path=path)
    raise ConfigError(
        f"{data!r} is neither a data set nor a path; data sets: {', '.join(NAMES)}."
        + did_you_mean(str(data), NAMES)
    )
