"""From the files of the named data sets to images and labels."""

import gzip
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smidgen.data.datasets import Split, TestSplit
from smidgen.data.idx import parse_idx, parse_idx_int32
from smidgen.data.named.files import Contents
from smidgen.errors import DataError

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
QMNIST_FILES = (
    "qmnist-train-images-idx3-ubyte",
    "qmnist-train-labels-idx2-int",
    "qmnist-test-images-idx3-ubyte",
    "qmnist-test-labels-idx2-int",
)


def emnist_files(kind: str) -> tuple[str, ...]:
    """The names of the four files in EMNIST's archive."""
    return tuple(
        f"gzip/emnist-{kind}-{split}-{what}-ubyte.gz"
        for split in ("train", "test")
        for what in ("images-idx3", "labels-idx1")
    )


def decode_idx(contents: Contents) -> tuple[Split, TestSplit]:
    """Decode four IDX files of MNIST's names."""
    return _splits(*(parse_idx(contents[name], name) for name in IDX_FILES))


def decode_qmnist(contents: Contents) -> tuple[Split, TestSplit]:
    """Decode the training digits and the first 10,000 test digits, which are MNIST's.

    Labels have eight columns: the class, then who wrote it when and where.
    """
    images, labels, test_images, test_labels = (contents[name] for name in QMNIST_FILES)
    return _splits(
        parse_idx(images, QMNIST_FILES[0]),
        parse_idx_int32(labels, QMNIST_FILES[1])[:, 0],
        parse_idx(test_images, QMNIST_FILES[2])[:10_000],
        parse_idx_int32(test_labels, QMNIST_FILES[3])[:10_000, 0],
    )


def decode_qmnist_extra(contents: Contents) -> TestSplit:
    """Decode the test digits that MNIST does not have: all but the first 10,000.

    Raises:
        DataError: there are no more than 10,000.
    """
    images, labels = (contents[name] for name in QMNIST_FILES[2:])
    extra = parse_idx(images, QMNIST_FILES[2])[10_000:]
    if not len(extra):
        raise DataError(f"{QMNIST_FILES[2]} holds no more than 10,000 digits.")
    classes = parse_idx_int32(labels, QMNIST_FILES[3])[10_000:, 0]
    return TestSplit(torch.from_numpy(extra).unsqueeze(1), _labels(classes))


def decode_emnist(kind: str) -> Callable[[Contents], tuple[Split, TestSplit]]:
    """A decoder for one of EMNIST's sets: images are transposed, letters count from 1."""
    first = 1 if kind == "letters" else 0

    def decode(contents: Contents) -> tuple[Split, TestSplit]:
        images, labels, test_images, test_labels = (
            parse_idx(gzip.decompress(contents[name]), name) for name in emnist_files(kind)
        )
        return _splits(
            np.ascontiguousarray(images.transpose(0, 2, 1)),
            labels.astype(np.int64) - first,
            np.ascontiguousarray(test_images.transpose(0, 2, 1)),
            test_labels.astype(np.int64) - first,
        )

    return decode


def decode_cifar(
    train: Sequence[str], test: str, label_bytes: int
) -> Callable[[Contents], tuple[Split, TestSplit]]:
    """A decoder for the binary version: records of labels, of which the last counts, and pixels."""

    def decode(contents: Contents) -> tuple[Split, TestSplit]:
        images, labels = _cifar(b"".join(contents[name] for name in train), label_bytes)
        test_images, test_labels = _cifar(contents[test], label_bytes)
        return Split(images, labels), TestSplit(test_images, test_labels)

    return decode


def _cifar(content: bytes, label_bytes: int) -> tuple[torch.Tensor, torch.Tensor]:
    records = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + 3 * 32 * 32)
    images = records[:, label_bytes:].reshape(-1, 3, 32, 32).copy()
    return torch.from_numpy(images), _labels(records[:, label_bytes - 1])


def _splits(
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    test_images: NDArray[np.uint8],
    test_labels: NDArray[Any],
) -> tuple[Split, TestSplit]:
    return (
        Split(torch.from_numpy(images).unsqueeze(1), _labels(labels)),  # (images, 1, height, width)
        TestSplit(torch.from_numpy(test_images).unsqueeze(1), _labels(test_labels)),
    )


def _labels(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64))
