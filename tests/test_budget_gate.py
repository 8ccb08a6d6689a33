"""The gate over a table of what people try, honest and not: every violation shows, nothing else."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from smidgen.budget import Budget
from smidgen.config import Augment, Experiment, Model
from smidgen.data import Dataset, TrainSplit, load, open_dataset
from smidgen.errors import SmidgenError
from smidgen.profiling import profile
from smidgen.record import RunRecord, format_epoch, format_record, read_record, seal
from smidgen.runs.check import CheckResult, check
from smidgen.runs.options import RunOptions
from smidgen.runs.prepare import prepare_network
from smidgen.runs.run import run

# ------------------------------------------------------------- limits, at and beside their figures

_SHAPE = (1, 28, 28)
FIGURES = {
    "max_params": "num_params",
    "max_macs": "macs",
    "max_weight_bytes": "weight_bytes",
    "max_activation_bytes": "peak_activation_bytes",
}
LIMITS = [
    *((limit, over) for limit in FIGURES for over in (-1, 0, 1)),
    *(("max_epochs", over) for over in (-1, 0, 1)),
    *(("min_accuracy", over) for over in (-1, 0, 1)),
]
"""A limit, and by how much the figure is beyond it: one unit, one epoch, one image."""


@pytest.mark.parametrize(("limit", "over"), LIMITS)
def test_one_more_than_the_limit_is_found_and_the_limit_itself_is_not(
    limit: str, over: int, spoilable: Path, record: RunRecord
) -> None:
    epochs, right = len(record.epochs), record.test.num_correct
    figures = {name: getattr(record.profile, figure) for name, figure in FIGURES.items()}
    figures |= {"max_epochs": epochs, "min_accuracy": right}
    bound: float = figures[limit] - over
    if limit == "min_accuracy":
        bound = (right + over) / record.test.num_images
    limits: dict[str, Any] = {limit: bound}
    budget = Budget(**limits)
    settle(spoilable, budget, record)
    found = check(spoilable)
    assert found.differences == ()
    assert found.passed is (over <= 0)
    assert found.verdict == budget.check(
        record.profile, epochs=epochs, accuracy=record.test.score.accuracy
    )


def settle(folder: Path, budget: Budget, record: RunRecord) -> None:
    """Have the run be one that was done under `budget`, honestly."""
    accuracy = record.test.score.accuracy
    verdict = budget.check(record.profile, epochs=len(record.epochs), accuracy=accuracy)
    experiment = replace(record.experiment, budget=budget)
    write(folder, replace(record, experiment=experiment, verdict=verdict))


def write(folder: Path, record: RunRecord) -> None:
    """The record, and what else in the folder says the same."""
    (folder / "run.json").write_text(format_record(record), encoding="utf-8")
    (folder / "experiment.toml").write_text(record.experiment.to_toml(), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(map(format_epoch, record.epochs)))


# -------------------------------------------------------------------- what counts as a parameter


class Shared(nn.Module):
    """Two layers, one weight: 784 * 784 + two biases of 784."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(784, 784), nn.Linear(784, 784)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.second(self.first(images.flatten(1)))
        return scores


class Buffers(nn.Module):
    """A linear layer of 7,850 parameters, and a buffer of 5,000."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 10)
        self.register_buffer("kept", torch.zeros(5000))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.linear(images.flatten(1))
        return scores


class Unused(Buffers):
    """The same, and 30 parameters that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Parameter(torch.zeros(30))


def linear(bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=bias))


def frozen() -> nn.Sequential:
    network = linear()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def one_twice() -> nn.Sequential:
    layer = nn.Conv2d(4, 4, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), layer, layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )


def lazy() -> nn.Sequential:
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    network(torch.zeros(1, *_SHAPE))
    return network


def normed() -> nn.Sequential:
    network = linear()
    parametrizations.weight_norm(network[1])  # a direction of 7,840 and a length of 10, a bias
    return network


def orthogonal() -> nn.Sequential:
    network = linear()
    parametrizations.orthogonal(network[1])
    return network


def batch_normed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


def multi() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, groups=1),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.PReLU(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 10),
    )


