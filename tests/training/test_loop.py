import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from smidgen.callbacks import Callback, Progress, TrainState
from smidgen.config import Augment, Average, Optimizer, Schedule, Train
from smidgen.data import Dataset, TrainLoader, TrainSplit, normalize
from smidgen.errors import CheckpointError, ModelError
from smidgen.evaluate import evaluate
from smidgen.models.chain import build_chain
from smidgen.record import Epoch, Score
from smidgen.training import build_backend, train
from smidgen.training.schedule import rate

PLAIN = Train(
    epochs=1,
    batch_size=32,
    optimizer=Optimizer(name="sgd", lr=0.05),
    schedule=Schedule(name="constant"),
    average=Average(name="none"),
)
FULL = replace(
    PLAIN,
    epochs=2,
    schedule=Schedule(name="one-cycle"),
    average=Average(name="ema", decay=0.9),
)
MUON = Optimizer(name="muon", lr=0.05, momentum=0.9, nesterov=True, other_lr=0.02)
MOVED = Augment(rotate=10, translate=0.1, scale=0.1, shear=0.1)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Seen(Callback):
    """Remembers every call, and every network that was to be evaluated."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.epochs: list[Epoch] = []
        self.seconds: list[float] = []
        self.calls: list[str] = []
        self.evaluated: list[nn.Module] = []
        self.states: list[TrainState] = []

    def on_progress(self, progress: Progress) -> None:
        self.progress.append(progress)

    def on_step_end(self, capture: Callable[[], TrainState]) -> None:
        self.calls.append("step")
        self.states.append(copied(capture()))

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        self.calls.append("epoch")
        self.epochs.append(epoch)
        self.seconds.append(seconds)
        self.states.append(copied(capture()))

    def evaluate(self, network: nn.Module) -> tuple[Score | None, Score | None]:
        self.evaluated.append(network)
        return None, None


def small() -> nn.Module:
    torch.manual_seed(0)
    return build_chain("4,s2 8,s2,o0.2 G", (1, 28, 28), 10)


def learn(
    data: Dataset,
    settings: Train,
    *,
    images: int = 256,
    network: nn.Module | None = None,
    augment: Augment | None = None,
    seed: int = 0,
    seen: Seen | None = None,
    start: TrainState | None = None,
) -> tuple[nn.Module, tuple[Epoch, ...]]:
    batches = TrainLoader(
        split=TrainSplit(data.train.images[:images], data.train.labels[:images]),
        batch_size=settings.batch_size,
        augment=augment or Augment(),
        mean=data.mean,
        std=data.std,
        seed=seed,
    )
    network, seen = network or small(), seen or Seen()
    backend = build_backend("eager", network, data.image_shape, settings, threads=1)
    return train(
        network,
        batches,
        settings,
        forward=backend.forward,
        evaluate=seen.evaluate,
        callback=seen,
        start=start,
    )


def weights(network: nn.Module) -> bytes:
    return safetensors.torch.save(dict(network.state_dict()))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(digits: Dataset) -> None:
    runs = [
        learn(digits, FULL, images=len(digits.train), augment=MOVED, seed=seed)
        for seed in (1, 1, 2)
    ]
    one, again, other = (weights(network) for network, _ in runs)
    assert one == again
    assert one != other
    assert [e.train for e in runs[0][1]] == [e.train for e in runs[1][1]]


@pytest.mark.parametrize(
    "change",
    [
        {"average": Average(name="none")},
        {"schedule": Schedule(name="constant")},
        {"label_smoothing": 0.1},
        {"batch_size": 64},
        {"precision": "bfloat16"},
        {"optimizer": Optimizer(name="sgd", lr=0.05, weight_decay=0.1)},
        {"optimizer": Optimizer(name="adam", lr=0.05)},
    ],
)
def test_every_setting_matters(digits: Dataset, change: dict[str, Any]) -> None:
    network, _ = learn(digits, replace(FULL, **change), images=64)
    assert weights(network) != weights(learn(digits, FULL, images=64)[0])


def test_sixty_four_images_are_memorized(digits: Dataset) -> None:
    settings = replace(PLAIN, epochs=60, batch_size=16, optimizer=Optimizer(name="adam", lr=0.01))
    torch.manual_seed(0)
    fresh = build_chain("8,s2 16,s2 G", (1, 28, 28), 10)
    network, epochs = learn(digits, settings, images=64, network=fresh)
    part = TrainSplit(digits.train.images[:64], digits.train.labels[:64])
    assert evaluate(network, part, digits.mean, digits.std, 10).score.accuracy == 1.0
    assert epochs[-1].train.loss < epochs[0].train.loss / 5


class Spy(nn.Module):
    """A network that keeps what it was shown in training."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.shown.append(x.clone())
        out: Tensor = self.network(x)
        return out


