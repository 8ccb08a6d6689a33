import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smidgen.callbacks import TrainState
from smidgen.errors import Interrupted, SmidgenError
from smidgen.record import Epoch, RunRecord, Score, Times, format_epoch
from smidgen.runs import checkpointer as module
from smidgen.runs.checkpointer import MAX_SHARE, Checkpointer
from smidgen.training import Checkpoint, load_checkpoint

EPOCH = Epoch(epoch=1, train=Score(loss=1.0, accuracy=0.5), validation=None, test=None, lr=0.1)


class Clock:
    """A clock that only advances when a test sets it."""

    now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def checkpoint(record: RunRecord) -> Checkpoint:
    """A run like the finished one, about to begin."""
    return Checkpoint(
        experiment=record.experiment,
        seed=3,
        device="cpu",
        data_dir=None,
        skip_bad=False,
        code_sha256="",
        data=record.data,
        environment=record.environment,
        times=Times(started="2026-01-01T00:00:00+00:00"),
    )


@pytest.fixture
def saves(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[float]:
    """Record when checkpoints are written, from 0; each takes a hundredth of a second."""
    times: list[float] = []

    def save(*_: object) -> None:
        times.append(round(clock.now - Clock.now, 3))
        clock.now += 0.01

    monkeypatch.setattr(module, "save_checkpoint", save)
    return times


def state(epoch: int = 1, batch: int = 0, epochs: tuple[Epoch, ...] = ()) -> TrainState:
    tensors = {"a": torch.tensor([epoch, batch])}
    return TrainState(epoch=epoch, batch=batch, seconds=0.5, epochs=epochs, tensors=tensors)


def nobody() -> None:
    """Asks for no stop."""


def test_within_an_epoch_a_checkpoint_is_written_at_intervals(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float]
) -> None:
    checkpointer = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    for _ in range(100):
        clock.now += 1
        checkpointer.on_step_end(state)
    assert saves == [30.0, 60.01, 90.02]


def test_a_checkpoint_is_written_after_each_epoch(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float]
) -> None:
    checkpointer = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    for step in range(1, 13):
        clock.now += 1
        checkpointer.on_step_end(state)
        if step % 4 == 0:
            checkpointer.on_epoch_end(EPOCH, 1.0, state)
    assert saves == [4.0, 8.01, 12.02]


@pytest.mark.parametrize("every", [0.0, 0.001])
def test_no_more_than_its_share_of_the_time_goes_into_checkpoints(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float], every: float
) -> None:
    begun = clock.now
    checkpointer = Checkpointer(tmp_path, checkpoint, every, nobody)
    for step in range(10_000):
        clock.now += 0.001
        checkpointer.on_step_end(state)
        if step % 10 == 9:
            checkpointer.on_epoch_end(EPOCH, 1.0, state)
    passed = clock.now - begun
    assert 0.5 * MAX_SHARE < 0.01 * len(saves) / passed < MAX_SHARE + 0.01 / passed


def test_a_short_run_still_saves_its_first_epoch(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float]
) -> None:
    checkpointer = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    clock.now += 0.001
    checkpointer.on_epoch_end(EPOCH, 1.0, state)
    assert saves == [0.001]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_once_and_stops(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float], number: int
) -> None:
    noted: list[int] = []
    checkpointer = Checkpointer(tmp_path, checkpoint, 30.0, lambda: noted[0] if noted else None)
    clock.now += 0.001
    checkpointer.on_epoch_end(EPOCH, 1.0, state)
    checkpointer.on_step_end(state)
    noted.append(number)
    with pytest.raises(Interrupted) as stopped:
        checkpointer.on_step_end(state)
    assert (stopped.value.signal, stopped.value.folder) == (number, tmp_path)
    assert saves == [0.001, 0.011]  # the second is beyond its share


def test_a_state_is_only_captured_to_be_saved(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float]
) -> None:
    taken: list[float] = []

    def taking() -> TrainState:
        taken.append(clock.now)
        return state()

    checkpointer = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    for _ in range(100):
        clock.now += 1
        checkpointer.on_step_end(taking)
    assert len(taken) == len(saves) == 3


def test_a_checkpoint_holds_state_epochs_and_times(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, record: RunRecord
) -> None:
    times = replace(checkpoint.times, train_seconds=100.0, total_seconds=103.0, stops=1)
    times = replace(times, epoch_seconds=(9.0,))
    before = replace(checkpoint, times=times, epochs=record.epochs[:1])
    checkpointer = Checkpointer(tmp_path, before, 30.0, nobody)
    clock.now += 5
    clock.now += 1
    checkpointer.on_epoch_end(record.epochs[1], 4.5, lambda: state(3, 7, record.epochs))
    found, tensors, _ = load_checkpoint(tmp_path)
    assert found == replace(
        before,
        epoch=3,
        batch=7,
        seconds=0.5,
        epochs=record.epochs,
        times=replace(times, train_seconds=106.0, total_seconds=109.0, epoch_seconds=(9.0, 4.5)),
    )
    assert tensors["a"].tolist() == [3, 7]
    clock.now += 2
    assert checkpointer.times.train_seconds == 108.0


def test_epochs_are_written_as_they_end(
    tmp_path: Path, checkpoint: Checkpoint, record: RunRecord
) -> None:
    path = tmp_path / "metrics.jsonl"
    checkpointer = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    assert path.read_text() == ""
    lines = [format_epoch(epoch) for epoch in record.epochs]
    for number, epoch in enumerate(record.epochs, start=1):
        checkpointer.on_epoch_end(epoch, 1.0, state)
        assert path.read_text() == "".join(lines[:number])


def test_resuming_drops_what_was_written_after_the_checkpoint(
    tmp_path: Path, checkpoint: Checkpoint, record: RunRecord
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(map(format_epoch, record.epochs)) + '{"epo')
    Checkpointer(tmp_path, replace(checkpoint, epochs=record.epochs[:1]), 30.0, nobody)
    assert path.read_text() == format_epoch(record.epochs[0])


def test_a_checkpoint_that_cannot_be_written_is_an_error(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    checkpointer = Checkpointer(tmp_path, checkpoint, 0.0, nobody)
    (tmp_path / "metrics.jsonl").unlink()
    tmp_path.rmdir()
    with pytest.raises(SmidgenError, match=r"metrics.jsonl cannot be written"):
        checkpointer.on_epoch_end(EPOCH, 1.0, state)
