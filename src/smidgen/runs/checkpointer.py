"""Writes metrics and checkpoints while a run trains, so that nothing is lost when it stops."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from smidgen._storage.files import append_line, write_atomic
from smidgen.callbacks import Callback, TrainState
from smidgen.errors import Interrupted
from smidgen.record import METRICS, Epoch, Times, format_epoch
from smidgen.training import Checkpoint, save_checkpoint

MAX_SHARE = 0.02  # of the training time may go into checkpoints


class Checkpointer(Callback):
    """Writes each epoch's metrics as it ends, and a checkpoint after it and every few seconds.

    Once checkpoints have taken MAX_SHARE of the training time, further ones wait; a checkpoint
    that a signal asks for does not.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Checkpoint,
        every: float,
        stop_signal: Callable[[], int | None],
    ) -> None:
        """Start from `checkpoint`, and rewrite metrics.jsonl to its epochs.

        `every` is the time between checkpoints within an epoch, in seconds; `stop_signal` returns
        the number of the signal that asked the run to stop, if any.

        Raises:
            SmidgenError: metrics.jsonl cannot be written.
        """
        self.folder, self.checkpoint, self.every = folder, checkpoint, every
        self._stop_signal = stop_signal
        self._epoch_seconds = checkpoint.times.epoch_seconds
        self._started = self._saved = time.perf_counter()
        self._last_cost = self._total_cost = 0.0
        write_atomic(folder / METRICS, "".join(map(format_epoch, checkpoint.epochs)))

    @property
    def times(self) -> Times:
        """The run's times up to now."""
        elapsed = time.perf_counter() - self._started
        before = self.checkpoint.times
        return replace(
            before,
            epoch_seconds=self._epoch_seconds,
            train_seconds=before.train_seconds + elapsed,
            total_seconds=before.total_seconds + elapsed,
            checkpoint_seconds=before.checkpoint_seconds + self._total_cost,
        )

    def on_step_end(self, capture: Callable[[], TrainState]) -> None:
        """Write a checkpoint if one is due.

        Raises:
            Interrupted: a signal asked the run to stop; a checkpoint is written first.
            SmidgenError: the checkpoint cannot be written; the last one is still there.
        """
        self._checkpoint(capture, due=time.perf_counter() - self._saved >= self.every)

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """Append the epoch to metrics.jsonl and write a checkpoint; raises as on_step_end."""
        append_line(self.folder / METRICS, format_epoch(epoch))
        self._epoch_seconds = (*self._epoch_seconds, seconds)
        self._checkpoint(capture, due=True)

    def _checkpoint(self, capture: Callable[[], TrainState], due: bool) -> None:
        signal, now = self._stop_signal(), time.perf_counter()
        affordable = self._total_cost + self._last_cost <= MAX_SHARE * (now - self._started)
        if signal is not None or (due and affordable):
            self._save(capture(), now)
        if signal is not None:
            raise Interrupted(signal, self.folder)

    def _save(self, state: TrainState, now: float) -> None:
        checkpoint = replace(
            self.checkpoint,
            times=self.times,
            epoch=state.epoch,
            batch=state.batch,
            seconds=state.seconds,
            epochs=state.epochs,
        )
        save_checkpoint(self.folder, checkpoint, state.tensors)
        self._saved = time.perf_counter()
        self._last_cost = self._saved - now
        self._total_cost += self._last_cost
