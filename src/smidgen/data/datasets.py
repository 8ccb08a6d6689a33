"""Images in memory: the parts of a data set, distinct by type, and the set itself.

The three parts are three types, so that mypy rejects code that hands the test part to what learns
from images or chooses by them.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from smidgen.errors import ConfigError, DataError

Background = Literal["black", "edge"]
"""What an augmented image shows where nothing is known of it: 0, or its nearest pixel."""

_STATISTICS_BYTES = 1 << 22  # of a channel at a time; counting takes eight times as much
_SAMPLE = 1000
_DARK = 10  # of 255: what JPEG makes of black


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What a network must fit, known without loading the data set."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    num_classes: int


@dataclass(frozen=True, slots=True, eq=False)
class Split:
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

    def first_of(self, label: int, count: int) -> Tensor:
        """The places of the first `count` images of a class, or of all if there are fewer."""
        return (self.labels == label).nonzero()[:count, 0]

    def to(self, device: torch.device | str) -> Self:
        """The same part on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class TrainSplit(Split):
    """What the network learns from, and how its images are changed while it does."""

    background: Background = "black"
    transforms: str | None = None
    """module:attribute of the person's own transforms: a name, as it runs their code."""


@dataclass(frozen=True, slots=True, eq=False)
class ValidationSplit(Split):
    """What is chosen by: architecture, recipe, epochs."""


@dataclass(frozen=True, slots=True, eq=False)
class TestSplit(Split):
    """What is scored once, when everything has been chosen."""

    __test__: ClassVar[bool] = False  # pytest takes a class of this name for a test


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RawDataset:
    """A data set as its files hold it: nothing is set aside yet."""

    name: str
    source: str
    train: Split
    test: TestSplit
    classes: tuple[str, ...]
    default_validation: int
    """Training images that are set aside unless the experiment says otherwise."""
    mean_and_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Where everyone uses the same ones, or they are known; otherwise they are computed."""
    sha256: str | None = None
    """As Dataset's, where it is known; otherwise it is computed."""
    notes: tuple[str, ...] = ()


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
    train: TrainSplit
    validation: ValidationSplit | None
    test: TestSplit
    mean: tuple[float, ...]
    """By channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What a person should know of the data, a sentence each."""

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


def split_validation(
    decoded: RawDataset, validation: int | None, transforms: str | None = None
) -> Dataset:
    """The data set with its last `validation` training images as the validation part.

    None is the set's usual number; 0 leaves all of them in the training part. Mean and standard
    deviation are computed on what remains to train on. `transforms` goes along with it.

    Raises:
        ConfigError: no training image would remain.
        DataError: as Dataset.
    """
    images, labels = decoded.train.images, decoded.train.labels
    count = decoded.default_validation if validation is None else validation
    remaining = len(labels) - count
    if remaining < 1:
        raise ConfigError(
            f"data.validation is {count}; {decoded.name} has {len(labels)} training images, of "
            f"which at most {len(labels) - 1} can be set aside."
        )
    train = TrainSplit(
        images[:remaining], labels[:remaining], background_of(images[:remaining]), transforms
    )
    mean, std = decoded.mean_and_std or channel_statistics(train.images)
    return Dataset(
        name=decoded.name,
        source=decoded.source,
        sha256=decoded.sha256
        or _digest([images, labels, decoded.test.images, decoded.test.labels]),
        train=train,
        validation=ValidationSplit(images[remaining:], labels[remaining:]) if count else None,
        test=decoded.test,
        mean=mean,
        std=std,
        classes=decoded.classes,
        notes=decoded.notes,
    )


def background_of(images: Tensor) -> Background:
    """Whether most of the outermost pixels of the images, of the first thousand of them, are black.

    A rotated digit then brings in more black, which is what lies beyond its border too; a
    photograph would get corners that no camera makes, so its nearest pixels are continued.

    >>> background_of(torch.zeros(1, 1, 5, 5, dtype=torch.uint8))
    'black'
    """
    bright = images[:_SAMPLE].amax(1) > _DARK  # (images, height, width)
    ring = [bright[:, 0], bright[:, -1], bright[:, :, 0], bright[:, :, -1]]
    return "edge" if torch.cat(ring, 1).float().mean() > 0.5 else "black"


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of all pixels, not of a sample) by channel, of pixels in [0, 1].

    A channel whose pixels are all the same has no spread to divide by: its figure is 1.

    >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2))
    ((0.5,), (0.5,))
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    # Counts by brightness are exact whatever the order of summing, and need little memory.
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    pixels = images.shape[2] * images.shape[3]
    for chunk in torch.split(images, max(1, _STATISTICS_BYTES // pixels)):
        for channel, values in enumerate(chunk.unbind(1)):  # (images, height, width)
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    shares = counts.double() / (len(images) * pixels)
    means = (shares * levels).sum(1)
    variances = (shares * (levels - means[:, None]) ** 2).sum(1)
    return tuple(means.tolist()), tuple(std or 1.0 for std in variances.sqrt().tolist())


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.flatten().numpy().data)
    return digest.hexdigest()
