from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from forging import forge

from smidgen.cli.display import Display
from smidgen.config import Experiment
from smidgen.data import Dataset
from smidgen.errors import ModelError, RecordError
from smidgen.record import RunRecord, format_epoch, read_record
from smidgen.runs.check import CheckResult, check
from smidgen.runs.options import RunOptions
from smidgen.runs.run import run

METRICS_DIFFER = "metrics.jsonl differs from the record's epochs"
TOML_DIFFERS = "experiment.toml is not the record's experiment"


def edit(folder: Path, **changes: object) -> None:
    """Put values into run.json, and a digest that fits.

    `test__score__loss` is the loss of the score of the test.
    """

    def change(plain: Any) -> None:
        for place, value in changes.items():
            *above, name = place.split("__")
            table: Any = plain
            for key in above:
                table = table[int(key) if key.isdigit() else key]
            last = int(name) if name.isdigit() else name
            assert table[last] != value
            table[last] = value

    forge(folder, change)


def names(found: CheckResult) -> list[str]:
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
        ({"test__num_correct": 359}, {"correct test images"}),
        ({"test__confusion__0": [36] * 10}, {"confusion matrix"}),
        ({"test_looks": 2}, {"looks at the test set"}),
        ({"profile__num_params": 7}, {"profile", "parameters"}),
        ({"profile__layers__0__macs": 7}, {"profile"}),
        ({"profile__peak_activation_bytes": 7}, {"profile"}),
        ({"weights_sha256": "0" * 64}, {"weights' SHA-256"}),
        ({"data__sha256": "0" * 64}, {"data's SHA-256", "data"}),
        ({"data__mean": [0.3]}, {"data"}),
        ({"data__num_test": 10_000}, {"data"}),
        ({"verdict__limits__0__value": 7}, {"verdict"}),
        ({"verdict__limits": []}, {"verdict"}),
        ({"epochs__0__epoch": 2}, {"epoch numbers", METRICS_DIFFER}),
        ({"epochs__1__train__loss": 0.01}, {METRICS_DIFFER}),
        ({"epochs__1__validation__accuracy": 0.99}, {METRICS_DIFFER}),
        (
            {"experiment__train__epochs": 1, "experiment__data__augment__no_aug_epochs": 0},
            {"epochs", TOML_DIFFERS},
        ),
    ],
)
def test_an_edited_value_is_noticed(
    run_copy: Path, changes: dict[str, object], differing: set[str]
) -> None:
    edit(run_copy, **changes)
    found = check(run_copy)
    assert set(names(found)) == differing
    assert not found.passed


def test_a_differing_value_is_shown_with_the_recorded_one(
    run_copy: Path, record: RunRecord
) -> None:
    edit(run_copy, profile__num_params=7)
    line = f"parameters: {record.profile.num_params} now, 7 in the record"
    assert line in check(run_copy).differences


def test_a_budget_that_was_tightened_is_missed(run_copy: Path) -> None:
    edit(run_copy, experiment__budget__min_accuracy=1.0)
    found = check(run_copy)
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


def test_swapped_weights_are_noticed(run_copy: Path) -> None:
    path = run_copy / "weights.safetensors"
    path.write_bytes(rewrite(shuffle)(path.read_bytes()))
    found = check(run_copy)
    assert {"weights' SHA-256", "confusion matrix"} <= set(names(found))
    assert not found.passed


def test_equal_weights_in_other_bytes_are_noticed(run_copy: Path) -> None:
    path = run_copy / "weights.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save(tensors, metadata={"by": "somebody"}))
    assert names(check(run_copy)) == ["weights' SHA-256"]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda content: content[:-1], RecordError, r"weights.safetensors is damaged: "),
        (lambda content: content[:40], RecordError, "is damaged"),
        (lambda _: b"", RecordError, "is damaged"),
        (lambda _: b"garbage" * 100, RecordError, "is damaged"),
        (rewrite(drop), RecordError, "holds the weights of another network"),
        (rewrite(widen), RecordError, "holds the weights of another network"),
        (rewrite(ruin), ModelError, "loss on 360 images is nan"),
    ],
)
def test_weights_of_another_format_are_an_error(
    run_copy: Path, change: Callable[[bytes], bytes], kind: type[Exception], message: str
) -> None:
    path = run_copy / "weights.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(kind, match=message):
        check(run_copy)


def test_missing_weights_are_an_error(run_copy: Path) -> None:
    (run_copy / "weights.safetensors").unlink()
    with pytest.raises(RecordError, match=r"weights.safetensors cannot be read: No such file"):
        check(run_copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"data__image_shape": [1, 14, 14]},
        {"data__classes": ["one"]},
        {"data__classes": []},
        {"epochs": []},
    ],
)
def test_a_record_that_contradicts_itself_is_damaged(
    run_copy: Path, changes: dict[str, object]
) -> None:
    edit(run_copy, **changes)
    with pytest.raises(
        RecordError,
        match=r"run.json is damaged: it (says images of|has a confusion matrix of|has no epochs)",
    ):
        check(run_copy)


# ------------------------------------------------------------------------- the folder's other files


def test_an_edited_record_is_reported_and_still_checked(run_copy: Path, record: RunRecord) -> None:
    path = run_copy / "run.json"
    right = f'"num_correct": {record.test.num_correct}'
    path.write_text(path.read_text().replace(right, '"num_correct": 7'))
    found = check(run_copy)
    assert names(found) == ["correct test images", "run.json was edited"]
    assert not found.passed


