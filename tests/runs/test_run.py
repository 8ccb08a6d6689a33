import errno
import hashlib
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from PIL import Image

from smidgen._storage.locks import locked
from smidgen.callbacks import Callback, RunInfo, TrainState
from smidgen.cli import main
from smidgen.config import (
    Augment,
    Average,
    Budget,
    Data,
    Experiment,
    Model,
    Optimizer,
    Schedule,
    read_experiment,
)
from smidgen.data import Dataset, load
from smidgen.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    DataError,
    Interrupted,
    ModelError,
    SmidgenError,
)
from smidgen.evaluate import evaluate_split
from smidgen.kernels import Unsupported
from smidgen.kernels.build import load_library
from smidgen.record import Epoch, RunRecord, format_epoch, read_record, read_times
from smidgen.runs import checkpointer, network
from smidgen.runs import run as module
from smidgen.runs import train as entry
from smidgen.runs.options import RunOptions
from smidgen.runs.predict import predict
from smidgen.runs.result import RunResult
from smidgen.runs.run import find_interrupted, resume, run
from smidgen.training import backends, device


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the report: drawing it takes longer than this training."""
    monkeypatch.setattr(entry, "write_report", lambda *_: None)


LAST_WEIGHTS = Average(name="none")
EXACT = ("weights.safetensors", "metrics.jsonl", "run.json", "diagnostics.safetensors")


def contents(folder: Path) -> dict[str, bytes]:
    """The files that are the same, byte for byte, however often the run was stopped."""
    return {name: (folder / name).read_bytes() for name in (*EXACT, "experiment.toml")}


class Recorder(Callback):
    """Remembers its calls; interrupts the run after epoch `stop_after`."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop_after = stop_after
        self.messages: list[str] = []
        self.completed: list[int] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_train_start(self, run: RunInfo) -> None:
        self.completed = [epoch.epoch for epoch, _ in run.completed]

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        if epoch.epoch == self.stop_after:
            raise KeyboardInterrupt


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def quick(tiny: Experiment, **changes: Any) -> Experiment:
    """One epoch of the tiny experiment, without limits."""
    train = replace(tiny.train, epochs=1, **changes)
    data = replace(tiny.data, augment=Augment())
    return replace(tiny, budget=Budget(), train=train, data=data)


def test_the_folder_has_all_files(finished: RunResult) -> None:
    assert finished.folder is not None
    assert finished.folder.parts[-2:] == ("tiny", "seed-3")
    expected = {"experiment.toml", "run.json", "metrics.jsonl", "weights.safetensors", "report.md"}
    assert expected <= files(finished.folder)
    assert not [name for name in files(finished.folder) if name.startswith(".")]


def test_the_record_says_what_was_done(
    finished: RunResult, finished_folder: Path, record: RunRecord, tiny: Experiment, digits: Dataset
) -> None:
    assert record.experiment == tiny == read_experiment(finished_folder / "experiment.toml")
    assert (record.seed, len(record.epochs), record.test_looks) == (3, 2, 1)
    assert (record.data.num_train, record.data.num_validation) == (1137, 300)
    assert (record.data.sha256, record.data.mean) == (digits.sha256, digits.mean)
    content = (finished_folder / "weights.safetensors").read_bytes()
    assert record.weights_sha256 == hashlib.sha256(content).hexdigest()
    assert finished.verdict == record.verdict
    values = {line.limit: line.value for line in record.verdict.limits}
    assert values == {
        "max_params": record.profile.num_params,
        "max_epochs": 2,
        "min_accuracy": record.test.score.accuracy,
    }


