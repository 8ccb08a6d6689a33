"""The one training loop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smidgen.config import Augment, Train
from smidgen.data import TrainPart, training_batches
from smidgen.errors import ModelError
from smidgen.record import Epoch, Score
from smidgen.training.learner import Learner
from smidgen.training.schedule import rate

_GLANCE = 0.1  # seconds between two looks at the running sums: each look waits for the device


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run stands within an epoch."""

    epoch: int
    batch: int
    num_batches: int
    running: Score
    images_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What is called while training goes on, and what scores the network after an epoch."""

    batch: Callable[[Progress], None]
    """A few times a second."""
    epoch: Callable[[Epoch], None]
    """After each epoch."""
    validate: Callable[[nn.Module], Score | None]
    test: Callable[[nn.Module], Score | None]
    """The look at the test set after each epoch that an experiment can ask for."""


def train(
    network: nn.Module,
    part: TrainPart,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augment: Augment,
    settings: Train,
    seed: int,
    watch: Watch,
) -> tuple[nn.Module, tuple[Epoch, ...]]:
    """The trained network (the average, where the settings ask for one) and its epochs.

    `network` and `part` stand on one device. Order and augmentation come from `seed`; dropout from
    torch's global generator.

    Raises:
        ModelError: the loss is no longer finite, or a batch is too small for a batch norm.
    """
    generator = torch.Generator().manual_seed(seed)
    learner = Learner(network, settings)
    peak, steps_per_epoch = settings.optimizer.lr, math.ceil(len(part) / settings.batch_size)
    num_steps = settings.epochs * steps_per_epoch
    epochs: list[Epoch] = []
    for epoch in range(1, settings.epochs + 1):
        start, lr = time.perf_counter(), peak
        running = _Running(epoch, steps_per_epoch, part.labels.device, watch.batch)
        batches = training_batches(
            part,
            batch_size=settings.batch_size,
            settings=augment if epoch <= settings.epochs - augment.clean_epochs else None,
            mean=mean,
            std=std,
            generator=generator,
        )
        network.train()
        for step, (images, labels) in enumerate(batches, start=len(epochs) * steps_per_epoch):
            lr = rate(settings.schedule, peak, step, num_steps, steps_per_epoch)
            loss, scores = learner.step(images, labels, lr)
            running.add(loss, scores, labels)
        done = Epoch(
            epoch=epoch,
            train=running.score(),
            validation=watch.validate(learner.result),
            test=watch.test(learner.result),
            lr=lr,
            seconds=time.perf_counter() - start,
        )
        epochs.append(done)
        watch.epoch(done)
    return learner.result.eval(), tuple(epochs)


class _Running:
    """Loss and accuracy over the epoch so far, summed on the device, read a few times a second."""

    def __init__(
        self, epoch: int, num_batches: int, device: torch.device, tell: Callable[[Progress], None]
    ) -> None:
        self.epoch, self.num_batches, self.tell = epoch, num_batches, tell
        self.loss = torch.zeros((), device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.images = self.batches = 0
        self.start = self.told = time.perf_counter()

    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        self.images += len(labels)
        self.batches += 1
        self.loss += loss * len(labels)
        self.correct += (scores.argmax(1) == labels).sum()
        now = time.perf_counter()
        if now - self.told >= _GLANCE or self.batches == self.num_batches:
            self.told = now
            self.tell(
                Progress(
                    epoch=self.epoch,
                    batch=self.batches,
                    num_batches=self.num_batches,
                    running=self.score(),
                    images_per_second=self.images / (now - self.start),
                )
            )

    def score(self) -> Score:
        loss = float(self.loss) / self.images
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss became {loss} in epoch {self.epoch}, by batch {self.batches}; a lower "
                "train.optimizer.lr, or a longer warm-up, usually helps."
            )
        return Score(loss=loss, accuracy=int(self.correct) / self.images)
