import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smidgen.data.datasets import (
    Dataset,
    RawDataset,
    Split,
    TestSplit,
    TrainSplit,
    channel_statistics,
    split_validation,
)
from smidgen.errors import ConfigError, DataError


def images(count: int, channels: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, 5, 4), generator=generator, dtype=torch.uint8)


def raw_dataset(**changes: Any) -> RawDataset:
    fields: dict[str, Any] = {
        "name": "tiny",
        "source": "made for a test",
        "train": Split(images(10), torch.arange(10) % 2),
        "test": TestSplit(images(3, seed=1), torch.arange(3) % 2),
        "classes": ("even", "odd"),
        "default_validation": 4,
    }
    return RawDataset(**fields | changes)


@pytest.mark.parametrize(
    ("wrong_images", "wrong_labels", "message"),
    [
        (images(3).float(), torch.arange(3), "images are torch.float32"),
        (images(3)[:, 0], torch.arange(3), r"shape \(3, 5, 4\); they must be"),
        (images(3), torch.arange(3).int(), "labels are torch.int32"),
        (images(3), torch.zeros(3, 1, dtype=torch.int64), r"torch.int64 of shape \(3, 1\)"),
        (images(3), torch.arange(4), "3 images have 4 labels"),
        (images(3)[:0], torch.arange(0), "they are empty"),
    ],
)
def test_a_split_of_wrong_types_or_shapes_is_refused(
    wrong_images: Tensor, wrong_labels: Tensor, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        TrainSplit(wrong_images, wrong_labels)


def test_a_split_keeps_its_type_on_another_device() -> None:
    split = TestSplit(images(3), torch.arange(3)).to("meta")
    assert type(split) is TestSplit
    assert split.images.device.type == split.labels.device.type == "meta"
    assert len(split) == 3


def test_the_test_split_is_not_a_training_split() -> None:
    def train(split: TrainSplit) -> bool:
        return isinstance(split, TrainSplit)

    # mypy refuses an ignore that is not needed: that is the test.
    assert not train(raw_dataset().test)  # type: ignore[arg-type]


@pytest.mark.parametrize(("given_count", "count"), [(None, 4), (0, 0), (9, 9)])
def test_the_last_training_images_become_the_validation_split(
    given_count: int | None, count: int
) -> None:
    raw = raw_dataset()
    dataset = split_validation(raw, given_count)
    assert len(dataset.train) == 10 - count
    assert torch.equal(dataset.train.images, raw.train.images[: 10 - count])
    assert torch.equal(dataset.train.labels, raw.train.labels[: 10 - count])
    assert dataset.test is raw.test
    if count == 0:
        assert dataset.validation is None
    else:
        assert dataset.validation is not None
        assert torch.equal(dataset.validation.images, raw.train.images[10 - count :])
        assert torch.equal(dataset.validation.labels, raw.train.labels[10 - count :])


@pytest.mark.parametrize("count", [10, 11, 10**9])
def test_something_must_remain_to_train_on(count: int) -> None:
    with pytest.raises(ConfigError, match=f"{count}; tiny has 10 training images, of which at m"):
        split_validation(raw_dataset(), count)


def test_the_digest_does_not_depend_on_the_validation_split() -> None:
    raw = raw_dataset()
    content = b"".join(
        tensor.numpy().tobytes()
        for split in (raw.train, raw.test)
        for tensor in (split.images, split.labels)
    )
    digests = {split_validation(raw, count).sha256 for count in (None, 0, 9)}
    assert digests == {hashlib.sha256(content).hexdigest()}


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 1000))
def test_statistics_equal_those_of_numpy(count: int, channels: int, seed: int) -> None:
    pixels = images(count, channels, seed)
    mean, std = channel_statistics(pixels)
    scaled = pixels.numpy() / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std((0, 2, 3)), rtol=1e-9)


def test_a_constant_channel_has_a_standard_deviation_of_1() -> None:
    assert channel_statistics(torch.zeros(2, 1, 3, 3, dtype=torch.uint8)) == ((0.0,), (1.0,))


def test_statistics_are_known_or_of_the_training_split() -> None:
    dataset = split_validation(raw_dataset(), 4)
    assert (dataset.mean, dataset.std) == channel_statistics(images(10)[:6])
    usual = split_validation(raw_dataset(mean_and_std=((0.5,), (0.25,))), 4)
    assert (usual.mean, usual.std) == ((0.5,), (0.25,))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (TestSplit(images(2, channels=3), torch.arange(2)), "tiny: images differ in shape"),
        (TestSplit(images(2), torch.tensor([0, 2])), "labels go from 0 to 2; with 2 classes"),
        (TestSplit(images(2), torch.tensor([-1, 1])), "labels go from -1 to 1"),
    ],
)
def test_inconsistent_splits_are_refused(test: TestSplit, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_validation(raw_dataset(test=test), 4)


@pytest.mark.parametrize("count", [0, 4])
def test_a_data_set_moves_with_all_its_splits(count: int) -> None:
    dataset = split_validation(raw_dataset(), count)
    moved = dataset.to("cpu")
    assert (moved.sha256, moved.mean) == (dataset.sha256, dataset.mean)
    assert torch.equal(moved.train.images, dataset.train.images)
    assert (moved.validation is None) == (count == 0)
    assert type(moved.test) is TestSplit


def test_a_data_set_is_frozen() -> None:
    dataset: Dataset = split_validation(raw_dataset(), 4)
    with pytest.raises(AttributeError):
        dataset.name = "other"  # type: ignore[misc]
