"""The training loop."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from smidgen.callbacks import Callback, Progress, TrainState
from smidgen.config import Train
from smidgen.data import TrainLoader
from smidgen.errors import ModelError
from smidgen.record import Epoch, Score, StepScore
from smidgen.seeds import generators, seed_all, set_generators
from smidgen.training.schedule import rate
from smidgen.training.step import TrainStep

_BY_STEP_BELOW = 5  # epochs: so few are too few points for a curve
_SCORES_PER_EPOCH = 40  # in the curve of such a run
_PROGRESS_SECONDS = 0.1  # between two reports: reading the running sums waits for the device

Evaluate = Callable[[nn.Module], tuple[Score | None, Score | None]]
"""Scores a network after an epoch: (validation, test), None for a split that is not scored."""


def train(
    network: nn.Module,
    loader: TrainLoader,
    settings: Train,
    *,
    forward: Callable[[Tensor], Tensor] | None = None,
    evaluate: Evaluate = lambda network: (None, None),
    callback: Callback | None = None,
    start: TrainState | None = None,
) -> tuple[nn.Module, tuple[Epoch, ...]]:
    """Train `network` and return it (or its average, if the settings ask for one) and its epochs.

    `network` and the images must be on the same device. All randomness comes from the loader's
    seed; dropout uses torch's global generator, which is seeded here. `forward` computes the
    network's training scores in some backend and defaults to the network itself. Training that
    starts from the `TrainState` of an earlier one ends in the same weights, bit for bit.

    Raises:
        ModelError: the loss is no longer finite, or a batch is too small for batch norm.
        CheckpointError: `start` belongs to another network or other settings.
    """
    callback = callback or Callback()
    device, steps_per_epoch = loader.split.labels.device, len(loader)
    peak, num_steps = settings.optimizer.lr, settings.epochs * steps_per_epoch
    network.train()
    step = TrainStep(network, settings, forward)
    num_scores = _SCORES_PER_EPOCH if settings.epochs < _BY_STEP_BELOW else 0
    running = _RunningScore(start.epoch if start else 1, steps_per_epoch, num_scores, device)
    epochs = list(start.epochs) if start else []
    seed_all(loader.seed, "train")
    if start:
        step.load(start.tensors)
        running.load(start)
        set_generators(start.tensors, device)

    def lr_of(number: int) -> float:
        return rate(settings.schedule, peak, number, num_steps, steps_per_epoch)

    def capture() -> TrainState:
        return TrainState(
            epoch=running.epoch,
            batch=running.batches,
            seconds=running.seconds,
            epochs=tuple(epochs),
            tensors=step.state() | running.sums() | generators(device),
        )

    while (epoch := running.epoch) <= settings.epochs:
        first = (epoch - 1) * steps_per_epoch
        clean = epoch > settings.epochs - loader.augment.no_aug_epochs
        network.train()
        for images, labels in loader.epoch(epoch, clean=clean, start=running.batches):
            loss, scores = step.step(images, labels, lr_of(first + running.batches))
            running.add(loss, scores, labels)
            if (progress := running.progress()) is not None:
                callback.on_progress(progress)
            callback.on_step_end(capture)
        validation, test = evaluate(step.result)
        done = Epoch(
            epoch=epoch,
            train=running.score(),
            validation=validation,
            test=test,
            lr=lr_of(first + steps_per_epoch - 1),
            steps=running.steps(lr_of, first),
        )
        epochs.append(done)
        seconds = running.seconds
        running = _RunningScore(epoch + 1, steps_per_epoch, num_scores, device)
        callback.on_epoch_end(done, seconds, capture)
    return step.result.eval(), tuple(epochs)


class _RunningScore:
    """Loss and accuracy over the epoch so far, summed on the device.

    The sums are noted `num_scores` times per epoch, at most once per batch.
    """

    def __init__(self, epoch: int, num_batches: int, num_scores: int, device: torch.device) -> None:
        self.epoch, self.num_batches = epoch, num_batches
        self.num_scores = min(num_scores, num_batches)
        self.noted: list[Tensor] = []  # batches, images, correct images and loss, each a sum
        self.loss = torch.zeros((), device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.images = self.batches = 0
        self._start = self._reported = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        self.images += len(labels)
        self.batches += 1
        self.loss += loss * len(labels)
        self.correct += (scores.argmax(1) == labels).sum()
        if self.batches * self.num_scores % self.num_batches < self.num_scores:
            done = self.loss.new_tensor([self.batches, self.images])
            self.noted.append(
                torch.cat([done, torch.stack([self.correct.to(self.loss), self.loss])])
            )

    def progress(self) -> Progress | None:
        """What to report now; None if the last report was a moment ago."""
        now = time.perf_counter()
        if now - self._reported < _PROGRESS_SECONDS and self.batches < self.num_batches:
            return None
        self._reported = now
        score = self.score()
        return Progress(
            epoch=self.epoch,
            batch=self.batches,
            num_batches=self.num_batches,
            loss=score.loss,
            accuracy=score.accuracy,
            images_per_second=self.images / self.seconds,
        )

    def score(self) -> Score:
        loss = float(self.loss) / self.images
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss became {loss} in epoch {self.epoch}, by batch {self.batches}; try a "
                "lower train.optimizer.lr or a longer warm-up."
            )
        return Score(loss=loss, accuracy=int(self.correct) / self.images)

    def steps(self, lr_of: Callable[[int], float], first: int) -> tuple[StepScore, ...] | None:
        """The scores between the noted sums; `first` is the number of the epoch's first step."""
        if not self.noted:
            return None
        sums = torch.stack(self.noted).double().cpu()
        rows = torch.diff(sums, dim=0, prepend=torch.zeros(1, 4, dtype=sums.dtype)).tolist()
        return tuple(
            StepScore(
                step=int(step),
                train=Score(loss=loss / images, accuracy=correct / images),
                lr=lr_of(first + int(step) - 1),
            )
            for step, (_, images, correct, loss) in zip(sums[:, 0].tolist(), rows, strict=True)
        )

    def sums(self) -> dict[str, Tensor]:
        return {
            "running.noted": torch.stack(self.noted) if self.noted else self.loss.new_zeros(0, 4),
            "running.loss": self.loss,
            "running.correct": self.correct,
            "running.images": torch.tensor(self.images),
        }

    def load(self, state: TrainState) -> None:
        self.batches, self.images = state.batch, int(state.tensors["running.images"])
        self.noted = [*state.tensors["running.noted"].to(self.loss.device)]
        self.loss.copy_(state.tensors["running.loss"])
        self.correct.copy_(state.tensors["running.correct"])
        self._start -= state.seconds
