"""The classes that a run's network predicts for new images."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smidgen.data import load_like
from smidgen.data.images import SUFFIXES, in_parallel
from smidgen.errors import ConfigError, DataError
from smidgen.models import ModelInMemory
from smidgen.record import read_record
from smidgen.runs.load import TrainedNetwork, restore


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The classes of one image."""

    path: Path
    """The image file."""
    classes: tuple[tuple[str, float], ...]
    """Every class with its probability, the most likely first."""


def predict(
    run: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    model: ModelInMemory | None = None,
    on_bad: Callable[[DataError], None] | None = None,
) -> list[Prediction]:
    """Classify image files, such as PNG or JPEG, with the network of the run in the folder `run`.

    Of a folder, all images anywhere below it are classified, in the order of their paths; files
    with other suffixes and hidden ones are ignored. Images are resized to the network's input; see
    smidgen.data.load_like for handwriting. `model` is as in load_network. `on_bad` is called with
    the error of each file that is not an image, and the others are classified.

    Raises:
        ConfigError: `images` is a single path instead of a list.
        RecordError: the run is missing or damaged.
        DataError: a folder has no images; without `on_bad` also if a file is not an image, or too
            large.
    """
    if isinstance(images, str | os.PathLike):
        raise ConfigError(f"images is {images!r}; it must be a list of paths: [{images!r}].")
    folder, paths = Path(run), list(chain.from_iterable(_image_files(Path(i)) for i in images))
    record = read_record(folder)
    network = TrainedNetwork(restore(folder, record, model), record.data)
    data, shape = record.experiment.data, record.data.image_shape
    remaining, found = iter(paths), []
    for batch in in_parallel(lambda path: load_like(data, shape, path), paths, "decoding images"):
        good: list[tuple[Path, NDArray[np.uint8]]] = []
        for path, image in zip(islice(remaining, len(batch)), batch, strict=True):
            if not isinstance(image, DataError):
                good.append((path, image))
            elif on_bad is None:
                raise image
            else:
                on_bad(image)
        if good:
            rows = network.probabilities(torch.from_numpy(np.stack([image for _, image in good])))
            for (path, _), row in zip(good, rows, strict=True):
                found.append(_ranked(path, row, network.classes))
    return found


def _ranked(path: Path, probabilities: Tensor, classes: Sequence[str]) -> Prediction:
    order = probabilities.argsort(descending=True).tolist()
    return Prediction(
        path=path, classes=tuple((classes[i], float(probabilities[i])) for i in order)
    )


def _image_files(path: Path) -> list[Path]:
    """The path itself, or the image files below it if it is a folder."""
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part[0] == "." for part in file.relative_to(path).parts)
    ]
    if not found:
        raise DataError(f"{path} has no images; their names must end in {', '.join(SUFFIXES)}.")
    return found
