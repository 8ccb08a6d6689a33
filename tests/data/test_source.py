from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from custom_sets import split_folder

from smidgen.config import Data, TrainTestSplit
from smidgen.data import DatasetInfo, load, open_dataset
from smidgen.data.custom import open as custom
from smidgen.errors import ConfigError


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'minst'; it must be one of mnist, digits"):
        load(Data(name="minst"))
    with pytest.raises(ConfigError, match="'minst'; it must be one of mnist, digits"):
        open_dataset(Data(name="minst"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "data must have exactly one of name, path; it has none"),
        ({"name": "mnist", "path": "x"}, "one of name, path; it has name and path"),
        (
            {"name": "mnist", "size": 32},
            "data.size, data.grayscale and data.split are for data.path",
        ),
        ({"name": "mnist", "grayscale": True}, "are for data.path only"),
        ({"path": "x", "size": 0}, "data.size is 0; it must be from 1 to 4,096"),
        ({"path": "x", "validation": -1}, "data.validation is -1; it must be 0 or more"),
    ],
)
def test_inconsistent_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Data(**fields)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_the_test_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.split\.test is .*; it must be above 0"):
        TrainTestSplit(test=share)


def test_too_large_a_validation_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="digits has 1437 training images, of which at most 1436"):
        load(Data(name="digits", validation=1437))


def test_digits_need_no_folder(tmp_path: Path) -> None:
    assert load(Data(name="digits"), data_dir=tmp_path / "nothing").name == "digits"


def test_the_info_of_digits_is_right() -> None:
    source = open_dataset("digits")
    assert source.info == source.load().info == DatasetInfo((1, 28, 28), 10)


@pytest.mark.parametrize("kind", [str, Path, lambda path: Data(path=str(path))])
def test_a_path_is_opened(
    kind: Callable[[Path], str | Path | Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dataset = load(kind(split_folder(tmp_path)))
    assert (dataset.name, dataset.image_shape) == ("pets", (1, 9, 7))


@pytest.mark.parametrize("value", ["minst", Path("nowhere"), 3, None, b"mnist", "x" * 5000])
def test_other_values_are_answered_with_what_is_allowed(value: Any) -> None:
    with pytest.raises(ConfigError, match="is neither a data set nor a path; data sets: mnist, d"):
        load(value)


@pytest.mark.parametrize("cached", [False, True])
def test_a_folder_is_scanned_once_and_the_cache_is_looked_up_once(
    cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = split_folder(tmp_path)
    if cached:
        load(path)
    calls = []
    for name in ("scan", "read_cache", "write_cache"):
        real = getattr(custom, name)

        def counted(*args: Any, _name: str = name, _real: Any = real, **kwargs: Any) -> Any:
            calls.append(_name)
            return _real(*args, **kwargs)

        monkeypatch.setattr(custom, name, counted)
    source = open_dataset(path)
    assert source.info == source.load().info
    assert calls == ["scan", "read_cache", *([] if cached else ["write_cache"])]


def test_mnist_is_the_published_data_set(mnist_folder: Path) -> None:
    dataset = load(Data(name="mnist"), data_dir=mnist_folder)
    assert dataset.validation is not None
    assert dataset.image_shape == open_dataset("mnist").info.image_shape
    assert len(dataset.classes) == open_dataset("mnist").info.num_classes
    assert [tuple(split.images.shape) for split in dataset.splits.values()] == [
        (50_000, 1, 28, 28),
        (10_000, 1, 28, 28),
        (10_000, 1, 28, 28),
    ]
    assert (dataset.mean, dataset.std) == ((0.1307,), (0.3081,))
    assert dataset.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # Known counts by class of the test set, and the known mean of the training images.
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert dataset.test.labels.bincount().tolist() == counts
    everything = load(Data(name="mnist", validation=0), data_dir=mnist_folder)
    assert everything.validation is None
    assert len(everything.train) == 60_000
    assert everything.sha256 == dataset.sha256
    assert torch.equal(everything.train.images[50_000:], dataset.validation.images)
    assert round(everything.train.images.float().mean().item() / 255, 4) == 0.1307
