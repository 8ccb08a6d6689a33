import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smidgen.config import Augment, Data
from smidgen.data import TrainLoader, TrainSplit, load
from smidgen.errors import ConfigError, DataError


class Invert:
    def __call__(self, images: Tensor) -> Tensor:
        return 255 - images


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of transforms: a class, an object, a list, and mistakes."""
    made = types.ModuleType("stand_in")
    module: Any = made
    module.Invert, module.invert = Invert, Invert()
    module.several = [Invert(), lambda images: images.float() / 2]
    module.number = 3
    module.numbers = [3]
    module.small = lambda images: images[..., :2]
    module.text = lambda images: "not images"
    module.whole = lambda images: images.long()

    def fail(images: Tensor) -> Tensor:
        raise KeyError("flip")

    module.fail = fail
    monkeypatch.setitem(sys.modules, "stand_in", module)
    return made


def batches(name: str | None, clean: bool = False) -> Tensor:
    images = torch.arange(12 * 9, dtype=torch.uint8).view(12, 1, 3, 3)
    split = TrainSplit(images, torch.zeros(12, dtype=torch.int64), transforms=name)
    found = TrainLoader(
        split=split, batch_size=5, augment=Augment(), mean=(0.0,), std=(1 / 255,), seed=0
    )
    return torch.cat([images for images, _ in found.epoch(1, clean=clean)])


@pytest.mark.parametrize("name", ["stand_in:Invert", "stand_in:invert"])
def test_transforms_run_on_training_batches(stand_in: types.ModuleType, name: str) -> None:
    torch.testing.assert_close(batches(name), 255 - batches(None))
    assert torch.equal(batches(name, clean=True), batches(None))  # as in the last epochs


def test_several_run_one_after_the_other(stand_in: types.ModuleType) -> None:
    torch.testing.assert_close(batches("stand_in:several"), (255 - batches(None)) / 2)


def test_a_file_can_hold_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def double(images):\n    return images.float() * 2\n")
    torch.testing.assert_close(batches(f"{path}:double"), batches(None) * 2)


def test_a_file_can_import_the_files_next_to_it(tmp_path: Path) -> None:
    (tmp_path / "factor.py").write_text("FACTOR = 3\n")
    path = tmp_path / "scaling.py"
    path.write_text(
        "from factor import FACTOR\n\ndef scale(images):\n    return images.float() * FACTOR\n"
    )
    torch.testing.assert_close(batches(f"{path}:scale"), batches(None) * 3)
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stand_in", "is 'stand_in'; write FILE.py:NAME or PACKAGE.MODULE:NAME"),
        ("no_such_module:x", "there is no package or module no_such_module"),
        ("stand_in:missing", "stand_in has no missing"),
        ("stand_in:number", "3 of stand_in:number is not callable"),
        ("stand_in:numbers", "3 of stand_in:numbers is not callable"),
        ("nowhere.py:x", "there is no file nowhere.py"),
    ],
)
def test_other_objects_are_refused(stand_in: types.ModuleType, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        batches(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small", r"returns \(4, 1, 3, 2\) for \(4, 1, 3, 3\); it must return images of the same"),
        ("text", r"returns str for \(4, 1, 3, 3\)"),
        ("whole", r"returns torch\.int64; pixels must be uint8 or float"),
        ("fail", r"stand_in:fail on a batch of \(4, 1, 3, 3\) fails: .*KeyError: 'flip'"),
    ],
)
def test_the_result_of_a_transform_is_checked(
    stand_in: types.ModuleType, name: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        batches(f"stand_in:{name}")


def test_loading_a_data_set_does_not_run_them() -> None:
    data = Data(name="digits", transforms="no_such_module:x")
    dataset = load(data)
    assert dataset.train.transforms == "no_such_module:x"
    assert replace(dataset.train).to("cpu").transforms == "no_such_module:x"
    assert dataset.test.images.shape[1:] == (1, 28, 28)