COUNTED: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "shared weights once": (Shared, 784 * 784 + 2 * 784),
    "one layer called twice, once": (one_twice, 40 + 148 + 50),
    "frozen parameters": (frozen, 7850),
    "buffers not": (Buffers, 7850),
    "statistics of a batch norm not": (batch_normed, 72 + 16 + 90),
    "parameters that nothing uses": (Unused, 7880),
    "lazy layers once they are made": (lazy, 7850),
    "both parts of a weight norm": (normed, 7860),
    "what an orthogonal weight is made of": (orthogonal, 7850),
    "the bias that is one too many": (linear, 7850),
    "depthwise filters and slopes": (multi, 60 + 60 + 6 + 70),
}


@pytest.mark.parametrize("what", COUNTED)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_counts_is_counted_and_nothing_else(what: str) -> None:
    make, count = COUNTED[what]
    network = make()
    known = profile(network, _SHAPE)
    for counted in (network, known):
        assert Budget(max_params=count).check(counted).passed
        assert not Budget(max_params=count - 1).check(counted).passed
    assert known.num_params == count


def test_layers_that_are_not_made_yet_are_refused() -> None:
    with pytest.raises(SmidgenError, match="lazy layers"):
        Budget(max_params=10**9).check(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)))


def test_a_bias_alone_is_over_the_budget(tiny: Experiment, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def Net(bias): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=bias))\n"
    )
    for bias, passed in ((False, True), (True, False)):
        model = Model(module=f"{tmp_path / 'net.py'}:Net", args={"bias": bias})
        experiment = replace(tiny, model=model, budget=Budget(max_params=7840))
        _, found = prepare_network(experiment, open_dataset(experiment.data).info)
        assert experiment.budget.check(found).passed is passed
    assert run(experiment, RunOptions(out=tmp_path / "runs", threads=1)).folder is None
    assert not (tmp_path / "runs").exists()  # stopped before any training


# ---------------------------------------------------------------------------- what people try