def test_a_reformatted_record_counts_as_edited(run_copy: Path, record: RunRecord) -> None:
    path = run_copy / "run.json"
    path.write_text(path.read_text() + "\n")
    found = check(run_copy)
    assert names(found) == ["run.json was edited"]
    assert found.record == record


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"0.", b"0.1", 1),
        lambda content: content[: content.index(b"\n") + 1],
        lambda content: content * 2,
        lambda _: b"\xff",
    ],
)
def test_edited_metrics_are_noticed(run_copy: Path, change: Callable[[bytes], bytes]) -> None:
    path = run_copy / "metrics.jsonl"
    path.write_bytes(change(path.read_bytes()))
    assert check(run_copy).differences == (METRICS_DIFFER,)


def test_changed_diagnostics_are_noticed(run_copy: Path) -> None:
    path = run_copy / "diagnostics.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert names(check(run_copy)) == ["diagnostics.safetensors' SHA-256"]


def test_an_edited_experiment_is_noticed_but_not_its_texts(
    run_copy: Path, tiny: Experiment
) -> None:
    path = run_copy / "experiment.toml"
    path.write_text(replace(tiny, analysis="It learns.", target="Other.").to_toml())
    assert check(run_copy).passed
    path.write_text(replace(tiny, train=replace(tiny.train, batch_size=16)).to_toml())
    assert names(check(run_copy)) == [TOML_DIFFERS]
    path.write_text("nonsense")
    (said,) = check(run_copy).differences
    assert "experiment.toml" in said


def test_edited_times_are_noticed(run_copy: Path) -> None:
    path = run_copy / "times.json"
    path.write_text(path.read_text().replace('"stops": 0', '"stops": 1'))
    (said,) = check(run_copy).differences
    assert "times.json was changed after it was written" in said


def test_files_that_only_repeat_the_record_may_be_missing(run_copy: Path) -> None:
    for name in ("metrics.jsonl", "diagnostics.safetensors", "experiment.toml", "times.json"):
        (run_copy / name).unlink()
    assert check(run_copy).passed


# ------------------------------------------------------------------------------------------ repeat


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the report out: drawing it takes longer than these trainings."""
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)


@pytest.mark.usefixtures("no_report")
def test_an_untouched_run_comes_out_again(finished_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_folder.rglob("*")}
    assert check(finished_folder, repeat=True).passed
    assert {path: path.stat().st_mtime_ns for path in finished_folder.rglob("*")} == before


@pytest.mark.usefixtures("no_report")
def test_a_run_without_scores_by_step_is_repeated_too(run_copy: Path) -> None:
    """A version before this one did not note them."""

    def leave_out(plain: Any) -> None:
        for epoch in plain["epochs"]:
            del epoch["steps"]

    forge(run_copy, leave_out)
    epochs = read_record(run_copy).epochs
    assert [epoch.steps for epoch in epochs] == [None, None]
    (run_copy / "metrics.jsonl").write_text("".join(map(format_epoch, epochs)))
    assert check(run_copy, repeat=True).passed


def test_callbacks_see_the_run_that_is_trained_again(
    finished_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(finished_folder, repeat=True, callbacks=[Display()])
    epochs = len(read_record(finished_folder).epochs)
    assert f"{epochs}/{epochs} " in capsys.readouterr().out


@pytest.fixture
def forged(run_copy: Path, tiny: Experiment, digits: Dataset, tmp_path: Path) -> Path:
    """A run with seed 4 that claims to have seed 3, with consistent digests and values."""
    other = run(tiny, RunOptions(seed=4, out=tmp_path / "out", threads=1), dataset=digits).folder
    assert other is not None
    forge(other, lambda plain: plain.update(seed=3, command=read_record(run_copy).command))
    return other


@pytest.mark.usefixtures("no_report")
def test_only_a_repetition_finds_what_is_forged_throughout(forged: Path) -> None:
    assert check(forged).passed
    found = check(forged, repeat=True)
    assert names(found) == ["trained again", "trained again"]
    assert [line.split(": ")[1] for line in found.differences] == ["weights' SHA-256", "epochs"]
    assert not found.passed


@pytest.mark.usefixtures("no_report")
def test_a_repetition_that_differs_names_what_has_changed_in_the_environment(forged: Path) -> None:
    def with_another_compiler(plain: Any) -> None:
        plain["environment"] |= {"compiler": "g++ 1.0", "kernels_sha256": "0" * 64}

    forge(forged, with_another_compiler)
    line = check(forged, repeat=True).differences[-1]
    assert line.startswith("trained again with kernels_sha256 ")
    assert f"instead of {'0' * 64}" in line
    assert line.endswith("instead of g++ 1.0")


@pytest.mark.usefixtures("no_report")
def test_metrics_that_are_forged_are_found_by_a_repetition(
    run_copy: Path, record: RunRecord
) -> None:
    edit(run_copy, epochs__0__train__accuracy=0.99)
    lines = map(format_epoch, read_record(run_copy).epochs)
    (run_copy / "metrics.jsonl").write_text("".join(lines))
    assert check(run_copy).passed
    assert check(run_copy, repeat=True).differences == ("trained again: epochs",)
