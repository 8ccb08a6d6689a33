"""Stratified splits and orders that depend on nothing but names, labels and a seed.

So they are the same on every machine, and a file that is added moves few others.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smidgen.errors import DataError

Indices = NDArray[np.int64]


def stratified_split(
    labels: Indices, names: Sequence[str], test_share: float, seed: int
) -> tuple[Indices, Indices]:
    """Indices of training and of test images; `test_share` of each class is for testing.

    Each class keeps at least one image in both splits; a class of one image is trained on.

    Raises:
        DataError: no class has two images.
    """
    order, ranks, counts = _shuffle_by_class(labels, names, seed)
    num_test = np.maximum(np.round(counts * test_share), 1).clip(max=counts - 1)
    in_test = ranks < num_test
    if not in_test.any():
        raise DataError("each class has only one image, so none is left to test on.")
    return np.sort(order[~in_test]), np.sort(order[in_test])


def interleave_classes(labels: Indices, names: Sequence[str], seed: int) -> Indices:
    """All indices, shuffled, so that any stretch of them holds each class's share.

    >>> interleave_classes(np.array([0, 0, 0, 0, 1, 1]), list("abcdef"), seed=0) // 4
    array([0, 1, 0, 0, 1, 0])
    """
    order, ranks, counts = _shuffle_by_class(labels, names, seed)
    return order[np.lexsort((labels[order], (ranks + 0.5) / counts))]


def _shuffle_by_class(
    labels: Indices, names: Sequence[str], seed: int
) -> tuple[Indices, Indices, Indices]:
    """Indices by class, shuffled within it; the rank of each in its class; the class's size."""
    keys = [hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest() for name in names]
    numbers = np.frombuffer(b"".join(keys), ">u8").astype(np.uint64)
    order = np.lexsort((numbers, labels))
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ranks = np.arange(len(order)) - np.repeat(starts, counts)
    return order, ranks, np.repeat(counts, counts)
