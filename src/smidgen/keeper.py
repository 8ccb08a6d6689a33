"""What is kept of a run while it goes on, so that nothing of it is lost when it is stopped."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from smidgen.errors import Interrupted
from smidgen.files import append_line, write_whole
from smidgen.record import METRICS, Epoch, Times, format_epoch
from smidgen.training import Checkpoint, State, save_checkpoint

SHARE = 0.02  # of the time may go into checkpoints


class Keeper:
    """Writes a run's epochs as they end, and checkpoints: after an epoch, and every few seconds.

    Once it has taken SHARE of the time, a checkpoint waits; one that a signal asks for does not.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Checkpoint,
        every: float,
        stopped: Callable[[], int | None],
    ) -> None:
        """Go on from `checkpoint`, with its epochs as the only ones in metrics.jsonl.

        `every` are the seconds between two checkpoints within an epoch; `stopped` gives the number
        of the signal that asks the run to stop.

        Raises:
            SmidgenError: metrics.jsonl cannot be written.
        """
        self.folder, self.checkpoint, self.every = folder, checkpoint, every
        self._stopped = stopped
        self._times = checkpoint.times
        self._begun = self._saved = time.perf_counter()
        self._cost = self._spent = 0.0
        write_whole(folder / METRICS, "".join(map(format_epoch, checkpoint.epochs)))

    @property
    def times(self) -> Times:
        """Until now."""
        passed = time.perf_counter() - self._begun
        before = self.checkpoint.times
        return replace(
            self._times,
            train_seconds=before.train_seconds + passed,
            checkpoint_seconds=before.checkpoint_seconds + self._spent,
        )

    def note(self, epoch: Epoch, seconds: float) -> None:
        """Write an epoch that is done into metrics.jsonl."""
        append_line(self.folder / METRICS, format_epoch(epoch))
        done = (*self._times.epoch_seconds, seconds)
        self._times = replace(self._times, epoch_seconds=done)

    def step(self, state: Callable[[], State], ended: bool) -> None:
        """Write a checkpoint if it is time for one; `ended`: an epoch has.

        Raises:
            Interrupted: a signal asks for it; the checkpoint is written.
            SmidgenError: the checkpoint cannot be written; the last one is still there.
        """
        number = self._stopped()
        now = time.perf_counter()
        wanted = ended or now - self._saved >= self.every
        cheap = self._spent + self._cost <= SHARE * (now - self._begun)
        if number is not None or (wanted and cheap):
            self._save(state(), now)
        if number is not None:
            raise Interrupted(number, self.folder)

    def _save(self, state: State, now: float) -> None:
        here = replace(
            self.checkpoint,
            times=self.times,
            epoch=state.epoch,
            batch=state.batch,
            seconds=state.seconds,
            epochs=state.epochs,
        )
        save_checkpoint(self.folder, here, state.tensors)
        self._saved = time.perf_counter()
        self._cost = self._saved - now
        self._spent += self._cost
