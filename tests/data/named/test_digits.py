import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits as sklearn_digits

from smidgen.config import Data
from smidgen.data import load
from smidgen.data.datasets import channel_statistics


def test_digits_are_framed_like_mnist() -> None:
    dataset = load(Data(name="digits"))
    assert dataset.validation is not None
    assert [len(split) for split in dataset.splits.values()] == [1137, 300, 360]
    assert dataset.classes == tuple("0123456789")
    assert dataset.source == "embedded in scikit-learn"
    assert (dataset.mean, dataset.std) == channel_statistics(dataset.train.images)
    for split in dataset.splits.values():
        assert split.images.shape[1:] == (1, 28, 28)
        assert split.images.max() == 255
        border = split.images.clone()
        border[..., 4:24, 4:24] = 0
        assert border.max() == 0


def test_digits_equal_those_of_scikit_learn_enlarged_by_torch() -> None:
    bundle = sklearn_digits()
    dataset = load(Data(name="digits", validation=0))
    assert dataset.validation is None
    images = torch.cat([dataset.train.images, dataset.test.images])
    labels = torch.cat([dataset.train.labels, dataset.test.labels])
    raw = torch.from_numpy(bundle.images).unsqueeze(1) * (255 / 16)
    expected = F.pad(F.interpolate(raw, (20, 20), mode="bilinear"), (4, 4, 4, 4))
    assert (images.double() - expected).abs().max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(labels.numpy(), bundle.target)


def test_digits_are_the_same_bytes_everywhere() -> None:
    digests = {load(Data(name="digits", validation=count)).sha256 for count in (None, 0)}
    assert digests == {"cf95290c3c89d28e9d96c6d4fc5eb119d0565893afdefcf4b1aaf8953731be50"}