@dataclass(frozen=True)
class Scene:
    """A finished run that may be spoilt, its record, and one of another seed."""

    folder: Path
    record: RunRecord
    other: Path

    def forge(self, **changes: Any) -> None:
        """Fields of the record; metrics and experiment follow, and the digest."""
        write(self.folder, replace(self.record, **changes))

    def weights(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        """Other weights, whose digest the record says."""
        path = self.folder / "weights.safetensors"
        content = safetensors.torch.save(change(safetensors.torch.load(path.read_bytes())))
        path.write_bytes(content)
        self.forge(weights_sha256=hashlib.sha256(content).hexdigest())


TRIES: dict[str, tuple[Callable[[Scene], object], str]] = {}
"""What is tried, and a part of what is said of it; "" where it is honest."""


def tried(name: str, says: str) -> Callable[[Callable[[Scene], object]], None]:
    def added(action: Callable[[Scene], object]) -> None:
        TRIES[name] = (action, says)

    return added


def figures(scene: Scene, **changes: Any) -> None:
    scene.forge(test=replace(scene.record.test, **changes))


def budget(scene: Scene, **limits: Any) -> Experiment:
    return replace(scene.record.experiment, budget=Budget(**limits))


@tried("nothing", "")
def _(at: Scene) -> None: ...


@tried("a record written again as it is", "")
def _(at: Scene) -> None:
    at.forge()


@tried("other words about it", "")
def _(at: Scene) -> None:
    said = replace(at.record.experiment, analysis="It learns.", target="As small as can be.")
    (at.folder / "experiment.toml").write_text(said.to_toml())


@tried("the run moved elsewhere, without what says no more", "")
def _(at: Scene) -> None:
    for name in ("metrics.jsonl", "diagnostics.safetensors", "times.json", "report.html"):
        (at.folder / name).unlink(missing_ok=True)


@tried("the last epoch left out, as if the best had been the last", "epochs: 1 now, 2 in")
def _(at: Scene) -> None:
    at.forge(epochs=at.record.epochs[:1])


@tried("epochs in another order", "numbers of the epochs")
def _(at: Scene) -> None:
    at.forge(epochs=at.record.epochs[::-1])


@tried("an epoch told twice", "numbers of the epochs")
def _(at: Scene) -> None:
    at.forge(epochs=at.record.epochs[:1] * 2)


@tried("a number of epochs that fits the ones told", "experiment.toml is not the record's")
def _(at: Scene) -> None:
    toml = (at.folder / "experiment.toml").read_bytes()
    train = replace(at.record.experiment.train, epochs=1)
    at.forge(experiment=replace(at.record.experiment, train=train), epochs=at.record.epochs[:1])
    (at.folder / "experiment.toml").write_bytes(toml)


@tried("the score of a better epoch as the test's", "test accuracy")
def _(at: Scene) -> None:
    figures(at, score=replace(at.record.test.score, accuracy=0.99))


@tried("one right image more", "right test images")
def _(at: Scene) -> None:
    figures(at, num_correct=at.record.test.num_correct + 1)


@tried("a smaller loss", "test loss")
def _(at: Scene) -> None:
    figures(at, score=replace(at.record.test.score, loss=0.01))


@tried("a tidier confusion matrix", "confusion matrix")
def _(at: Scene) -> None:
    rows = [[36 * (row == column) for column in range(10)] for row in range(10)]
    figures(at, confusion=tuple(map(tuple, rows)))


@tried("fewer test images", "test images")
def _(at: Scene) -> None:
    figures(at, num_images=at.record.test.num_correct)


@tried("looser limits in the record alone", "experiment.toml is not the record's")
def _(at: Scene) -> None:
    toml = (at.folder / "experiment.toml").read_bytes()
    settle(at.folder, Budget(max_params=10**6), at.record)
    (at.folder / "experiment.toml").write_bytes(toml)


@tried("looser limits in the experiment alone", "experiment.toml is not the record's")
def _(at: Scene) -> None:
    said = budget(at, max_params=10**6)
    (at.folder / "experiment.toml").write_text(said.to_toml())


@tried("a verdict that says pass under tighter limits", "verdict")
def _(at: Scene) -> None:
    at.forge(experiment=budget(at, max_params=1))


@tried("a verdict without its limits", "verdict")
def _(at: Scene) -> None:
    at.forge(verdict=replace(at.record.verdict, limits=()))


@tried("fewer parameters", "parameters")
def _(at: Scene) -> None:
    at.forge(profile=replace(at.record.profile, num_params=7))


@tried("fewer multiply-adds", "profile")
def _(at: Scene) -> None:
    at.forge(profile=replace(at.record.profile, macs=7))


@tried("fewer looks at the test set", "looks at the test set")
def _(at: Scene) -> None:
    at.forge(test_looks=0)


@tried("looks at the test set in each epoch that are not counted", "looks at the test set")
def _(at: Scene) -> None:
    seen = [replace(epoch, test=at.record.test.score) for epoch in at.record.epochs]
    at.forge(epochs=tuple(seen))


@tried("another digest of the data", "data's SHA-256")
def _(at: Scene) -> None:
    at.forge(data=replace(at.record.data, sha256="0" * 64))


@tried("another number of training images", "data")
def _(at: Scene) -> None:
    at.forge(data=replace(at.record.data, num_train=60_000))


@tried("the weights of another seed", "weights' SHA-256")
def _(at: Scene) -> None:
    shutil.copy(at.other / "weights.safetensors", at.folder)


@tried("the weights of another seed, and their digest", "confusion matrix")
def _(at: Scene) -> None:
    at.weights(lambda _: safetensors.torch.load((at.other / "weights.safetensors").read_bytes()))


@tried("the weights of another network", "weights of another network")
def _(at: Scene) -> None:
    at.weights(lambda there: there | {"0.0.weight": torch.zeros(7, 1, 3, 3)})


@tried("rounded weights", "weights' SHA-256")
def _(at: Scene) -> None:
    digest = at.record.weights_sha256
    at.weights(lambda there: {n: t.half().to(t.dtype) for n, t in there.items()})
    at.forge(weights_sha256=digest)


@tried("a layer that is not there", "weights of another network")
def _(at: Scene) -> None:
    at.weights(lambda there: {n: t for n, t in there.items() if n != "0.0.weight"})


@tried("no weights", "cannot be read")
def _(at: Scene) -> None:
    (at.folder / "weights.safetensors").unlink()


@tried("a record that was edited by hand", "run.json was changed after it was written")
def _(at: Scene) -> None:
    path = at.folder / "run.json"
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))


@tried("a learning rate larger than any number", "run.json")
def _(at: Scene) -> None:
    path = at.folder / "run.json"
    body = "{\n" + path.read_text().split("\n", 2)[2]
    path.write_text(seal(body.replace('"lr": ', '"lr": ' + "9" * 400, 1)))


@tried("better epochs in metrics.jsonl", "metrics.jsonl differs from the record")
def _(at: Scene) -> None:
    path = at.folder / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.", "0.9", 1))


@tried("another network in the experiment and the record", "weights of another network")
def _(at: Scene) -> None:
    at.forge(experiment=replace(at.record.experiment, model=Model(chain="5,s2 8,s2,o0.1 G")))


