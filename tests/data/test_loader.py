import math
import sys
import types
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.config import Augment
from smidgen.data import TestSplit, TrainLoader, TrainSplit, eval_batches

PLAIN: dict[str, Any] = {"mean": (0.0,), "std": (1 / 255,)}  # leaves pixels as they are


def numbered(count: int) -> TrainSplit:
    """Each image's pixels are its number, and so is its label."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 6, 5).contiguous()
    return TrainSplit(images, labels)


def batches(
    count: int, batch_size: int, seed: int = 0, augment: Augment | None = None
) -> TrainLoader:
    return TrainLoader(
        split=numbered(count),
        batch_size=batch_size,
        augment=augment or Augment(),
        seed=seed,
        **PLAIN,
    )


def order(found: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> list[list[int]]:
    return [labels.tolist() for _, labels in found]


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 250))
def test_an_epoch_has_each_image_once_in_even_batches(count: int, batch_size: int) -> None:
    loader = batches(count, batch_size)
    found = list(loader.epoch(1))
    assert len(found) == len(loader) == math.ceil(count / batch_size)
    sizes = [len(labels) for _, labels in found]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sorted(torch.cat([labels for _, labels in found]).tolist()) == list(range(count))
    for images, labels in found:
        assert images.dtype == torch.float32
        torch.testing.assert_close(images[:, 0, 3, 2], labels.float())


def test_epochs_differ_and_seeds_repeat_them() -> None:
    loader = batches(100, 7)
    first, second = order(loader.epoch(1)), order(loader.epoch(2))
    assert first != second
    assert order(loader.epoch(1)) == first
    assert order(batches(100, 7).epoch(2)) == second
    assert order(batches(100, 7, seed=1).epoch(1)) != first


@pytest.mark.parametrize("start", [0, 1, 6, 7])
def test_an_epoch_resumes_at_any_batch(start: int) -> None:
    loader = batches(50, 8, augment=Augment(translate=0.3, rotate=10))
    expected = list(loader.epoch(3))[start:]
    torch.rand(5)
    for (images, labels), (expected_images, expected_labels) in zip(
        loader.epoch(3, start=start), expected, strict=True
    ):
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)


def test_batches_do_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    list(batches(20, 7, augment=Augment(translate=0.3)).epoch(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("clean", [False, True])
def test_a_backend_prepares_the_images(clean: bool, edge: bool) -> None:
    asked = []

    def prepare(
        images: torch.Tensor, chosen: torch.Tensor, maps: torch.Tensor | None, **settings: Any
    ) -> torch.Tensor:
        asked.append((chosen, maps, settings))
        return images[chosen].float() + 1000

    split = replace(numbered(50), background="edge" if edge else "black")
    loader = replace(batches(50, 8, augment=Augment(translate=0.3)), split=split, prepare=prepare)
    found = list(loader.epoch(1, clean=clean))
    assert len(asked) == len(found) == 7
    for (images, labels), (chosen, maps, options) in zip(found, asked, strict=True):
        torch.testing.assert_close(images[:, 0, 3, 2], labels.float() + 1000)
        assert torch.equal(chosen, labels)  # numbered images
        assert (maps is None) == clean
        assert maps is None or maps.shape == (len(chosen), 2, 3)
        assert options == {"mean": (0.0,), "std": (1 / 255,), "edge": edge}


def test_user_transforms_are_not_for_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **settings: object) -> torch.Tensor:
        pytest.fail("the backend cannot run user transforms")

    module = types.ModuleType("negation")
    monkeypatch.setattr(module, "negate", lambda images: 255 - images, raising=False)
    monkeypatch.setitem(sys.modules, "negation", module)
    loader = replace(
        batches(20, 7), split=replace(numbered(20), transforms="negation:negate"), prepare=refuse
    )
    for images, labels in loader.epoch(1):
        torch.testing.assert_close(images[:, 0, 0, 0], 255 - labels.float())


def test_settings_augment_and_a_clean_epoch_does_not() -> None:
    def images(augment: Augment, clean: bool = False) -> torch.Tensor:
        found = batches(50, 8, augment=augment).epoch(1, clean=clean)
        return torch.cat([images for images, _ in found])

    plain, moved = images(Augment()), Augment(translate=0.5)
    assert torch.equal(images(moved, clean=True), plain)
    assert not torch.allclose(images(moved).sum((1, 2, 3)), plain.sum((1, 2, 3)))


@pytest.mark.parametrize("batch_size", [1, 7, 20, 500])
def test_evaluation_batches_are_the_split_in_order(batch_size: int) -> None:
    loader = numbered(20)
    split = TestSplit(loader.images, loader.labels)
    found = list(eval_batches(split, batch_size=batch_size, **PLAIN))
    torch.testing.assert_close(torch.cat([images for images, _ in found]), split.images.float())
    assert torch.equal(torch.cat([labels for _, labels in found]), split.labels)
    assert [len(labels) for _, labels in found[:-1]] == [batch_size] * (len(found) - 1)
