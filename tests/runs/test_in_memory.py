"""Networks and data that are passed in Python, without a file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import smidgen
from smidgen.callbacks import Callback
from smidgen.config import Data
from smidgen.data import Dataset, dataset_in_memory
from smidgen.errors import ConfigError, DataError, Interrupted, ModelError
from smidgen.record import Epoch

QUICK = smidgen.Train(epochs=1, batch_size=64)


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)


class Net(nn.Module):
    def __init__(self, num_classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 4, 5, stride=4),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(x)
        return scores


def arrays(digits: Dataset) -> tuple[np.ndarray[Any, Any], ...]:
    """The digits as numpy arrays, labels as even numbers."""
    train, test = digits.train, digits.test
    return (
        train.images[:, 0].numpy(),
        train.labels.numpy() * 2,
        test.images[:, 0].numpy(),
        test.labels.numpy() * 2,
    )


def options(tmp_path: Path) -> smidgen.RunOptions:
    return smidgen.RunOptions(out=str(tmp_path), threads=1, device="cpu", backend="eager")


def test_a_class_and_arrays_are_enough(digits: Dataset, tmp_path: Path) -> None:
    data = arrays(digits)
    result = smidgen.train(options=options(tmp_path), model=Net, data=data, settings=QUICK)
    assert result.folder == tmp_path / "Net" / "seed-0"
    record = result.record
    assert record is not None
    assert record.data.classes == tuple(str(2 * digit) for digit in range(10))
    assert (record.data.num_train, record.data.num_validation) == (948, 189)
    assert record.caveats == (
        "The network (Net) was passed in Python, so the record alone cannot repeat the run.",
        "The data set (arrays) was passed in Python, so the record alone cannot repeat the run.",
    )
    assert smidgen.check(result.folder, repeat=True, model=Net, data=data).passed
    network = smidgen.load_network(result.folder, Net)
    images = digits.test.images
    assert result.network is not None
    assert torch.equal(network(images), result.network(images))
    with pytest.raises(ConfigError, match=r"network Net was passed in Python .* model=\.\.\."):
        smidgen.load_network(result.folder)
    with pytest.raises(ConfigError, match=r"data set arrays was passed in Python .* data=\.\.\."):
        smidgen.check(result.folder, model=Net)


def test_a_network_is_copied_and_an_experiment_keeps_the_rest(
    tiny: smidgen.Experiment, tmp_path: Path
) -> None:
    network = Net(10)
    network(torch.zeros(1, 1, 28, 28))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    budget = smidgen.Budget(max_params=2_000)
    result = smidgen.train(
        tiny, options(tmp_path), model=network, name="mine", budget=budget, settings=QUICK
    )
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert result.record is not None
    assert result.record.experiment == replace(
        tiny, name="mine", budget=budget, model=smidgen.Model(in_memory="Net"), train=QUICK
    )
    assert len(result.record.caveats) == 1
    trained = smidgen.load_network(tmp_path / "mine" / "seed-0", network)
    assert not torch.equal(
        trained.network.state_dict()["layers.0.weight"], before["layers.0.weight"]
    )


def test_a_name_and_a_budget_are_arguments_too(tmp_path: Path) -> None:
    result = smidgen.train(
        options=options(tmp_path),
        model=smidgen.Model(chain="8 G"),
        data="digits",
        name="chain",
        budget=smidgen.Budget(max_params=10),
    )
    assert not result.verdict.passed
    assert result.folder is None
    assert list(tmp_path.iterdir()) == []


class Stop(Callback):
    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], Any]) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_run_needs_what_was_passed(digits: Dataset, tmp_path: Path) -> None:
    given: dict[str, Any] = {"model": Net, "data": arrays(digits)}
    settings = replace(QUICK, epochs=2)
    expected = smidgen.train(options=options(tmp_path), settings=settings, name="a", **given)
    with pytest.raises(Interrupted):
        smidgen.train(
            options=options(tmp_path), callbacks=[Stop()], settings=settings, name="b", **given
        )
    folder = tmp_path / "b" / "seed-0"
    with pytest.raises(ConfigError, match="pass it again"):
        smidgen.resume(folder)
    x_train, *others = given["data"]
    with pytest.raises(DataError, match="is not the data that the run"):
        smidgen.resume(folder, model=Net, data=(255 - x_train, *others))
    resumed = smidgen.resume(folder, **given)
    assert resumed.record is not None
    assert expected.record is not None
    assert resumed.record.weights_sha256 == expected.record.weights_sha256


class Items(torch.utils.data.Dataset[Any]):
    """A torch data set with images in one of several types."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, kind: str) -> None:
        self.images, self.labels, self.kind = images, labels, kind

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self.images[index], self.labels[index]
        types: dict[str, Any] = {
            "PIL": Image.fromarray(image[0].numpy()),
            "float": image.float() / 255,
            "uint8": image,
        }
        return types[self.kind], label