@tried("the record of one run in the folder of another", "weights' SHA-256")
def _(at: Scene) -> None:
    for name in ("run.json", "metrics.jsonl"):
        shutil.copy(at.other / name, at.folder)


@pytest.fixture(scope="module")
def other(tiny: Experiment, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run like `finished`, with another seed; for reading only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smidgen.runs.train.write_report", lambda *_: None)
        out = tmp_path_factory.mktemp("other")
        found = run(tiny, RunOptions(seed=4, out=out, threads=1), dataset=digits).folder
    assert found is not None
    return found


def said(folder: Path, **options: Any) -> tuple[bool, str]:
    """Whether the gate lets the run through, and what it says."""
    try:
        found: CheckResult = check(folder, **options)
    except SmidgenError as error:
        return False, str(error)
    return found.passed, "\n".join(found.differences)


@pytest.mark.parametrize("name", TRIES)
def test_every_try_is_found_out_and_nothing_honest(
    name: str, spoilable: Path, record: RunRecord, other: Path
) -> None:
    action, says = TRIES[name]
    action(Scene(spoilable, record, other))
    passed, text = said(spoilable)
    assert passed is (not says), text
    assert says in text


# --------------------------------------------------------------- what only a repetition can find

REPEATED: dict[str, Callable[[Scene], None]] = {
    "another seed": lambda at: at.forge(seed=5),
    "another run's everything under this seed": lambda at: disguise(at),
    "better figures of training": lambda at: at.forge(
        epochs=tuple(
            replace(epoch, train=replace(epoch.train, accuracy=0.99)) for epoch in at.record.epochs
        )
    ),
}


def disguise(at: Scene) -> None:
    shutil.rmtree(at.folder)
    shutil.copytree(at.other, at.folder)
    write(at.folder, replace(read_record(at.other), seed=at.record.seed))


@pytest.mark.parametrize("name", REPEATED)
def test_what_fits_throughout_is_found_by_a_repetition(
    name: str, spoilable: Path, record: RunRecord, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)
    REPEATED[name](Scene(spoilable, record, other))
    assert said(spoilable) == (True, "")
    passed, text = said(spoilable, repeat=True)
    assert not passed
    assert "trained again" in text


# ----------------------------------------------------------------------------------- the labels


def shuffled(part: TrainSplit, seed: int) -> TrainSplit:
    order = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(seed))
    return replace(part, labels=part.labels[order])


def test_labels_that_were_changed_since_are_found(
    spoilable: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = (digits.test.labels + 1) % 10
    spoilt = replace(digits, test=replace(digits.test, labels=labels), sha256="1" * 64)
    monkeypatch.setattr("smidgen.runs.check.load", lambda *_, **__: spoilt)
    passed, text = said(spoilable)
    assert not passed
    assert "data's SHA-256" in text
    assert "right test images" in text


@pytest.mark.slow
def test_shuffled_labels_teach_nothing(
    tiny: Experiment, mnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 % on MNIST's test set, as by chance, and the gate says that the budget is missed."""
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)
    settings = replace(tiny.data, name="mnist", augment=Augment())
    dataset = load(settings, data_dir=mnist_folder)
    part = replace(
        dataset.train, images=dataset.train.images[:12_000], labels=dataset.train.labels[:12_000]
    )
    experiment = replace(
        tiny,
        data=settings,
        train=replace(tiny.train, epochs=1, batch_size=64),
        budget=Budget(max_params=1000, max_epochs=1, min_accuracy=0.5),
    )
    found = []
    for seed in range(SHUFFLES):
        spoilt = replace(dataset, train=shuffled(part, seed))
        outcome = run(experiment, RunOptions(seed=seed, out=tmp_path, threads=1), dataset=spoilt)
        assert outcome.record is not None
        assert not outcome.verdict.passed
        found.append(outcome.record.test.score.accuracy)
    assert abs(sum(found) / len(found) - 0.10) <= 0.015, found
    honest = run(
        experiment, RunOptions(out=tmp_path, threads=1), dataset=replace(dataset, train=part)
    )
    assert honest.record is not None
    assert honest.verdict.passed, honest.record.test.score


SHUFFLES = 5


def test_the_table_is_no_shorter_than_it_was() -> None:
    assert len(LIMITS) + len(COUNTED) + len(TRIES) + len(REPEATED) + 4 >= 60
