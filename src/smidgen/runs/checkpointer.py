"""What is kept of a run while it goes on, so that nothing of it is lost when it is stopped."""

import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from smidgen.config import (
    Experiment,
    format_experiment,
    is_file,
    read_experiment,
    without_words,
)
from smidgen.errors import CheckpointError, Interrupted
from smidgen._storage.digests import running_sha256
from smidgen._storage.files import append_line, ensure_folder, write_atomic
from smidgen._storage.user_code import source_files
from smidgen.record import EXPERIMENT, METRICS, Environment, Epoch, Times, format_epoch
from smidgen.training import Checkpoint, State, save_checkpoint

SHARE = 0.02  # of the time may go into checkpoints


class Checkpointer:
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
        write_atomic(folder / METRICS, "".join(map(format_epoch, checkpoint.epochs)))

    @property
    def times(self) -> Times:
        """Until now."""
        passed = time.perf_counter() - self._begun
        before = self.checkpoint.times
        return replace(
            self._times,
            train_seconds=before.train_seconds + passed,
            total_seconds=before.total_seconds + passed,
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


def movable(experiment: Experiment) -> Experiment:
    """The experiment with a module of one's own where the run's folder keeps it."""
    file = experiment.model.file
    if file is None:
        return experiment
    return replace(experiment, model=experiment.model.with_file(Path(file.name)))


def keep_experiment(experiment: Experiment, folder: Path) -> None:
    """Write the experiment's files: a module of one's own as it is now, with what it imports."""
    if (file := experiment.model.file) is not None:
        for path in source_files(file):
            ensure_folder((folder / path).parent)
            write_atomic(folder / path, (file.parent / path).read_bytes())
    write_atomic(folder / EXPERIMENT, format_experiment(movable(experiment)))


def digest_of_code(experiment: Experiment) -> str:
    """The SHA-256 of the files of one's own code that `experiment` runs."""
    digest = running_sha256()
    transforms = (experiment.data.transforms or "").rpartition(":")[0]
    files = [experiment.model.file, Path(transforms) if transforms.endswith(".py") else None]
    for file in files:
        if file is not None and is_file(file):
            for path in source_files(file):
                digest.update((file.parent / path).read_bytes())
    return digest.hexdigest()


def require_unchanged(checkpoint: Checkpoint, experiment: Experiment, folder: Path) -> None:
    """Nothing, where experiment and code are those that the run began with, whatever the words."""
    if digest_of_code(experiment) != checkpoint.code_sha256:
        raise CheckpointError(
            f"the code of the network or of the transforms of {folder} was changed since the run "
            "began; begin another run with it, or bring the original back."
        )
    there = read_experiment(folder / EXPERIMENT)
    if without_words(there) != without_words(experiment):
        raise CheckpointError(
            f"{folder / EXPERIMENT} was changed since the run began; train it as a run of its own, "
            "or bring the original back."
        )


def inexact_reasons(checkpoint: Checkpoint, now: Environment) -> tuple[str, ...]:
    """Why a run that goes on from `checkpoint` is not what it would have been, in a sentence."""
    before = checkpoint.environment
    changes = [
        f"{field.name} {new} instead of {old}"
        for field in fields(Environment)
        if (new := getattr(now, field.name)) != (old := getattr(before, field.name))
    ]
    if not changes:
        return ()
    place = f"epoch {checkpoint.epoch}, after batch {checkpoint.batch}"
    return (f"Resumed in {place}, with {', '.join(changes)}: not exact.",)
