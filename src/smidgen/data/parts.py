"""Images in memory: the parts of a data set, distinct by type, and the set itself.

The three parts are three types, so that mypy rejects code that hands the test part to what learns
from images or chooses by them.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from smidgen.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Images and their labels, at least one, on one device.

    Raises:
        DataError: a wrong type or shape, as many labels as images are not there, or none at all.
    """

    images: Tensor
    """(images, channels, height, width), uint8."""
    labels: Tensor
    """(images,), int64: places in the data set's classes."""

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise DataError(
                f"images are {images.dtype} of shape {tuple(images.shape)}; they must be "
                "torch.uint8 of (images, channels, height, width)."
            )
        if labels.dtype != torch.int64 or labels.dim() != 1:
            raise DataError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}; they must be "
                "torch.int64 of (images,)."
            )
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images have {len(labels)} labels; each needs one.")
        if images.numel() == 0:
            raise DataError(f"images have the shape {tuple(images.shape)}: there is nothing there.")

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Self:
        """The same part on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class TrainPart(Part):
    """What the network learns from."""


@dataclass(frozen=True, slots=True, eq=False)
class ValidationPart(Part):
    """What is chosen by: architecture, recipe, epochs."""


@dataclass(frozen=True, slots=True, eq=False)
class TestPart(Part):
    """What is scored once, when everything has been chosen."""

    __test__: ClassVar[bool] = False  # pytest takes a class of this name for a test


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decoded:
    """A data set as its files hold it: nothing is set aside yet."""

    name: str
    source: str
    train: Part
    test: TestPart
    classes: tuple[str, ...]
    usual_validation: int
    """Training images that are set aside unless the experiment says otherwise."""
    mean_and_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Where everyone uses the same ones; otherwise they are computed."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """A data set, ready for use.

    Raises:
        DataError: parts whose images differ in shape, or a label that is no class.
    """

    name: str
    source: str
    """Where it came from, in words."""
    sha256: str
    """Of images and labels as decoded, all parts: the same however many are set aside."""
    train: TrainPart
    validation: ValidationPart | None
    test: TestPart
    mean: tuple[float, ...]
    """By channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        parts = [part for part in (self.train, self.validation, self.test) if part is not None]
        shapes = {tuple(part.images.shape[1:]) for part in parts}
        if len(shapes) != 1:
            raise DataError(f"{self.name}: images differ in shape: {sorted(shapes)}.")
        lowest = min(int(part.labels.min()) for part in parts)
        highest = max(int(part.labels.max()) for part in parts)
        if lowest < 0 or highest >= len(self.classes):
            raise DataError(
                f"{self.name}: labels go from {lowest} to {highest}; with {len(self.classes)} "
                f"classes they must go from 0 to {len(self.classes) - 1}."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> Self:
        """The same data set with its parts on `device`."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device) if self.validation else None,
            test=self.test.to(device),
        )


def set_aside(decoded: Decoded, validation: int | None) -> Dataset:
    """The data set with its last `validation` training images as the validation part.

    None is the set's usual number; 0 leaves all of them in the training part. Mean and standard
    deviation are computed on what remains to train on.

    Raises:
        ConfigError: no training image would remain.
        DataError: as Dataset.
    """
    images, labels = decoded.train.images, decoded.train.labels
    count = decoded.usual_validation if validation is None else validation
    remaining = len(labels) - count
    if remaining < 1:
        raise ConfigError(
            f"data.validation is {count}; {decoded.name} has {len(labels)} training images, of "
            f"which at most {len(labels) - 1} can be set aside."
        )
    train = TrainPart(images[:remaining], labels[:remaining])
    mean, std = decoded.mean_and_std or channel_statistics(train.images)
    return Dataset(
        name=decoded.name,
        source=decoded.source,
        sha256=_digest([images, labels, decoded.test.images, decoded.test.labels]),
        train=train,
        validation=ValidationPart(images[remaining:], labels[remaining:]) if count else None,
        test=decoded.test,
        mean=mean,
        std=std,
        classes=decoded.classes,
    )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of all pixels, not of a sample) by channel, of pixels in [0, 1].

    A channel whose pixels are all the same has no spread to divide by: its figure is 1.

    >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2))
    ((0.5,), (0.5,))
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):  # (images, height, width)
        # Counts by brightness are exact whatever the order of summing, and need little memory.
        counts = torch.zeros(256, dtype=torch.int64)
        for chunk in torch.split(channel, 4096):
            counts += torch.bincount(chunk.flatten(), minlength=256)
        share = counts.double() / channel.numel()
        mean = float((share * levels).sum())
        means.append(mean)
        stds.append(float((share * (levels - mean) ** 2).sum().sqrt()) or 1.0)
    return tuple(means), tuple(stds)


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.flatten().numpy().data)
    return digest.hexdigest()
