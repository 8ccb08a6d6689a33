"""Data sets in memory, and their splits.

The three splits are three types, so that mypy rejects code that trains on the test split.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from smidgen._storage.digests import sha256_of
from smidgen.errors import ConfigError, DataError

Background = Literal["black", "edge"]
"""What an augmented image shows beyond its border: 0, or the nearest pixel."""

_STATISTICS_BYTES = 1 << 22  # of a channel at a time; counting takes eight times as much
_BACKGROUND_IMAGES = 1000
_DARK = 10  # of 255: JPEG's black


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """The shapes that a network must fit; known without loading the data set."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    num_classes: int


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images and their labels, at least one, on one device.

    Raises:
        DataError: a wrong type or shape, differing numbers of images and labels, or no image.
    """

    images: Tensor
    """(images, channels, height, width), uint8."""
    labels: Tensor
    """(images,), int64: indices into the data set's classes."""

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
            raise DataError(f"images have the shape {tuple(images.shape)}: they are empty.")

    def __len__(self) -> int:
        return len(self.labels)

    def first_of_class(self, label: int, count: int) -> Tensor:
        """Indices of the first `count` images of a class, or of all if there are fewer."""
        return (self.labels == label).nonzero()[:count, 0]

    def to(self, device: torch.device | str) -> Self:
        """The same split on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class TrainSplit(Split):
    """The images that the network is trained on, and how they are changed meanwhile."""

    background: Background = "black"
    transforms: str | None = None
    """MODULE:NAME of the user's transforms, which are imported only when training begins."""


@dataclass(frozen=True, slots=True, eq=False)
class ValidationSplit(Split):
    """The images by which architecture, recipe and epochs are chosen."""


@dataclass(frozen=True, slots=True, eq=False)
class TestSplit(Split):
    """The images that are evaluated once, when everything has been chosen."""

    __test__: ClassVar[bool] = False  # or pytest would collect the class


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RawDataset:
    """A data set as its files hold it, before the validation split is made."""

    name: str
    source: str
    train: Split
    test: TestSplit
    classes: tuple[str, ...]
    default_validation: int
    """Size of the validation split unless the experiment says otherwise."""
    mean_and_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """By channel, where they are known; otherwise they are computed."""
    sha256: str | None = None
    """As in Dataset, where it is known; otherwise it is computed."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """A data set, ready for use.

    Raises:
        DataError: splits whose images differ in shape, or a label without a class.
    """

    name: str
    source: str
    """Where it came from, in words."""
    sha256: str
    """Of all images and labels as decoded, whatever the size of the validation split."""
    train: TrainSplit
    validation: ValidationSplit | None
    test: TestSplit
    mean: tuple[float, ...]
    """By channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What users should know about the data, a sentence each."""

    def __post_init__(self) -> None:
        shapes = {tuple(split.images.shape[1:]) for split in self.splits.values()}
        if len(shapes) != 1:
            raise DataError(f"{self.name}: images differ in shape: {sorted(shapes)}.")
        lowest = min(int(split.labels.min()) for split in self.splits.values())
        highest = max(int(split.labels.max()) for split in self.splits.values())
        if lowest < 0 or highest >= len(self.classes):
            raise DataError(
                f"{self.name}: labels go from {lowest} to {highest}; with {len(self.classes)} "
                f"classes they must go from 0 to {len(self.classes) - 1}."
            )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name: train, validation unless it is empty, test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def info(self) -> DatasetInfo:
        """The shapes that a network must fit."""
        return DatasetInfo(self.image_shape, len(self.classes))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> Self:
        """The same data set with its splits on `device`."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device) if self.validation else None,
            test=self.test.to(device),
        )


def split_validation(
    raw: RawDataset, validation: int | None, transforms: str | None = None
) -> Dataset:
    """Make the last `validation` training images of `raw` the validation split.

    None means the data set's default, 0 no validation split. Mean and standard deviation are those
    of the remaining training images. `transforms` is passed on to the training split.

    Raises:
        ConfigError: no training image would remain.
        DataError: as Dataset.
    """
    images, labels = raw.train.images, raw.train.labels
    count = raw.default_validation if validation is None else validation
    num_train = len(labels) - count
    if num_train < 1:
        raise ConfigError(
            f"data.validation is {count}; {raw.name} has {len(labels)} training images, of which "
            f"at most {len(labels) - 1} can be used for validation."
        )
    background = background_of(images[:num_train])
    train = TrainSplit(images[:num_train], labels[:num_train], background, transforms)
    mean, std = raw.mean_and_std or channel_statistics(train.images)
    return Dataset(
        name=raw.name,
        source=raw.source,
        sha256=raw.sha256 or sha256_of_tensors(images, labels, raw.test.images, raw.test.labels),
        train=train,
        validation=ValidationSplit(images[num_train:], labels[num_train:]) if count else None,
        test=raw.test,
        mean=mean,
        std=std,
        classes=raw.classes,
        notes=raw.notes,
    )


def default_validation_size(num_images: int) -> int:
    """A sixth of the images that could be trained on, as of MNIST's, but at least one."""
    return max(1, num_images // 6)


def background_of(images: Tensor) -> Background:
    """Black if most border pixels of the first thousand images are black, edge otherwise.

    A rotated digit lies on black, so black comes in from outside. A photograph would get corners
    that no camera makes, so its nearest pixels are repeated instead.

    >>> background_of(torch.zeros(1, 1, 5, 5, dtype=torch.uint8))
    'black'
    """
    bright = images[:_BACKGROUND_IMAGES].amax(1) > _DARK  # (images, height, width)
    border = [bright[:, 0], bright[:, -1], bright[:, :, 0], bright[:, :, -1]]
    return "edge" if torch.cat(border, 1).float().mean() > 0.5 else "black"


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (population, not sample) by channel, of pixels in [0, 1].

    A channel whose pixels are all equal gets a standard deviation of 1, so that one can divide.

    >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2))
    ((0.5,), (0.5,))
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    # Counts by brightness are exact in any order of summation, and need little memory.
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    pixels = images.shape[2] * images.shape[3]
    for chunk in torch.split(images, max(1, _STATISTICS_BYTES // pixels)):
        for channel, values in enumerate(chunk.unbind(1)):  # (images, height, width)
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    shares = counts.double() / (len(images) * pixels)
    means = (shares * levels).sum(1)
    variances = (shares * (levels - means[:, None]) ** 2).sum(1)
    return tuple(means.tolist()), tuple(std or 1.0 for std in variances.sqrt().tolist())


def sha256_of_tensors(*tensors: Tensor) -> str:
    """The digest of the tensors' values, one after the other; they must be on the CPU."""
    return sha256_of(*(tensor.flatten().numpy().data for tensor in tensors))
