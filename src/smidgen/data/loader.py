"""Batches from a split in memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from smidgen.config import Augment
from smidgen.data.augment import draw_maps, normalize, sample
from smidgen.data.datasets import Split, TrainSplit
from smidgen.data.transforms import Transform, apply_transforms, user_transforms
from smidgen.seeds import generator


class PrepareBatch(Protocol):
    """How a backend selects, samples and normalizes images in one go: kernels.prepare_batch."""

    def __call__(
        self,
        images: Tensor,
        chosen: Tensor,
        maps: Tensor | None,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        edge: bool,
    ) -> Tensor:
        """Return a batch: float32, (batch, channels, height, width).

        Args:
            images: (images, channels, height, width), uint8.
            chosen: (batch,), int64: indices of the batch's images.
            maps: (batch, 2, 3), inverse maps as from draw_maps; None: no augmentation.
            mean: by channel, of pixels in [0, 1].
            std: likewise.
            edge: whether the nearest pixel continues beyond the border; otherwise it is black.
        """


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainLoader:
    """The training images in batches, each a function of the seed, the epoch and its index.

    So a run that was interrupted can resume at any batch. Only user transforms may draw from
    torch's global generator, Python's or numpy's.
    """

    split: TrainSplit
    batch_size: int
    """Upper limit on the images in a batch."""
    augment: Augment
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    prepare: PrepareBatch | None = None
    """What prepares batches instead of PyTorch, with the same result up to rounding."""

    def __len__(self) -> int:
        """Batches in an epoch: ceil(images / batch_size)."""
        return math.ceil(len(self.split) / self.batch_size)

    def epoch(
        self, number: int, *, clean: bool = False, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of epoch `number` from index `start` on: each image once, shuffled.

        User transforms run on each batch, which is then augmented and normalized. A `clean` epoch
        is only normalized. The sizes of batches differ by at most one: a short last batch would
        have a noisier gradient than the others.

        Images are (batch, channels, height, width), float32, labels (batch,), int64, both on the
        split's device.
        """
        split = self.split
        height, width = split.images.shape[2:]
        reference = None if clean else split.transforms
        transforms = user_transforms(reference) if reference else ()
        order = torch.randperm(len(split), generator=generator(self.seed, "order", number))
        batches = order.to(split.labels.device).tensor_split(len(self))
        for index, chosen in enumerate(batches[start:], start):
            drawn = generator(self.seed, "augment", number, index)
            maps = None if clean else draw_maps(self.augment, len(chosen), height, width, drawn)
            yield self._images(chosen, maps, transforms), split.labels.index_select(0, chosen)

    def _images(
        self, chosen: Tensor, maps: Tensor | None, transforms: tuple[Transform, ...]
    ) -> Tensor:
        split = self.split
        if self.prepare is not None and not transforms:
            edge = split.background == "edge"
            return self.prepare(split.images, chosen, maps, mean=self.mean, std=self.std, edge=edge)
        images = split.images.index_select(0, chosen)
        if transforms:
            images = apply_transforms(images, transforms, split.transforms or "")
        if maps is not None:
            images = sample(images.float(), maps, split.background)
        return normalize(images, self.mean, self.std)


def eval_batches(
    split: Split, *, batch_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the split's images in order, normalized, with labels; the last batch may be smaller."""
    for images, labels in zip(
        torch.split(split.images, batch_size), torch.split(split.labels, batch_size), strict=True
    ):
        yield normalize(images, mean, std), labels
