"""The one training loop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smidgen.config import Train
from smidgen.data import TrainLoader
from smidgen.errors import ModelError
from smidgen.record import Epoch, Score
from smidgen.seeds import generators, seed_all, set_generators
from smidgen.training.backends import forward_with
from smidgen.training.schedule import rate
from smidgen.training.step import TrainStep

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
class State:
    """All that the rest of a training depends on, between two steps."""

    epoch: int
    """The one under way, from 1; one more than there are when all are done."""
    batch: int
    """Batches of it that are done."""
    seconds: float
    """That it took until now."""
    epochs: tuple[Epoch, ...]
    """Those that are done."""
    tensors: dict[str, Tensor]
    """Weights, optimizer, average, generators, sums over the epoch: not copies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What is called while training goes on, and what scores the network after an epoch."""

    batch: Callable[[Progress], None]
    """A few times a second."""
    epoch: Callable[[Epoch, float], None]
    """After each epoch, with its seconds."""
    validate: Callable[[nn.Module], Score | None]
    test: Callable[[nn.Module], Score | None]
    """The look at the test set after each epoch that an experiment can ask for."""
    step: Callable[[Callable[[], State], bool], None]
    """After each step, and once more after each epoch (then with True), with what gives the state;
    what it raises stops the training there."""


def train(
    network: nn.Module,
    batches: TrainLoader,
    settings: Train,
    watch: Watch,
    start: State | None = None,
    backend: str = "eager",
) -> tuple[nn.Module, tuple[Epoch, ...]]:
    """The trained network (the average, where the settings ask for one) and its epochs.

    `network` and the images stand on one device. Everything random comes from the batches' seed:
    dropout from torch's global generator, which is seeded for it. `backend` is one of BACKENDS that
    the network has here. From `start`, the state of such a training, it goes on to what that
    one would have come to, bit for bit.

    Raises:
        ModelError: the loss is no longer finite, or a batch is too small for a batch norm.
        CheckpointError: `start` is the state of another training.
    """
    device, steps_per_epoch = batches.part.labels.device, len(batches)
    peak, num_steps = settings.optimizer.lr, settings.epochs * steps_per_epoch
    channels, height, width = batches.part.images.shape[1:]
    half = settings.precision == "bfloat16"
    network.train()
    forward = forward_with(backend, network, (channels, height, width), half)
    learner, epochs = TrainStep(network, settings, forward), list(start.epochs) if start else []
    running = _Running(start.epoch if start else 1, steps_per_epoch, device, watch.batch)
    seed_all(batches.seed, "train")
    if start:
        learner.load(start.tensors)
        running.load(start)
        set_generators(start.tensors, device)

    def state() -> State:
        return State(
            epoch=running.epoch,
            batch=running.batches,
            seconds=time.perf_counter() - running.start,
            epochs=tuple(epochs),
            tensors=learner.state() | running.sums() | generators(device),
        )

    while (epoch := running.epoch) <= settings.epochs:
        clean = epoch > settings.epochs - batches.augment.no_aug_epochs
        network.train()
        for images, labels in batches.epoch(epoch, clean=clean, start=running.batches):
            step = (epoch - 1) * steps_per_epoch + running.batches
            lr = rate(settings.schedule, peak, step, num_steps, steps_per_epoch)
            loss, scores = learner.step(images, labels, lr)
            running.add(loss, scores, labels)
            watch.step(state, False)
        last = epoch * steps_per_epoch - 1
        done = Epoch(
            epoch=epoch,
            train=running.score(),
            validation=watch.validate(learner.result),
            test=watch.test(learner.result),
            lr=rate(settings.schedule, peak, last, num_steps, steps_per_epoch),
        )
        epochs.append(done)
        watch.epoch(done, time.perf_counter() - running.start)
        running = _Running(epoch + 1, steps_per_epoch, device, watch.batch)
        watch.step(state, True)
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

    def sums(self) -> dict[str, Tensor]:
        return {
            "running.loss": self.loss,
            "running.correct": self.correct,
            "running.images": torch.tensor(self.images),
        }

    def load(self, state: State) -> None:
        self.batches, self.images = state.batch, int(state.tensors["running.images"])
        self.loss.copy_(state.tensors["running.loss"])
        self.correct.copy_(state.tensors["running.correct"])
        self.start -= state.seconds
