"""Data sets in memory or mapped into it, their parts and their batches."""

from pathlib import Path

from smidgen.config import Data
from smidgen.data.augment import augment, normalize
from smidgen.data.custom.load import describe_own, load_own
from smidgen.data.datasets import (
    Dataset,
    DatasetInfo,
    RawDataset,
    Split,
    TestSplit,
    TrainSplit,
    ValidationSplit,
    split_validation,
)
from smidgen.data.images import MAX_PIXELS, load_image, open_image
from smidgen.data.loader import TrainLoader, eval_batches
from smidgen.data.named.catalog import BUILT_IN, qmnist_extra
from smidgen.data.named.digits import load_digits
from smidgen.data.named.sources import load_builtin
from smidgen.errors import ConfigError

__all__ = [
    "MAX_PIXELS",
    "NAMES",
    "Dataset",
    "DatasetInfo",
    "Split",
    "TestSplit",
    "TrainSplit",
    "TrainLoader",
    "ValidationSplit",
    "augment",
    "describe",
    "load",
    "normalize",
    "eval_batches",
    "open_image",
    "load_image",
    "qmnist_extra",
]

NAMES = ("mnist", "digits", *(name for name in BUILT_IN if name != "mnist"))
"""What data.name can be."""


def describe(data: Data) -> DatasetInfo:
    """Image shape and number of classes of the data set that `data` names, or that is at its path.

    Nothing is downloaded and no picture decoded; headers of a person's own are read, once.

    Raises:
        ConfigError: an unknown name.
        DataError: what is at the path is no data set.
    """
    if data.path is not None:
        return describe_own(data)
    if _name(data) == "digits":
        return DatasetInfo((1, 28, 28), 10)
    source = BUILT_IN[_name(data)]
    return DatasetInfo(source.image_shape, len(source.classes))


def load(
    data: Data, *, folder: Path | None = None, patience: float = 20.0, skip_bad: bool = False
) -> Dataset:
    """The data set that `data` names, or that is at its path, its validation part set aside.

    `folder` is where to look first (and only, if given) for a named set that is made of files;
    `patience` is how many seconds a mirror may take to answer when it must be downloaded. Pictures
    of a person's own that cannot be read are skipped and noted if `skip_bad`.

    Raises:
        ConfigError: an unknown name, or more images set aside than there are.
        DataError: missing or damaged files, a download that fails.
    """
    return split_validation(
        _decoded(data, folder, patience, skip_bad), data.validation, data.transforms
    )


def _decoded(data: Data, folder: Path | None, patience: float, skip_bad: bool) -> RawDataset:
    if data.path is not None:
        return load_own(data, skip_bad=skip_bad)
    name = _name(data)
    # digits come with scikit-learn, so no folder and no mirror matters
    return load_digits() if name == "digits" else load_builtin(BUILT_IN[name], folder, patience)


def _name(data: Data) -> str:
    if data.name not in NAMES:
        raise ConfigError(f"data.name is {data.name!r}; it must be one of {', '.join(NAMES)}.")
    return data.name
