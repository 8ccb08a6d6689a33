"""The classes that a run's network predicts for new images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from smidgen.data import load_like
from smidgen.errors import ConfigError
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
) -> list[Prediction]:
    """Classify image files, such as PNG or JPEG, with the network of the run in the folder `run`.

    Images are resized to the network's input; see smidgen.data.load_like for handwriting. `model`
    is as in load_network.

    Raises:
        ConfigError: `images` is a single path instead of a list.
        RecordError: the run is missing or damaged.
        DataError: a file is not an image, or too large; then nothing is classified.
    """
    if isinstance(images, str | os.PathLike):
        raise ConfigError(f"images is {images!r}; it must be a list of paths: [{images!r}].")
    folder, paths = Path(run), [Path(image) for image in images]
    record = read_record(folder)
    network = TrainedNetwork(restore(folder, record, model), record.data)
    data, shape = record.experiment.data, record.data.image_shape
    batch = np.stack([load_like(data, shape, path) for path in paths])
    probabilities = network.probabilities(torch.from_numpy(batch))
    return [
        Prediction(
            path=path,
            classes=tuple(
                (network.classes[i], float(row[i])) for i in row.argsort(descending=True).tolist()
            ),
        )
        for path, row in zip(paths, probabilities, strict=True)
    ]
