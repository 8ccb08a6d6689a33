import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smidgen.runs import checkpointer as module
from smidgen.errors import Interrupted, SmidgenError
from smidgen.runs.checkpointer import SHARE, Checkpointer
from smidgen.record import Epoch, RunRecord, Times, format_epoch
from smidgen.training import Checkpoint, State, load_checkpoint

Make = Callable[..., Checkpointer]


class Clock:
    """The time, which goes on when it is told to."""

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
    """A run of the finished one's experiment that is about to begin."""
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
        inexact=(),
    )


@pytest.fixture
def saves(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[float]:
    """When checkpoints are written, from 0; each takes a hundredth of a second."""
    times: list[float] = []

    def save(*_: object) -> None:
        times.append(round(clock.now - Clock.now, 3))
        clock.now += 0.01

    monkeypatch.setattr(module, "save_checkpoint", save)
    return times


def state(epoch: int = 1, batch: int = 0, epochs: tuple[Epoch, ...] = ()) -> State:
    tensors = {"a": torch.tensor([epoch, batch])}
    return State(epoch=epoch, batch=batch, seconds=0.5, epochs=epochs, tensors=tensors)


def nobody() -> None:
    """Asks for no stop."""


def test_within_an_epoch_one_is_written_every_so_many_seconds(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float]
) -> None:
    keeper = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    for _ in range(100):
        clock.now += 1
        keeper.step(state, False)
    assert saves == [30.0, 60.01, 90.02]


def test_after_each_epoch_one_is_written(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float]
) -> None:
    keeper = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    for step in range(1, 13):
        clock.now += 1
        keeper.step(state, step % 4 == 0)
    assert saves == [4.0, 8.01, 12.02]


@pytest.mark.parametrize("every", [0.0, 0.001])
def test_no_more_than_its_share_of_the_time_goes_into_checkpoints(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float], every: float
) -> None:
    begun = clock.now
    keeper = Checkpointer(tmp_path, checkpoint, every, nobody)
    for step in range(10_000):
        clock.now += 0.001
        keeper.step(state, step % 10 == 9)
    passed = clock.now - begun
    assert 0.5 * SHARE < 0.01 * len(saves) / passed < SHARE + 0.01 / passed


def test_a_short_run_keeps_its_first_epoch_all_the_same(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float]
) -> None:
    keeper = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    clock.now += 0.001
    keeper.step(state, True)
    assert saves == [0.001]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_once_and_stops(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float], number: int
) -> None:
    noted: list[int] = []
    keeper = Checkpointer(tmp_path, checkpoint, 30.0, lambda: noted[0] if noted else None)
    clock.now += 0.001
    keeper.step(state, True)
    keeper.step(state, False)
    noted.append(number)
    with pytest.raises(Interrupted) as stopped:
        keeper.step(state, False)
    assert (stopped.value.signal, stopped.value.folder) == (number, tmp_path)
    assert saves == [0.001, 0.011]  # the second is beyond its share


def test_a_state_is_taken_only_where_it_is_saved(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, saves: list[float]
) -> None:
    taken: list[float] = []

    def taking() -> State:
        taken.append(clock.now)
        return state()

    keeper = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    for _ in range(100):
        clock.now += 1
        keeper.step(taking, False)
    assert len(taken) == len(saves) == 3


def test_a_checkpoint_holds_state_epochs_and_times(
    tmp_path: Path, checkpoint: Checkpoint, clock: Clock, record: RunRecord
) -> None:
    times = replace(checkpoint.times, train_seconds=100.0, total_seconds=103.0, stops=1)
    times = replace(times, epoch_seconds=(9.0,))
    before = replace(checkpoint, times=times, epochs=record.epochs[:1])
    keeper = Checkpointer(tmp_path, before, 30.0, nobody)
    clock.now += 5
    keeper.note(record.epochs[1], 4.5)
    clock.now += 1
    keeper.step(lambda: state(3, 7, record.epochs), True)
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
    assert keeper.times.train_seconds == 108.0


def test_epochs_are_written_as_they_end(
    tmp_path: Path, checkpoint: Checkpoint, record: RunRecord
) -> None:
    path = tmp_path / "metrics.jsonl"
    keeper = Checkpointer(tmp_path, checkpoint, 30.0, nobody)
    assert path.read_text() == ""
    lines = [format_epoch(epoch) for epoch in record.epochs]
    for number, epoch in enumerate(record.epochs, start=1):
        keeper.note(epoch, 1.0)
        assert path.read_text() == "".join(lines[:number])


def test_what_was_written_after_the_checkpoint_is_gone_when_it_goes_on(
    tmp_path: Path, checkpoint: Checkpoint, record: RunRecord
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(map(format_epoch, record.epochs)) + '{"epo')
    Checkpointer(tmp_path, replace(checkpoint, epochs=record.epochs[:1]), 30.0, nobody)
    assert path.read_text() == format_epoch(record.epochs[0])


def test_a_checkpoint_that_cannot_be_written_is_an_error(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    keeper = Checkpointer(tmp_path, checkpoint, 0.0, nobody)
    (tmp_path / "metrics.jsonl").unlink()
    tmp_path.rmdir()
    with pytest.raises(SmidgenError, match=r"last.checkpoint cannot be written"):
        keeper.step(state, True)
