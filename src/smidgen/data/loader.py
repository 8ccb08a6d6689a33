"""Batches from a part in memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from smidgen.config import Augment
from smidgen.data.augment import draw_maps, normalize, sample
from smidgen.data.datasets import Split, TrainSplit
from smidgen.data.transforms import Transform, own_transforms, transformed
from smidgen.kernels import prepare
from smidgen.seeds import generator


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainLoader:
    """The training images as batches, each a function of the seed, the epoch and its place in it.

    So a run that was stopped goes on at any batch as if it had come there by itself. Only a
    person's own transforms may draw from torch's global generator, Python's or numpy's.
    """

    split: TrainSplit
    batch_size: int
    """The most images in a batch."""
    augment: Augment
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    kernels: bool = False
    """Whether kernels of our own prepare the images: up to rounding the same, and faster."""

    def __len__(self) -> int:
        """Batches in an epoch: ceil(images / batch_size)."""
        return math.ceil(len(self.split) / self.batch_size)

    def epoch(
        self, number: int, *, clean: bool = False, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` from place `start` on: each image once, in random order.

        Images are augmented and normalized; the person's own transforms, if the part names some,
        run on each batch before. In a `clean` epoch they are as they are.

        The batches' sizes differ by at most one: no short last batch whose gradient is noisier than
        the others. Images are (batch, channels, height, width), float32, labels (batch,), int64,
        both on the part's device.
        """
        split = self.split
        height, width = split.images.shape[2:]
        own = own_transforms(split.transforms) if split.transforms and not clean else ()
        order = torch.randperm(len(split), generator=generator(self.seed, "order", number))
        places = order.to(split.labels.device).tensor_split(len(self))
        for place, chosen in enumerate(places[start:], start):
            drawn = generator(self.seed, "augment", number, place)
            maps = None if clean else draw_maps(self.augment, len(chosen), height, width, drawn)
            yield self._images(chosen, maps, own), split.labels.index_select(0, chosen)

    def _images(self, chosen: Tensor, maps: Tensor | None, own: tuple[Transform, ...]) -> Tensor:
        split = self.split
        if self.kernels and not own:
            return prepare(
                split.images,
                chosen,
                maps,
                mean=self.mean,
                std=self.std,
                edge=split.background == "edge",
                threads=torch.get_num_threads(),
            )
        images = split.images.index_select(0, chosen)
        if own:
            images = transformed(images, own, split.transforms or "")
        if maps is not None:
            images = sample(images.float(), maps, split.background)
        return normalize(images, self.mean, self.std)


def eval_batches(
    split: Split, *, batch_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each image once, as it is, in the part's order, normalized; the last batch may be smaller."""
    for images, labels in zip(
        torch.split(split.images, batch_size), torch.split(split.labels, batch_size), strict=True
    ):
        yield normalize(images, mean, std), labels
