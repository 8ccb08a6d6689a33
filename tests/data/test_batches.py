import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.config import Augment
from smidgen.data import TestPart, TrainPart, ordered_batches, training_batches

PLAIN = {"mean": (0.0,), "std": (1 / 255,)}  # normalization that leaves pixels as they are


def numbered(count: int) -> TrainPart:
    """Each image's pixels are its number, and so is its label."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 6, 5).contiguous()
    return TrainPart(images, labels)


def epoch(
    part: TrainPart, batch_size: int, seed: int = 0, settings: Augment | None = None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return list(
        training_batches(
            part, batch_size=batch_size, settings=settings, generator=generator, **PLAIN
        )
    )


@given(st.integers(1, 200), st.integers(1, 250))
def test_an_epoch_has_each_image_once_in_even_batches(count: int, batch_size: int) -> None:
    batches = epoch(numbered(count), batch_size)
    assert len(batches) == math.ceil(count / batch_size)
    sizes = [len(labels) for _, labels in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == list(range(count))
    for images, labels in batches:
        assert images.dtype == torch.float32
        torch.testing.assert_close(images[:, 0, 3, 2], labels.float())


def test_epochs_differ_and_seeds_repeat_them() -> None:
    part = numbered(100)
    generator = torch.Generator().manual_seed(0)
    first, second = (
        [
            labels.tolist()
            for _, labels in training_batches(
                part, batch_size=7, settings=None, generator=generator, **PLAIN
            )
        ]
        for _ in range(2)
    )
    assert first != second
    assert [labels.tolist() for _, labels in epoch(part, 7)] == first


def test_settings_augment_and_none_does_not() -> None:
    part = numbered(50)
    moved = torch.cat([images for images, _ in epoch(part, 8, settings=Augment(translate=0.5))])
    still = torch.cat([images for images, _ in epoch(part, 8, settings=Augment())])
    plain = torch.cat([images for images, _ in epoch(part, 8)])
    assert torch.equal(still, plain)
    assert not torch.allclose(moved.sum((1, 2, 3)), plain.sum((1, 2, 3)))


@pytest.mark.parametrize("batch_size", [1, 7, 20, 500])
def test_ordered_batches_are_the_part_itself(batch_size: int) -> None:
    whole = numbered(20)
    part = TestPart(whole.images, whole.labels)
    batches = list(ordered_batches(part, batch_size=batch_size, **PLAIN))
    torch.testing.assert_close(torch.cat([images for images, _ in batches]), part.images.float())
    assert torch.equal(torch.cat([labels for _, labels in batches]), part.labels)
    assert [len(labels) for _, labels in batches[:-1]] == [batch_size] * (len(batches) - 1)
