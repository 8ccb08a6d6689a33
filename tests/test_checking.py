import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from smidgen.checking import Check, check
from smidgen.errors import ModelError, RecordError
from smidgen.record import RunRecord


def edit(folder: Path, **changes: object) -> None:
    """Put values into run.json; `test__score__loss` is the loss of the score of the test."""
    path = folder / "run.json"
    plain = json.loads(path.read_text())
    for place, value in changes.items():
        *above, name = place.split("__")
        table: Any = plain
        for key in above:
            table = table[int(key) if key.isdigit() else key]
        last = int(name) if name.isdigit() else name
        assert table[last] != value
        table[last] = value
    path.write_text(json.dumps(plain))


def names(found: Check) -> list[str]:
    return [line.partition(":")[0] for line in found.differences]


def test_an_untouched_run_passes(finished_folder: Path, record: RunRecord) -> None:
    found = check(finished_folder)
    assert found.passed
    assert found.differences == ()
    assert found.verdict == record.verdict
    assert found.record == record


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"test__score__accuracy": 0.99}, {"test accuracy"}),
        ({"test__score__loss": 0.01}, {"test loss"}),
        ({"test__num_images": 361}, {"test images"}),
        ({"test__num_correct": 359}, {"right test images"}),
        ({"test__confusion__0": [36] * 10}, {"confusion matrix"}),
        ({"test_looks": 2}, {"looks at the test set"}),
        ({"profile__num_params": 7}, {"profile", "parameters"}),
        ({"profile__layers__0__macs": 7}, {"profile"}),
        ({"profile__peak_activation_bytes": 7}, {"profile"}),
        ({"weights_sha256": "0" * 64}, {"weights' SHA-256"}),
        ({"data__sha256": "0" * 64}, {"data's SHA-256", "data"}),
        ({"data__mean": [0.3]}, {"data"}),
        ({"data__num_test": 10_000}, {"data"}),
        ({"verdict__limits__0__figure": 7}, {"verdict"}),
        ({"verdict__limits": []}, {"verdict"}),
        ({"epochs": []}, {"epochs", "verdict"}),
        (
            {"experiment__train__epochs": 1, "experiment__data__augment__clean_epochs": 0},
            {"epochs"},
        ),
    ],
)
def test_an_edited_figure_is_noticed(
    spoilable: Path, changes: dict[str, object], differing: set[str]
) -> None:
    edit(spoilable, **changes)
    found = check(spoilable)
    assert set(names(found)) == differing
    assert not found.passed


def test_a_figure_that_differs_is_shown_with_the_recorded_one(
    spoilable: Path, record: RunRecord
) -> None:
    edit(spoilable, profile__num_params=7)
    line = f"parameters: {record.profile.num_params} now, 7 in the record"
    assert line in check(spoilable).differences


def test_a_budget_that_was_tightened_is_missed(spoilable: Path) -> None:
    edit(spoilable, experiment__budget__min_accuracy=1.0)
    found = check(spoilable)
    assert [line.limit for line in found.verdict.limits if not line.passed] == ["min_accuracy"]
    assert not found.passed


def rewrite(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[bytes], bytes]:
    def rewritten(content: bytes) -> bytes:
        tensors = safetensors.torch.load(content)
        change(tensors)
        return safetensors.torch.save(tensors)

    return rewritten


def shuffle(tensors: dict[str, torch.Tensor]) -> None:
    tensors["0.0.weight"] = tensors["0.0.weight"].flip(0)


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["0.0.weight"]


def widen(tensors: dict[str, torch.Tensor]) -> None:
    tensors["0.0.weight"] = torch.zeros(7, 1, 3, 3)


def ruin(tensors: dict[str, torch.Tensor]) -> None:
    tensors["0.0.weight"] = torch.full_like(tensors["0.0.weight"], float("nan"))


def test_swapped_weights_are_noticed(spoilable: Path) -> None:
    path = spoilable / "weights.safetensors"
    path.write_bytes(rewrite(shuffle)(path.read_bytes()))
    found = check(spoilable)
    assert {"weights' SHA-256", "confusion matrix"} <= set(names(found))
    assert not found.passed


def test_weights_that_say_the_same_in_other_bytes_are_noticed(spoilable: Path) -> None:
    path = spoilable / "weights.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save(tensors, metadata={"by": "somebody"}))
    assert names(check(spoilable)) == ["weights' SHA-256"]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda content: content[:-1], RecordError, r"weights.safetensors is damaged: "),
        (lambda content: content[:40], RecordError, "is damaged"),
        (lambda _: b"", RecordError, "is damaged"),
        (lambda _: b"garbage" * 100, RecordError, "is damaged"),
        (rewrite(drop), RecordError, "holds the weights of another network"),
        (rewrite(widen), RecordError, "holds the weights of another network"),
        (rewrite(ruin), ModelError, "loss on a set of 360 images is nan"),
    ],
)
def test_weights_that_are_none_are_an_error(
    spoilable: Path, change: Callable[[bytes], bytes], kind: type[Exception], message: str
) -> None:
    path = spoilable / "weights.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(kind, match=message):
        check(spoilable)


def test_missing_weights_are_an_error(spoilable: Path) -> None:
    (spoilable / "weights.safetensors").unlink()
    with pytest.raises(RecordError, match=r"weights.safetensors cannot be read: No such file"):
        check(spoilable)


@pytest.mark.parametrize(
    "changes",
    [{"data__image_shape": [1, 14, 14]}, {"data__classes": ["one"]}, {"data__classes": []}],
)
def test_a_record_of_other_images_than_its_data_s_is_damaged(
    spoilable: Path, changes: dict[str, object]
) -> None:
    edit(spoilable, **changes)
    with pytest.raises(RecordError, match=r"run.json is damaged: it says images of"):
        check(spoilable)
