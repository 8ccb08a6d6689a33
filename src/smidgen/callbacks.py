"""Callbacks: what is called while a run trains, as in Keras and Lightning.

Subclass `Callback`, override what you need and pass an instance to `smidgen.train`. An exception
that a callback raises stops the run; it can be resumed from its last checkpoint.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.config import Experiment
from smidgen.record import DataRecord, Environment, Epoch, Profile, RunRecord

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInfo:
    """What is known of a run when its training starts or resumes."""

    folder: Path
    """The run's folder."""
    experiment: Experiment
    seed: int
    data: DataRecord
    profile: Profile
    environment: Environment
    completed: tuple[tuple[Epoch, float], ...] = ()
    """Epochs from before the run was interrupted, each with its duration in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Position within an epoch, with the running training metrics."""

    epoch: int
    """The current epoch, from 1."""
    batch: int
    """Batches of this epoch that are done."""
    num_batches: int
    """Batches in an epoch."""
    loss: float
    """Mean cross-entropy over the epoch so far."""
    accuracy: float
    """Training accuracy over the epoch so far, a fraction."""
    images_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainState:
    """Everything that the rest of a training run depends on, between two steps."""

    epoch: int
    """The current epoch, from 1; one past the last when training is done."""
    batch: int
    """Batches of that epoch that are done."""
    seconds: float
    """Time spent on that epoch so far."""
    epochs: tuple[Epoch, ...]
    """The completed epochs."""
    tensors: "dict[str, Tensor]"
    """Weights, optimizer, average, random generators and running sums; not copies."""


class Callback:
    """Base class of all callbacks; every method does nothing unless overridden."""

    def on_message(self, text: str) -> None:
        """A sentence for the user, such as which backend was chosen."""

    def on_status(self, text: str) -> None:
        """What the run is doing now, such as "loading mnist"."""

    def on_train_start(self, run: RunInfo) -> None:
        """Before the first step of a new or resumed run."""

    def on_step_end(self, capture: Callable[[], TrainState]) -> None:
        """After each training step; `capture` returns the state to resume from."""

    def on_progress(self, progress: Progress) -> None:
        """A few times per second."""

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """After each epoch and its validation, which took `seconds` together."""

    def on_train_end(self, record: RunRecord | None) -> None:
        """Once, however training ended; `record` is None if it failed or was interrupted."""


class CallbackList(Callback):
    """Calls several callbacks in order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = tuple(callbacks)

    def on_message(self, text: str) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_message(text)

    def on_status(self, text: str) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_status(text)

    def on_train_start(self, run: RunInfo) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_train_start(run)

    def on_step_end(self, capture: Callable[[], TrainState]) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_step_end(capture)

    def on_progress(self, progress: Progress) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_progress(progress)

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, seconds, capture)

    def on_train_end(self, record: RunRecord | None) -> None:
        """Pass it on, in reverse order, even if one of them fails."""
        for number, callback in reversed([*enumerate(self.callbacks)]):
            try:
                callback.on_train_end(record)
            except BaseException:
                CallbackList(self.callbacks[:number]).on_train_end(record)
                raise
