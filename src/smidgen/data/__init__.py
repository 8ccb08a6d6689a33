"""Data sets in memory, their parts and their batches."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smidgen.config import Data
from smidgen.data.augment import augment, normalize
from smidgen.data.batches import ordered_batches, training_batches
from smidgen.data.digits import load_digits
from smidgen.data.parts import (
    Dataset,
    Decoded,
    Part,
    TestPart,
    TrainPart,
    ValidationPart,
    set_aside,
)
from smidgen.data.sources import load_mnist
from smidgen.errors import ConfigError

__all__ = [
    "Dataset",
    "Facts",
    "Part",
    "TestPart",
    "TrainPart",
    "ValidationPart",
    "augment",
    "describe",
    "load",
    "normalize",
    "ordered_batches",
    "training_batches",
]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a network must fit, known without loading the data set."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    num_classes: int


@dataclass(frozen=True, slots=True)
class _Source:
    facts: Facts
    load: Callable[[Path | None, float], Decoded]


_SOURCES = {
    "mnist": _Source(Facts((1, 28, 28), 10), load_mnist),
    # digits come with scikit-learn, so no folder and no mirror matters
    "digits": _Source(Facts((1, 28, 28), 10), lambda folder, patience: load_digits()),
}


def describe(data: Data) -> Facts:
    """Image shape and number of classes of the data set that `data` names.

    Raises:
        ConfigError: an unknown name.
    """
    return _source(data).facts


def load(data: Data, *, folder: Path | None = None, patience: float = 20.0) -> Dataset:
    """The data set that `data` names, with its validation part set aside.

    `folder` is where to look first (and only, if given) for a data set that is made of files;
    `patience` is how many seconds a mirror may take to answer when it must be downloaded.

    Raises:
        ConfigError: an unknown name, or more images set aside than there are.
        DataError: missing or damaged files, a download that fails.
    """
    return set_aside(_source(data).load(folder, patience), data.validation)


def _source(data: Data) -> _Source:
    if data.name not in _SOURCES:
        raise ConfigError(f"data.name is {data.name!r}; it must be one of {', '.join(_SOURCES)}.")
    return _SOURCES[data.name]