@pytest.mark.parametrize("kind", ["PIL", "float", "uint8"])
def test_torch_data_sets_and_arrays_give_the_same_data(digits: Dataset, kind: str) -> None:
    settings = Data(in_memory="arrays")
    train, test = digits.train, digits.test
    pair = [Items(split.images[:200], split.labels[:200] * 2, kind) for split in (train, test)]
    x_train, y_train, x_test, y_test = arrays(digits)
    expected = dataset_in_memory(
        {
            "x_train": x_train[:200],
            "y_train": y_train[:200],
            "x_test": torch.from_numpy(x_test[:200]),
            "y_test": torch.from_numpy(y_test[:200]),
        },
        settings,
    )
    found = dataset_in_memory(pair, settings)
    assert found.sha256 == expected.sha256
    assert torch.equal(found.test.images, test.images[:200])
    assert (found.mean, found.classes) == (expected.mean, expected.classes)
    assert found.validation is not None
    assert len(found.validation) == 33


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "data must be a Dataset, arrays"),
        ((1, 2, 3), "data must be a Dataset, arrays"),
        ({"x_train": 1}, "data must be a Dataset, arrays"),
        ((np.zeros((4, 8, 8)), [0, 1, 0, 1]) * 2, "x_train is float64; pixels must be integers"),
        ((np.zeros((4, 8, 8), "u1"), [0, 1, 0]) * 2, "x_train has 4 images and y_train 3 labels"),
        ((np.zeros((2, 8, 8), "u1"), [3, 3]) * 2, "only the label 3; at least two"),
        (
            (np.zeros((2, 8, 8), "u1"), [0, 1], np.zeros((2, 8, 8), "u1"), [0, 2]),
            "y_test has the label 2",
        ),
    ],
)
def test_unusable_data_is_refused(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset_in_memory(data, Data(in_memory="arrays"))


def test_normalized_images_are_refused() -> None:
    items = Items(torch.full((4, 1, 8, 8), 255), torch.arange(4), "float")
    items.images = items.images.float() * 3
    with pytest.raises(DataError, match="float images must be from 0 to 1, not normalized"):
        dataset_in_memory([items, items], Data(in_memory="arrays"))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({}, ConfigError, "train needs an experiment, or a model and data"),
        ({"experiment": 5}, ConfigError, "experiment is 5; it must be a name"),
        ({"experiment": "gap-6k", "options": 3}, ConfigError, "options is 3"),
        (
            {"model": "Net", "data": "digits"},
            ConfigError,
            "model is 'Net'; it must be an nn.Module",
        ),
        ({"model": "gap-7k", "data": "digits"}, ConfigError, r"gap-11k\. Did you mean gap-6k\?"),
        ({"model": "x.py:Net", "data": "digits"}, ConfigError, r"there is no file x\.py"),
        ({"model": Net, "data": "nowhere"}, ConfigError, "neither a data set nor a path"),
        ({"model": Net, "data": "digits", "settings": 3}, ConfigError, "train"),
        (
            {"model": lambda: 3, "data": "digits"},
            ModelError,
            "returns a value of type int; it must return",
        ),
    ],
)
def test_wrong_arguments_are_one_clear_error(
    given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        smidgen.train(**given)


@pytest.mark.parametrize(("model", "name"), [("4,s2 G", "chain"), ("gap-6k", "gap-6k")])
def test_a_network_in_words_makes_a_run_that_can_be_repeated(
    model: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)
    options, settings = smidgen.RunOptions(out=tmp_path, threads=1), smidgen.Train(epochs=1)
    result = smidgen.train(options=options, model=model, data="digits", settings=settings)
    assert result.folder == tmp_path / name / "seed-0"
    assert result.record is not None
    assert result.record.caveats == ()
    assert smidgen.find_experiment(result.folder / "experiment.toml") == result.record.experiment


def test_options_of_a_wrong_type_name_the_field() -> None:
    for name, value in {
        "seed": "1",
        "out": 3,
        "threads": 1.5,
        "skip_bad": 1,
        "data_dir": 2,
    }.items():
        with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} is .*; it must be "):
            smidgen.RunOptions(**{name: value})  # type: ignore[arg-type]
