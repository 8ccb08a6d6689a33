"""Batches from a part in memory."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from smidgen.config import Augment
from smidgen.data.augment import augment, normalize
from smidgen.data.parts import Part, TrainPart
from smidgen.data.transforms import own_transforms, transformed


def training_batches(
    part: TrainPart,
    *,
    batch_size: int,
    settings: Augment | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order: each image once, augmented by `settings` and normalized.

    The person's own transforms, if the part names some, run on each batch before; without settings
    the images are as they are.

    There are ceil(images / batch_size) batches, and their sizes differ by at most one: no short
    last batch whose gradient is noisier than the others. Images are (batch, channels, height,
    width), float32, labels (batch,), int64, both on the part's device. `generator` is the CPU's.
    """
    own = own_transforms(part.transforms) if part.transforms and settings is not None else ()
    order = torch.randperm(len(part), generator=generator).to(part.labels.device)
    for chosen in order.tensor_split(math.ceil(len(part) / batch_size)):
        images = part.images.index_select(0, chosen)
        if settings is not None:
            if own:
                images = transformed(images, own, part.transforms or "")
            images = augment(images, settings, generator, part.background)
        yield normalize(images, mean, std), part.labels.index_select(0, chosen)


def ordered_batches(
    part: Part, *, batch_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each image once, as it is, in the part's order, normalized; the last batch may be smaller."""
    for images, labels in zip(
        torch.split(part.images, batch_size), torch.split(part.labels, batch_size), strict=True
    ):
        yield normalize(images, mean, std), labels