@pytest.mark.parametrize(("clean", "expected"), [(0, [False] * 3), (2, [False, True, True])])
def test_the_last_epochs_see_clean_images(
    digits: Dataset, clean: int, expected: list[bool]
) -> None:
    spy = Spy(small())
    settings = replace(PLAIN, epochs=3, batch_size=8)
    learn(digits, settings, images=32, network=spy, augment=replace(MOVED, no_aug_epochs=clean))
    originals = normalize(digits.train.images[:32], digits.mean, digits.std).flatten(1).tolist()
    shown = torch.cat(spy.shown).flatten(1).tolist()
    assert len(shown) == 3 * 32
    epochs = [sorted(shown[start : start + 32]) for start in (0, 32, 64)]
    assert [epoch == sorted(originals) for epoch in epochs] == expected


def test_a_nan_loss_stops_the_run(digits: Dataset) -> None:
    wild = replace(PLAIN, epochs=3, optimizer=Optimizer(name="sgd", lr=1e30))
    seen = Seen()
    with pytest.raises(ModelError, match=r"became nan in epoch 1, by batch \d+; try a lower"):
        learn(digits, wild, seen=seen)
    assert seen.epochs == []


class Linear(nn.Module):
    """A single linear layer on the pixels, with log-probabilities if asked for."""

    def __init__(self, log: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.log = nn.Linear(784, 10), log

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layer(x.flatten(1))
        return scores.log_softmax(1) if self.log else scores


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_the_first_step_equals_a_computation_by_hand(
    digits: Dataset, smoothing: float
) -> None:
    settings = replace(PLAIN, batch_size=64, label_smoothing=smoothing)
    with torch.no_grad():
        shares = Linear()(normalize(digits.train.images[:64], digits.mean, digits.std)).softmax(1)
    right = shares.double()[range(64), digits.train.labels[:64]]
    expected = -(1 - smoothing) * right.log() - smoothing * shares.double().log().mean(1)
    _, (epoch,) = learn(digits, settings, images=64, network=Linear())
    assert epoch.train.loss == pytest.approx(float(expected.mean()), rel=1e-5)
    guessed = (shares.argmax(1) == digits.train.labels[:64]).double().mean()
    assert epoch.train.accuracy == float(guessed)


def test_log_probabilities_are_trained_as_logits_are(digits: Dataset) -> None:
    settings = replace(PLAIN, epochs=2, label_smoothing=0.1)
    (one, first), (other, second) = (
        learn(digits, settings, images=64, network=Linear(log)) for log in (False, True)
    )
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=1e-4, atol=1e-5)
    assert [e.train.loss for e in first] == pytest.approx([e.train.loss for e in second], rel=1e-4)


def test_bfloat16_computes_in_it_and_keeps_weights_as_they_are(digits: Dataset) -> None:
    network, kinds = small(), []
    convolution = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    convolution.register_forward_hook(lambda *call: kinds.append(call[2].dtype))
    trained, (epoch,) = learn(digits, replace(PLAIN, precision="bfloat16"), network=network)
    assert set(kinds) == {torch.bfloat16}
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    assert math.isfinite(epoch.train.loss)


@pytest.mark.parametrize("average", [Average(name="none"), Average(name="ema", decay=0.5)])
def test_the_returned_network_is_the_one_that_is_scored(digits: Dataset, average: Average) -> None:
    network, seen = small(), Seen()
    result, _ = learn(digits, replace(FULL, average=average), network=network, seen=seen)
    assert (result is network) is (average.name == "none")
    assert seen.evaluated == [result, result]
    assert not result.training


def test_callbacks_are_called_in_order(digits: Dataset) -> None:
    seen = Seen()
    settings = replace(FULL, batch_size=24)
    _, epochs = learn(digits, settings, images=100, seen=seen)  # 5 batches of 20
    assert seen.epochs == list(epochs)
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    last = [p for p in seen.progress if p.batch == p.num_batches]
    assert [(p.epoch, p.num_batches) for p in last] == [(1, 5), (2, 5)]
    assert [Score(loss=p.loss, accuracy=p.accuracy) for p in last] == [
        epoch.train for epoch in epochs
    ]
    assert all(p.images_per_second > 0 for p in seen.progress)
    ends = [rate(settings.schedule, 0.05, step, 10, 5) for step in (4, 9)]
    assert [epoch.lr for epoch in epochs] == ends
    assert all(epoch.validation is None for epoch in epochs)
    assert all(seconds > 0 for seconds in seen.seconds)
    assert seen.calls == (["step"] * 5 + ["epoch"]) * 2


def test_a_run_of_few_epochs_notes_its_scores_by_step(digits: Dataset) -> None:
    settings = replace(FULL, batch_size=10, epochs=4)
    _, epochs = learn(digits, settings, images=1000)
    for number, epoch in enumerate(epochs):
        assert epoch.steps is not None
        last = [step.step for step in epoch.steps]
        assert len(last) == 40
        assert last[-1] == 100
        lengths = torch.diff(torch.tensor([0, *last]))
        assert set(lengths.tolist()) == {2, 3}
        for name in ("loss", "accuracy"):
            values = torch.tensor([getattr(step.train, name) for step in epoch.steps])
            mean = float((values * lengths).sum() / 100)
            assert mean == pytest.approx(getattr(epoch.train, name), rel=1e-4)
        rates = [rate(settings.schedule, 0.05, 100 * number + at - 1, 400, 100) for at in last]
        assert [step.lr for step in epoch.steps] == rates
    _, epochs = learn(digits, replace(settings, epochs=5), images=100)
    assert [epoch.steps for epoch in epochs] == [None] * 5


