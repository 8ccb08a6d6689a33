"""scikit-learn's digits: 1,797 real handwritten digits of 8x8 that need no download."""

import numpy as np
import torch
from numpy.typing import NDArray

from smidgen.data.datasets import Split, TestSplit

_SIDE, _ENLARGED, _BORDER = 8, 20, 4
NUM_TRAIN, NUM_TEST = 1437, 360


def load_digits() -> tuple[Split, TestSplit]:
    """Load the digits as 28x28 images: enlarged to 20x20, with a border of 4 pixels, as MNIST."""
    # Importing it takes a second, and no other data set needs it.
    from sklearn.datasets import load_digits as load

    bundle = load()
    labels = torch.from_numpy(bundle.target.astype(np.int64))
    images = torch.from_numpy(enlarge(bundle.images)).unsqueeze(1)  # (1797, 1, 28, 28)
    return (
        Split(images[:NUM_TRAIN], labels[:NUM_TRAIN]),
        TestSplit(images[NUM_TRAIN:], labels[NUM_TRAIN:]),
    )


def enlarge(images: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Resize images (n, 8, 8) of 0 to 16 to (n, 28, 28) of 0 to 255, bilinearly.

    The arithmetic is in integers, so that every machine gets the same bytes.

    >>> enlarge(np.full((1, 8, 8), 16.0))[0, 14, [3, 4, 23, 24]].tolist()
    [0, 255, 255, 0]
    """
    # Output pixel i is at (i + 1/2) * 8/20 - 1/2 of the input: in tenths, 4i - 3.
    tenths = np.clip(4 * np.arange(_ENLARGED) - 3, 0, 10 * (_SIDE - 1))
    below, rest = tenths // 10, tenths % 10
    weights = np.zeros((_ENLARGED, _SIDE), np.int64)
    np.add.at(weights, (np.arange(_ENLARGED), below), 10 - rest)
    np.add.at(weights, (np.arange(_ENLARGED), np.minimum(below + 1, _SIDE - 1)), rest)
    enlarged = weights @ images.astype(np.int64) @ weights.T  # 0 to 16 * 10 * 10
    scaled = ((enlarged * 255 + 800) // 1600).astype(np.uint8)
    return np.pad(scaled, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER)))
