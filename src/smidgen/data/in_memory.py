"""Data sets from arrays or torch data sets that were passed in Python."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from smidgen.config import Data
from smidgen.data.custom.arrays import LabeledImages, labeled_images
from smidgen.data.custom.splits import interleave_classes
from smidgen.data.datasets import (
    Dataset,
    RawDataset,
    Split,
    TestSplit,
    default_validation_size,
    split_validation,
)
from smidgen.errors import DataError

NAMES = ("x_train", "y_train", "x_test", "y_test")

InMemory = Dataset | Mapping[str, Any] | Sequence[Any]
"""A Dataset; arrays x_train, y_train, x_test, y_test in a mapping or in this order; or a pair of
torch data sets, (train, test)."""


def dataset_in_memory(data: InMemory, settings: Data) -> Dataset:
    """The data set that `data` holds, with the validation split that `settings` asks for.

    Arrays are numpy arrays or tensors: images of integers from 0 to 255, (images, height, width),
    (images, height, width, channels) or (images, channels, height, width), and integer labels.
    Items of torch data sets are pairs (image, label), with the image a PIL image, such an array or
    a float tensor from 0 to 1. Training images are shuffled so that the last ones, which become the
    validation split, hold each class's share. A Dataset is returned as it is.

    Raises:
        DataError: none of these, a wrong type or shape, fewer than two classes, a label that only
            test images have.
    """
    if isinstance(data, Dataset):
        return data
    train, test = _splits(data)
    classes = np.unique(train.labels)
    if len(classes) < 2:
        raise DataError(f"y_train has only the label {classes[0]}; at least two are needed.")
    if len(unknown := np.setdiff1d(test.labels, classes)):
        raise DataError(f"y_test has the label {unknown[0]}, which y_train does not have.")
    names = [str(i) for i in range(len(train.labels))]
    order = interleave_classes(train.labels, names, settings.split.seed)
    raw = RawDataset(
        name=settings.in_memory or "arrays",
        source="passed in Python",
        train=Split(*_tensors(train, classes, order)),
        test=TestSplit(*_tensors(test, classes, np.arange(len(test.labels)))),
        classes=tuple(str(value) for value in classes),
        default_validation=default_validation_size(len(order)),
    )
    return split_validation(raw, settings.validation, settings.transforms)


def _splits(data: Mapping[str, Any] | Sequence[Any]) -> tuple[LabeledImages, LabeledImages]:
    if isinstance(data, Mapping) and set(NAMES) <= set(data):
        data = [data[name] for name in NAMES]
    if isinstance(data, Sequence) and len(data) == 4:
        x_train, y_train, x_test, y_test = map(_array, data)
    elif isinstance(data, Sequence) and len(data) == 2 and all(map(_is_dataset, data)):
        (x_train, y_train), (x_test, y_test) = map(_stacked, data)
    else:
        raise DataError(
            "data must be a Dataset, arrays (x_train, y_train, x_test, y_test), or a pair of torch "
            "data sets (train, test)."
        )
    return (
        labeled_images(x_train, y_train, "x_train", "y_train"),
        labeled_images(x_test, y_test, "x_test", "y_test"),
    )


def _is_dataset(data: Any) -> bool:
    return hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _array(values: Any) -> NDArray[Any]:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _stacked(data: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """The images and labels of a torch data set, which is read once from end to end."""
    images, labels = [], []
    for i in range(len(data)):
        image, label = data[i]
        images.append(_pixels(image))
        labels.append(int(label))
    if len({image.shape for image in images}) > 1:
        raise DataError("the images of a data set passed in Python must all have one size.")
    return np.stack(images), np.array(labels, np.int64)


def _pixels(image: Any) -> NDArray[Any]:
    """One image as integers from 0 to 255."""
    if isinstance(image, Image.Image):
        return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    array = _array(image)
    if array.dtype.kind == "f":
        if array.min() < 0 or array.max() > 1:
            raise DataError(
                f"an image has values from {array.min():g} to {array.max():g}; float images must "
                "be from 0 to 1, not normalized."
            )
        array = np.round(array * 255).astype(np.uint8)
    return array[0] if array.ndim == 3 and array.shape[0] == 1 else array


def _tensors(
    split: LabeledImages, classes: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Images (n, channels, height, width), uint8, and places of the labels in `classes`, int64."""
    images = np.ascontiguousarray(split.images[order].transpose(0, 3, 1, 2))
    labels = np.searchsorted(classes, split.labels[order]).astype(np.int64)
    return torch.from_numpy(images), torch.from_numpy(labels)