def copied(state: TrainState) -> TrainState:
    return replace(state, tensors={name: t.clone() for name, t in state.tensors.items()})


def states_of(data: Dataset, settings: Train) -> tuple[list[TrainState], bytes, tuple[Epoch, ...]]:
    """Train 4 batches per epoch; return every state, the weights and the epochs."""
    seen = Seen()
    network, epochs = learn(data, settings, images=100, augment=MOVED, seen=seen)
    return seen.states, weights(network), epochs


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"average": Average(name="none")},
        {"optimizer": Optimizer(name="sgd", lr=0.05)},
        {"optimizer": Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True)},
        {"optimizer": Optimizer(name="adam", lr=0.05)},
        {"optimizer": Optimizer(name="adamw", lr=0.05, weight_decay=0.1)},
        {"optimizer": MUON},
        {"precision": "bfloat16"},
    ],
)
def test_training_from_any_state_ends_the_same(digits: Dataset, change: dict[str, Any]) -> None:
    settings = replace(FULL, batch_size=25, **change)
    states, expected, epochs = states_of(digits, settings)
    assert [(s.epoch, s.batch) for s in states] == [
        *((1, 1), (1, 2), (1, 3), (1, 4), (2, 0)),
        *((2, 1), (2, 2), (2, 3), (2, 4), (3, 0)),
    ]
    for start in states:
        torch.manual_seed(99)
        network, found = learn(digits, settings, images=100, augment=MOVED, start=start)
        assert weights(network) == expected
        assert found == epochs


def test_a_state_names_all_that_changes(digits: Dataset) -> None:
    states, _, _ = states_of(digits, replace(FULL, batch_size=25))
    kinds = {name.partition(".")[0] for name in states[0].tensors}
    wanted = {"network", "average", "average_steps", "optimizer", "running", "random"}
    assert kinds == wanted - {"optimizer"}  # plain SGD keeps nothing
    assert all(state.tensors.keys() == states[0].tensors.keys() for state in states)


def test_a_state_of_another_training_is_refused(digits: Dataset) -> None:
    states, _, _ = states_of(digits, replace(FULL, average=Average(name="none"), batch_size=25))
    with pytest.raises(CheckpointError, match="average"):
        learn(digits, FULL, images=100, start=states[0])
    with pytest.raises(CheckpointError, match="size"):
        learn(digits, PLAIN, network=build_chain("5,s2 8,s2 G", (1, 28, 28), 10), start=states[0])


def test_a_batch_too_small_for_batch_norm_is_a_model_error(digits: Dataset) -> None:
    network = build_chain("4,k28 G", (1, 28, 28), 10)
    with pytest.raises(ModelError, match=r"on a batch of 1 .* increase train.batch_size"):
        learn(digits, replace(PLAIN, batch_size=1), images=4, network=network)


@pytest.mark.parametrize(
    "error", [RuntimeError("a kernel's bug"), torch.OutOfMemoryError("CUDA out of memory")]
)
def test_a_bug_or_a_lack_of_memory_keeps_its_type(digits: Dataset, error: Exception) -> None:
    def forward(images: Tensor) -> Tensor:
        raise error

    loader = TrainLoader(
        split=digits.train,
        batch_size=32,
        augment=Augment(),
        mean=digits.mean,
        std=digits.std,
        seed=0,
    )
    with pytest.raises(type(error)) as raised:
        train(small(), loader, PLAIN, forward=forward)
    assert raised.value is error


if TYPE_CHECKING:

    def _the_test_split_is_not_for_training(data: Dataset, network: nn.Module) -> None:
        # mypy runs on this file and refuses an ignore without need: that is the test.
        batches = TrainLoader(
            split=data.test,  # type: ignore[arg-type]
            batch_size=1,
            augment=Augment(),
            mean=(0.5,),
            std=(0.5,),
            seed=0,
        )
        train(network, batches, PLAIN)


@pytest.mark.slow
def test_mypy_names_the_part_that_is_wrong(tmp_path: Path) -> None:
    program = """
from smidgen.config import Augment
from smidgen.data import Dataset, TrainLoader

def wrong(data: Dataset) -> None:
    plain, mean, std = Augment(), data.mean, data.std
    TrainLoader(split=data.train, batch_size=1, augment=plain, mean=mean, std=std, seed=0)
    TrainLoader(split=data.test, batch_size=1, augment=plain, mean=mean, std=std, seed=0)
"""
    path = tmp_path / "wrong.py"
    path.write_text(program)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml")]
    done = subprocess.run([*command, str(path)], cwd=root, capture_output=True, text=True)
    (line, _) = done.stdout.splitlines()
    assert "wrong.py:8: error" in line
    assert 'has incompatible type "TestSplit"; expected "TrainSplit"' in line
