"""scikit-learn's digits: 1,797 real handwritten digits of 8x8 that need no download."""

import numpy as np
import torch
from numpy.typing import NDArray

from smidgen.data.datasets import RawDataset, Split, TestSplit

_SIDE, _ENLARGED, _BORDER = 8, 20, 4
_NUM_TEST = 360


def load_digits() -> RawDataset:
    """The digits as 28x28 images: enlarged to 20x20 with 4 pixels of background around, as MNIST's.

    The last 360 are the test part; usually the 300 before them are set aside to choose by.
    """
    # It takes a second to import, and no other data set needs it.
    from sklearn.datasets import load_digits as load

    bundle = load()
    labels = torch.from_numpy(bundle.target.astype(np.int64))
    images = torch.from_numpy(enlarge(bundle.images)).unsqueeze(1)  # (1797, 1, 28, 28)
    return RawDataset(
        name="digits",
        source="embedded in scikit-learn",
        train=Split(images[:-_NUM_TEST], labels[:-_NUM_TEST]),
        test=TestSplit(images[-_NUM_TEST:], labels[-_NUM_TEST:]),
        classes=tuple(str(digit) for digit in range(10)),
        default_validation=300,
    )


def enlarge(images: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Images (n, 8, 8) of 0 to 16 as (n, 28, 28) of 0 to 255, bilinearly, pixel centres kept.

    In integers throughout, so that every machine gets the same bytes.

    >>> enlarge(np.full((1, 8, 8), 16.0))[0, 14, [3, 4, 23, 24]].tolist()
    [0, 255, 255, 0]
    """
    # Output pixel i lies at (i + 1/2) * 8/20 - 1/2 of the input: in tenths, 4i - 3.
    tenths = np.clip(4 * np.arange(_ENLARGED) - 3, 0, 10 * (_SIDE - 1))
    below, rest = tenths // 10, tenths % 10
    weights = np.zeros((_ENLARGED, _SIDE), np.int64)
    np.add.at(weights, (np.arange(_ENLARGED), below), 10 - rest)
    np.add.at(weights, (np.arange(_ENLARGED), np.minimum(below + 1, _SIDE - 1)), rest)
    enlarged = weights @ images.astype(np.int64) @ weights.T  # 0 to 16 * 10 * 10
    scaled = ((enlarged * 255 + 800) // 1600).astype(np.uint8)
    return np.pad(scaled, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER)))
