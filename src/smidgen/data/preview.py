"""A few images of a data set for people to look at."""

import numpy as np
import torch
from numpy.typing import NDArray

from smidgen.config import Augment
from smidgen.data.augment import augment
from smidgen.data.datasets import Dataset

ImageRows = list[tuple[str, NDArray[np.uint8]]]
"""Rows of images, (images, channels, height, width), with a name for each row."""


def sample_rows(dataset: Dataset, per_class: int = 10) -> ImageRows:
    """The first training images of each class that has any."""
    train = dataset.train
    chosen = [train.first_of_class(label, per_class) for label in range(len(dataset.classes))]
    return [
        (name, train.images[indices].numpy())
        for name, indices in zip(dataset.classes, chosen, strict=True)
        if len(indices)
    ]


def augmented_rows(dataset: Dataset, settings: Augment, count: int = 20) -> ImageRows:
    """Training images of all classes in turn, each above one augmented version of it."""
    train, per_class = dataset.train, 10
    chosen = [train.first_of_class(label, per_class) for label in range(len(dataset.classes))]
    turns = [indices[i] for i in range(per_class) for indices in chosen if i < len(indices)]
    originals = train.images[torch.stack(turns[:count])]
    drawn = torch.Generator().manual_seed(0)
    augmented = augment(originals, settings, drawn, train.background).round().clamp(0, 255).byte()
    length = -(-len(originals) // 2)
    return [
        row
        for start in range(0, len(originals), length)
        for row in (
            ("original", originals[start : start + length].numpy()),
            ("augmented", augmented[start : start + length].numpy()),
        )
    ]