def test_metrics_are_the_record_s_epochs(finished_folder: Path, record: RunRecord) -> None:
    lines = (finished_folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert lines == [format_epoch(epoch) for epoch in record.epochs]
    assert all(epoch.validation is not None and epoch.test is None for epoch in record.epochs)


@pytest.mark.usefixtures("no_report")
def test_the_command_in_the_record_repeats_it(
    record: RunRecord, finished_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *words = shlex.split(record.command)
    monkeypatch.chdir(finished_folder)
    assert program == "smidgen"
    assert main([*words, "--out", str(tmp_path), "--quiet"]) == 0
    again = read_record(tmp_path / "tiny" / "seed-3")
    assert again.weights_sha256 == record.weights_sha256
    assert again.experiment == record.experiment
    assert again.test == record.test
    assert contents(tmp_path / "tiny" / "seed-3") == contents(finished_folder)


@pytest.mark.usefixtures("no_report")
def test_the_command_names_device_and_backend_but_no_path(
    tiny: Experiment, digits: Dataset, tmp_path: Path
) -> None:
    where = RunOptions(
        seed=7, device="cpu", data_dir=tmp_path, skip_bad=True, out=tmp_path, threads=1
    )
    found = run(quick(tiny), where, dataset=digits).record
    assert found is not None
    backend = found.environment.backend
    assert found.command == (
        f"smidgen train experiment.toml --seed 7 --threads 1 --backend {backend} --device cpu "
        "--skip-bad"
    )


@pytest.mark.usefixtures("no_report")
def test_no_run_goes_over_another(tiny: Experiment, digits: Dataset, tmp_path: Path) -> None:
    where = RunOptions(out=tmp_path, threads=1)
    first, second = (run(quick(tiny), where, dataset=digits) for _ in range(2))
    assert first.folder is not None
    assert first.record is not None
    assert first.folder.name == "seed-0"
    assert second.folder == tmp_path / "tiny" / "seed-0-2"
    assert read_record(first.folder) == first.record


@pytest.mark.usefixtures("no_report")
def test_the_seed_matters(
    tiny: Experiment, digits: Dataset, tmp_path: Path, record: RunRecord
) -> None:
    other = run(tiny, RunOptions(seed=4, out=tmp_path, threads=1), dataset=digits).record
    assert other is not None
    assert other.weights_sha256 != record.weights_sha256


@pytest.mark.parametrize(
    ("budget", "missed"),
    [
        (Budget(max_params=100), "max_params"),
        (Budget(max_epochs=1), "max_epochs"),
        (Budget(max_macs=10, min_accuracy=0.5), "max_macs"),
    ],
)
def test_over_the_budget_nothing_is_trained_and_nothing_is_left(
    tiny: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    budget: Budget,
    missed: str,
) -> None:
    def unexpected(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr("smidgen.data.DatasetSource.load", unexpected)
    monkeypatch.setattr(module, "train", unexpected)
    outcome = run(replace(tiny, budget=budget), RunOptions(out=tmp_path / "runs"))
    assert (outcome.folder, outcome.record) == (None, None)
    assert [line.limit for line in outcome.verdict.limits if not line.passed] == [missed]
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("no_report")
def test_looks_at_the_test_set_are_counted(
    tiny: Experiment, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    score = evaluate_split

    def counted(network: Any, data: Dataset, part: Any) -> Any:
        looks.append(part is data.test)
        return score(network, data, part)

    monkeypatch.setattr(module, "evaluate_split", counted)
    where = RunOptions(out=tmp_path, threads=1)
    run(tiny, where, dataset=digits)
    assert looks == [False, False, True]
    looks.clear()
    asked = replace(tiny, train=replace(tiny.train, test_each_epoch=True))
    found = run(asked, where, dataset=digits).record
    assert found is not None
    assert found.test_looks == looks.count(True) == 3
    assert found.epochs[-1].test == found.test.score


@pytest.mark.usefixtures("no_report")
def test_without_validation_all_images_are_trained_on(tiny: Experiment, tmp_path: Path) -> None:
    experiment = quick(tiny)
    experiment = replace(experiment, data=replace(experiment.data, validation=0))
    found = run(experiment, RunOptions(out=tmp_path, threads=1)).record
    assert found is not None
    assert (found.data.num_train, found.data.num_validation) == (1437, 0)
    assert found.epochs[0].validation is None


def test_an_interrupted_run_leaves_its_metrics_and_no_record(
    tiny: Experiment, digits: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny" / "seed-0"
    with pytest.raises(Interrupted) as stopped:
        run(tiny, RunOptions(out=tmp_path, threads=1), [Recorder(stop_after=1)], digits)
    assert (stopped.value.signal, stopped.value.folder) == (signal.SIGINT, folder)
    checkpoints = {"last.checkpoint", "previous.checkpoint"}
    assert files(folder) == {"experiment.toml", "metrics.jsonl", *checkpoints}
    (line,) = (folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["epoch"] == 1


@pytest.mark.parametrize("name", ["weights.safetensors", "run.json", "experiment.toml"])
def test_a_full_disk_leaves_no_half_file(
    tiny: Experiment,
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    rename = os.replace

    def full(source: str, target: Path) -> None:
        if target.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    folder = tmp_path / "tiny" / "seed-0"
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(SmidgenError, match=f"{name} cannot be written: No space left"):
            run(quick(tiny), RunOptions(out=tmp_path, threads=1), dataset=digits)
    if name == "experiment.toml":
        assert list((tmp_path / "tiny").iterdir()) == []
        return
    left = files(folder)
    assert name not in left
    assert not left & {"run.json", "report.md"}
    assert not [file for file in left if file.startswith(".")]
    assert resume(folder).record == read_record(folder)  # once there is space again


def test_a_network_that_diverges_in_its_last_step_is_noticed(
    tiny: Experiment, digits: Dataset, tmp_path: Path
) -> None:
    # One batch: its loss is that of the first weights, which diverge only afterwards.
    experiment = quick(tiny, batch_size=2000)
    optimizer = replace(experiment.train.optimizer, lr=1e30)
    experiment = replace(experiment, train=replace(experiment.train, optimizer=optimizer))
    with pytest.raises(ModelError, match=r"loss on 300 images is nan"):
        run(experiment, RunOptions(out=tmp_path, threads=1), dataset=digits)
    folder = tmp_path / "tiny" / "seed-0"
    assert files(folder) == {"experiment.toml", "metrics.jsonl", "failure.txt"}
    with pytest.raises(CheckpointError, match=r"would fail again: .* is nan, .* new run"):
        resume(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "--seed is -1; it must be from 0 to below 9,223,372,036,854,775,808"),
        ({"seed": 2**63}, "--seed is 9223372036854775808"),
        ({"threads": 0}, "--threads is 0; it must be from 1 to 1,024"),
        ({"threads": 10**12}, "--threads is 1000000000000"),
        ({"checkpoint_seconds": -1}, "--checkpoint-seconds is -1.0; it must be 0 or more"),
        ({"checkpoint_seconds": math.nan}, "--checkpoint-seconds is nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunOptions(**options)


@pytest.mark.usefixtures("no_report")
def test_the_largest_seed_works(tiny: Experiment, digits: Dataset, tmp_path: Path) -> None:
    found = run(quick(tiny), RunOptions(seed=2**63 - 1, out=tmp_path, threads=1), dataset=digits)
    assert found.record is not None


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        (Model(net="gap-7k"), ConfigError, "model.net is 'gap-7k'; available are gap-6k"),
        (Model(net="gap-6k", args={"drop": 1}), ConfigError, "model.args does not fit gap-6k"),
        (Model(net="gap-6k", args={"dropout": "x"}), ConfigError, "model.args does not fit gap-6k"),
        (Model(chain="8 Q G"), ConfigError, "model.chain, token 2"),
    ],
)
def test_a_network_that_cannot_be_built_leaves_no_folder(
    tiny: Experiment, tmp_path: Path, model: Model, kind: type[SmidgenError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        run(replace(tiny, model=model), RunOptions(out=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_network_that_does_not_fit_its_classes_is_an_error(
    tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    wide = nn.Sequential(nn.Flatten(), nn.Linear(784, 11))
    monkeypatch.setattr(network, "build", lambda *_: wide)
    with pytest.raises(ModelError, match=r"returns \(batch, 11\); it must return \(batch, 10\)"):
        run(tiny, RunOptions(out=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------------------------------ resume

MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(784, 10), nn.BatchNorm1d(10)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls += 1
        x = nn.functional.dropout(x.flatten(1), 0.2, self.training)
        return self.norm(self.layer(x)) * (1 + self.calls / 100)
"""
TRANSFORMS = """
import random
import numpy as np
import torch

def shift(images):
    step = random.randrange(3) + round(random.gauss(0, 1)) + np.random.randint(3)
    images = images.roll(step, 3).float() + torch.rand(images.shape)
    return (images + np.random.normal() ** 2).clamp(0, 255)
"""


def altered(tiny: Experiment, folder: Path, **train: Any) -> Experiment:
    """The tiny experiment in 4 batches an epoch."""
    return replace(tiny, budget=Budget(), train=replace(tiny.train, batch_size=300, **train))


def adam(tiny: Experiment, folder: Path) -> Experiment:
    return altered(
        tiny, folder, optimizer=Optimizer(name="adam", lr=0.01), average=Average(name="none")
    )


def adamw(tiny: Experiment, folder: Path) -> Experiment:
    steps = Schedule(name="step", step_size=1, gamma=0.5)
    chosen = Optimizer(name="adamw", lr=0.01, weight_decay=0.1)
    return altered(tiny, folder, optimizer=chosen, schedule=steps, label_smoothing=0.1)


def muon(tiny: Experiment, folder: Path) -> Experiment:
    chosen = Optimizer(name="muon", lr=0.05, momentum=0.9, nesterov=True, other_lr=0.02)
    return altered(tiny, folder, optimizer=chosen)


def nesterov(tiny: Experiment, folder: Path) -> Experiment:
    optimizer = replace(tiny.train.optimizer, nesterov=True)
    return altered(
        tiny, folder, optimizer=optimizer, average=Average(name="none"), test_each_epoch=True
    )


def plain(tiny: Experiment, folder: Path) -> Experiment:
    return altered(tiny, folder, optimizer=Optimizer(name="sgd", lr=0.1), precision="bfloat16")


def without_validation(tiny: Experiment, folder: Path) -> Experiment:
    experiment = altered(tiny, folder)
    return replace(experiment, data=replace(tiny.data, validation=0))


def user_module(tiny: Experiment, folder: Path) -> Experiment:
    (folder / "mine.py").write_text(MODULE)
    model = Model(module=f"{folder / 'mine.py'}:Net")
    return replace(altered(tiny, folder), model=model)


def user_transforms(tiny: Experiment, folder: Path) -> Experiment:
    (folder / "shifting.py").write_text(TRANSFORMS)
    data = Data(name="digits", transforms=f"{folder / 'shifting.py'}:shift")
    return replace(altered(tiny, folder), data=data)


MADE = [
    altered,
    adam,
    adamw,
    muon,
    nesterov,
    plain,
    without_validation,
    user_module,
    user_transforms,
]
Make = Callable[[Experiment, Path], Experiment]


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Send the next training a signal when it asks for one the n-th time, from 1."""

    def at(look: int, number: int) -> None:
        looks = []

        class Stopping(checkpointer.Checkpointer):
            def _checkpoint(self, capture: Callable[[], TrainState], due: bool) -> None:
                looks.append(due)
                if len(looks) == look:
                    os.kill(os.getpid(), number)
                super()._checkpoint(capture, due)

        monkeypatch.setattr(module, "Checkpointer", Stopping)

    return at


Stop = Callable[[int, int], None]


def uninterrupted(experiment: Experiment, folder: Path) -> dict[str, bytes]:
    """Train the experiment without interruption and return its files."""
    outcome = run(experiment, RunOptions(out=folder / "uninterrupted", threads=1))
    assert outcome.folder is not None
    return contents(outcome.folder)


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("make", MADE)
def test_a_resumed_run_equals_an_uninterrupted_one(
    tiny: Experiment, tmp_path: Path, stop: Stop, make: Make
) -> None:
    experiment = make(tiny, tmp_path)
    expected = uninterrupted(experiment, tmp_path)
    stop(7, signal.SIGTERM)  # within the second epoch
    with pytest.raises(Interrupted) as stopped:
        run(experiment, RunOptions(out=tmp_path, threads=1))
    assert stopped.value.signal == signal.SIGTERM
    folder = stopped.value.folder
    assert folder is not None
    stop(2, signal.SIGINT)  # and once more
    with pytest.raises(Interrupted):
        resume(folder)
    stop(0, 0)
    outcome = resume(folder)
    assert contents(folder) == expected
    assert outcome.record == read_record(folder)
    assert outcome.record.caveats == ()
    assert not [name for name in files(folder) if name.endswith((".checkpoint", ".part"))]
    times = read_times(folder)
    assert times is not None
    assert (times.stops, len(times.epoch_seconds)) == (2, 2)
    assert times.total_seconds > times.train_seconds


@pytest.mark.usefixtures("no_report")
def test_a_run_can_be_stopped_at_every_step(tiny: Experiment, tmp_path: Path, stop: Stop) -> None:
    experiment = altered(tiny, tmp_path)
    expected = uninterrupted(experiment, tmp_path)
    stop(1, signal.SIGINT)
    with pytest.raises(Interrupted):
        run(experiment, RunOptions(out=tmp_path, threads=1))
    folder, stops = tmp_path / "tiny" / "seed-0", 1
    while True:
        stop(1, signal.SIGINT)
        try:
            resume(folder)
            break
        except Interrupted:
            stops += 1
    assert stops == 2 * (4 + 1)  # four steps, and once more after each epoch
    assert contents(folder) == expected


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("often", [True, False])
def test_after_any_interruption_a_run_resumes_from_the_last_checkpoint(
    tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, often: bool
) -> None:
    if often:
        monkeypatch.setattr(checkpointer, "MAX_SHARE", 1e9)
    experiment = altered(tiny, tmp_path)
    expected = uninterrupted(experiment, tmp_path)
    where = RunOptions(out=tmp_path, threads=1, checkpoint_seconds=0 if often else 30)
    with pytest.raises(Interrupted):
        run(experiment, where, [Recorder(stop_after=number)])
    recorder = Recorder()
    resume(tmp_path / "tiny" / "seed-0", [recorder])
    assert contents(tmp_path / "tiny" / "seed-0") == expected
    # the second checkpoint of a run this short waits, unless it may take any share of the time
    epoch = number + 1 if often else 2
    assert recorder.completed == list(range(1, epoch))
    assert recorder.messages == [f"resuming in epoch {epoch}, after batch 0"]


@pytest.fixture
def stopped(tiny: Experiment, digits: Dataset, tmp_path: Path, stop: Stop) -> Path:
    """The folder of a run that was stopped in its second epoch."""
    stop(7, signal.SIGTERM)
    with pytest.raises(Interrupted):
        run(altered(tiny, tmp_path), RunOptions(out=tmp_path, threads=1), dataset=digits)
    stop(0, 0)
    return tmp_path / "tiny" / "seed-0"


@pytest.mark.usefixtures("no_report")
def test_data_that_are_loaded_already_are_not_loaded_again(
    stopped: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_dataset", None)
    assert resume(stopped, data=digits).record is not None


@pytest.mark.usefixtures("no_report")
def test_if_the_last_checkpoint_is_damaged_the_previous_one_is_used(
    stopped: Path, tiny: Experiment, tmp_path: Path
) -> None:
    path = stopped / "last.checkpoint"
    path.write_bytes(path.read_bytes()[:-1])
    (stopped / ".run.json.abc.part").touch()
    recorder = Recorder()
    resume(stopped, [recorder])
    assert recorder.messages[1].startswith(f"{path} is damaged")
    assert contents(stopped) == uninterrupted(altered(tiny, tmp_path), tmp_path)
    assert not (stopped / ".run.json.abc.part").exists()


def test_without_an_intact_checkpoint_nothing_resumes(stopped: Path) -> None:
    for path in stopped.glob("*.checkpoint"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        resume(stopped)
    for path in stopped.glob("*.checkpoint"):
        path.unlink()
    with pytest.raises(CheckpointError, match="has no checkpoint to resume from"):
        resume(stopped)


def test_other_threads_are_said_in_record_and_report(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])
    recorder = Recorder()
    outcome = entry.resume(stopped, [recorder], threads=2)
    said = "Resumed in epoch 2, after batch 2, with threads 2 instead of 1: not exact."
    assert outcome.record is not None
    assert outcome.record.caveats == (said,) == tuple(recorder.messages[1:])
    assert outcome.record.environment.threads == 2
    assert f"with 1 stop in between. {said} " in (stopped / "report.md").read_text()


def test_other_data_are_refused(
    stopped: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(digits, sha256="0" * 64)
    monkeypatch.setattr(module, "open_dataset", lambda *_, **__: other)
    with pytest.raises(DataError, match=r"is not the data that the run in .* started with"):
        resume(stopped)
    assert "last.checkpoint" in files(stopped)


@pytest.mark.usefixtures("no_report")
def test_an_edited_experiment_is_refused_but_not_edited_texts(
    stopped: Path, tiny: Experiment, tmp_path: Path
) -> None:
    experiment = altered(tiny, tmp_path)
    path = stopped / "experiment.toml"
    longer = replace(experiment, train=replace(experiment.train, epochs=3))
    path.write_text(longer.to_toml())
    with pytest.raises(CheckpointError, match=r"experiment.toml has changed since the run started"):
        resume(stopped)
    path.write_text(replace(experiment, analysis="It learns.").to_toml())
    outcome = resume(stopped)
    assert outcome.record is not None
    assert outcome.record.experiment == experiment


def skip_without_kernels() -> None:
    try:
        load_library(())
    except Unsupported as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("backend", ["channels-last", "native"])
def test_a_run_resumes_with_its_backend(
    tiny: Experiment, tmp_path: Path, stop: Stop, backend: str
) -> None:
    if backend == "native":
        skip_without_kernels()
    experiment = altered(tiny, tmp_path)
    where = RunOptions(out=tmp_path, threads=1, backend=backend)
    whole = run(experiment, replace(where, out=tmp_path / "uninterrupted"))
    stop(7, signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        run(experiment, where)
    stop(0, 0)
    assert stopped.value.folder is not None
    outcome = resume(stopped.value.folder)
    assert whole.folder is not None
    assert outcome.folder is not None
    assert contents(outcome.folder) == contents(whole.folder)
    assert outcome.record is not None
    assert outcome.record.environment.backend == backend
    assert f"--backend {backend}" in outcome.record.command
    assert outcome.record.caveats == ()


@pytest.mark.usefixtures("no_report")
def test_a_resumed_run_says_that_its_backend_cannot_be_used_any_more(
    tiny: Experiment, tmp_path: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_kernels()

    def fail(*_: object, **__: object) -> None:
        raise Unsupported("the compiler is gone")

    stop(7, signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        run(altered(tiny, tmp_path), RunOptions(out=tmp_path, threads=1, backend="native"))
    stop(0, 0)
    assert stopped.value.folder is not None
    monkeypatch.setattr(backends, "build_native_network", fail)
    outcome = resume(stopped.value.folder)
    assert outcome.record is not None
    (said,) = outcome.record.caveats
    assert "backend eager instead of native" in said
    assert "kernels_sha256 None instead of " in said


@pytest.mark.usefixtures("no_report")
def test_a_run_resumed_with_other_kernels_says_so(
    tiny: Experiment, tmp_path: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_kernels()
    stop(7, signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        run(altered(tiny, tmp_path), RunOptions(out=tmp_path, threads=1, backend="native"))
    stop(0, 0)
    assert stopped.value.folder is not None
    other = replace(load_library(()), sha256="0" * 64, compiler="another compiler")
    monkeypatch.setattr(device, "load_library", lambda flags: other)
    outcome = resume(stopped.value.folder)
    assert outcome.record is not None
    (said,) = outcome.record.caveats
    assert f"kernels_sha256 {'0' * 64} instead of {load_library(()).sha256}" in said
    assert f"compiler another compiler instead of {load_library(()).compiler}" in said


@pytest.mark.usefixtures("no_report")
def test_a_run_says_which_backend_it_chose_and_why(tiny: Experiment, tmp_path: Path) -> None:
    messages: list[str] = []

    class Noted(Callback):
        def on_message(self, text: str) -> None:
            messages.append(text)

    options = RunOptions(out=tmp_path, threads=1)
    outcome = run(tiny, options, [Noted()])
    assert outcome.record is not None
    backend = outcome.record.environment.backend
    (message,) = (text for text in messages if text.startswith("backend: "))
    assert message.startswith(f"backend: {backend}, 1 thread, because ")
    messages.clear()
    run(tiny, replace(options, backend=backend), [Noted()])
    assert not any(text.startswith("backend: ") for text in messages)


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("make", "changed", "old", "new"),
    [
        (user_module, "{run}/mine.py", "Linear(784, 10)", "Linear(784, 10, bias=False)"),
        (user_transforms, "{place}/shifting.py", "def shift", "x = 0\n\n\ndef shift"),
    ],
)
def test_edited_user_code_is_refused(
    tiny: Experiment, tmp_path: Path, stop: Stop, make: Make, changed: str, old: str, new: str
) -> None:
    stop(7, signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        run(make(tiny, tmp_path), RunOptions(out=tmp_path, threads=1))
    folder = stopped.value.folder
    path = Path(changed.format(run=folder, place=tmp_path))
    original = path.read_text()
    assert old in original
    path.write_text(original.replace(old, new))
    stop(0, 0)
    assert folder is not None
    with pytest.raises(CheckpointError, match="has changed since the run started"):
        resume(folder)
    path.write_text(original)
    assert resume(folder).record is not None


def test_resuming_a_finished_run_returns_it(run_copy: Path, record: RunRecord) -> None:
    before = contents(run_copy)
    (run_copy / "last.checkpoint").touch()  # it was killed just before its end
    outcome = resume(run_copy)
    assert outcome == RunResult(verdict=record.verdict, folder=run_copy, record=record)
    assert contents(run_copy) == before
    assert "last.checkpoint" not in files(run_copy)


def test_a_report_that_is_missing_is_written(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])
    (run_copy / "report.html").unlink()
    entry.resume(run_copy)
    assert "report.html" in files(run_copy)


def test_a_run_that_another_process_has_locked_is_refused(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in stopped.iterdir()}
    with locked(stopped):
        with pytest.raises(BusyError, match="is in use by another process"):
            resume(stopped)
        assert main(["train", "--resume", str(stopped)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "is in use" in err
    assert {path: path.read_bytes() for path in stopped.iterdir()} == before


@pytest.mark.usefixtures("no_report")
def test_a_run_is_locked_until_it_ends(tiny: Experiment, digits: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "seed-0"

    class Intruder(Callback):
        def on_train_start(self, run: RunInfo) -> None:
            with pytest.raises(BusyError):
                resume(folder)

        def on_epoch_end(
            self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]
        ) -> None:
            with pytest.raises(BusyError):
                resume(folder)

    run(quick(tiny), RunOptions(out=tmp_path, threads=1), [Intruder()], digits)
    assert resume(folder).folder == folder


def test_a_stopped_run_is_found_by_its_experiment_and_seed(
    stopped: Path, tiny: Experiment, tmp_path: Path
) -> None:
    experiment = altered(tiny, tmp_path)
    where = RunOptions(out=tmp_path, threads=1)
    assert find_interrupted(experiment, where) == stopped
    assert find_interrupted(experiment, replace(where, seed=1)) is None
    assert find_interrupted(experiment, replace(where, out=tmp_path / "none")) is None
    assert find_interrupted(replace(experiment, budget=tiny.budget), where) is None
    with locked(stopped):
        assert find_interrupted(experiment, where) is None
    for path in stopped.glob("*.checkpoint"):
        path.unlink()
    assert find_interrupted(experiment, where) is None


@pytest.mark.usefixtures("no_report")
def test_quickstart_resumes_by_itself(
    tiny: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: Stop,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment = altered(tiny, tmp_path)
    expected = uninterrupted(experiment, tmp_path)
    monkeypatch.setattr("smidgen.cli.train.find_experiment", lambda _: experiment)
    words = ["quickstart", "--out", str(tmp_path), "--threads", "1"]
    folder = tmp_path / "tiny" / "seed-0"
    stop(7, signal.SIGTERM)
    assert main(words) == 143
    way = f"to resume: smidgen train --resume {folder}"
    assert capsys.readouterr().err == f"smidgen: terminated; {way}\n"
    stop(0, 0)
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "note: resuming in epoch 2, after batch 2\n" in out
    assert re.findall(r"^ +(\d+/2) ", out, re.MULTILINE) == ["1/2", "2/2"]
    assert contents(folder) == expected
    assert main([*words, "--quiet"]) == 0
    assert contents(tmp_path / "tiny" / "seed-0-2") == expected


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_real_signal_saves_and_the_printed_command_resumes(
    tiny: Experiment, tmp_path: Path, number: int, status: int, word: str
) -> None:
    experiment = replace(tiny, budget=Budget(), train=replace(tiny.train, epochs=10))
    expected = uninterrupted(experiment, tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(experiment.to_toml())
    out = tmp_path / "my runs"
    program = "import sys; from smidgen.cli import main; sys.exit(main())"
    words = ["train", str(path), "--out", str(out), "--threads", "1"]
    command = [sys.executable, "-u", "-c", program, *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any(" 1/10 " in line for line in process.stdout)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    folder = out / "tiny" / "seed-0"
    start = f"smidgen: {word}; to resume: "
    assert (process.returncode, err[: len(start)]) == (status, start)
    assert not (folder / "run.json").exists()
    program, *words = shlex.split(err.removeprefix(start))
    assert (program, words) == ("smidgen", ["train", "--resume", str(folder)])
    assert main([*words, "--quiet"]) == 0
    assert contents(folder) == expected


@pytest.mark.slow
def test_mnist_is_learned_in_five_epochs(mnist_folder: Path, tmp_path: Path) -> None:
    words = ["train", "quickstart", "--train.epochs", "5", "--out", str(tmp_path), "--quiet"]
    assert main([*words, "--data-dir", str(mnist_folder)]) in (0, 1)  # the target is for 14
    found = read_record(tmp_path / "quickstart" / "seed-0")
    assert (found.data.num_train, found.test.num_images) == (50_000, 10_000)
    assert found.profile.num_params < 8000
    assert found.test.score.accuracy >= 0.992

    # Also on paper: dark on bright, large, off center, as JPEG.
    test = load("mnist", data_dir=mnist_folder).test
    photos = []
    for number, image in enumerate(test.images[:100, 0]):
        large = Image.fromarray(255 - image.numpy()).resize((280, 280), Image.Resampling.BICUBIC)
        paper = Image.new("L", (500, 400), 255)
        paper.paste(large, (180, 40))
        photos.append(tmp_path / f"{number}.jpg")
        paper.save(photos[-1])
    predicted = [p.classes[0][0] for p in predict(tmp_path / "quickstart" / "seed-0", photos)]
    true = [str(label) for label in test.labels[:100].tolist()]
    assert sum(a == t for a, t in zip(predicted, true, strict=True)) >= 97
