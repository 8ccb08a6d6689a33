"""The gate finds every violation in a table of honest and dishonest runs, and nothing else."""

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
from smidgen.runs.network import prepare_network
from smidgen.runs.options import RunOptions
from smidgen.runs.run import run

# --------------------------------------------------------------- limits, at and next to the values

_SHAPE = (1, 28, 28)
VALUES = {
    "max_params": "num_params",
    "max_macs": "macs",
    "max_weight_bytes": "weight_bytes",
    "max_activation_bytes": "peak_activation_bytes",
}
LIMITS = [
    *((limit, over) for limit in VALUES for over in (-1, 0, 1)),
    *(("max_epochs", over) for over in (-1, 0, 1)),
    *(("min_accuracy", over) for over in (-1, 0, 1)),
]
"""A limit, and by how much the value exceeds it: one unit, one epoch, one image."""


@pytest.mark.parametrize(("limit", "over"), LIMITS)
def test_a_value_may_equal_its_limit_but_not_exceed_it(
    limit: str, over: int, run_copy: Path, record: RunRecord
) -> None:
    epochs, correct = len(record.epochs), record.test.num_correct
    values = {name: getattr(record.profile, value) for name, value in VALUES.items()}
    values |= {"max_epochs": epochs, "min_accuracy": correct}
    bound: float = values[limit] - over
    if limit == "min_accuracy":
        bound = (correct + over) / record.test.num_images
    limits: dict[str, Any] = {limit: bound}
    budget = Budget(**limits)
    judge_under(run_copy, budget, record)
    found = check(run_copy)
    assert found.differences == ()
    assert found.passed is (over <= 0)
    assert found.verdict == budget.check(
        record.profile, epochs=epochs, accuracy=record.test.score.accuracy
    )


def judge_under(folder: Path, budget: Budget, record: RunRecord) -> None:
    """Rewrite the run as if `budget` had been its budget from the start."""
    accuracy = record.test.score.accuracy
    verdict = budget.check(record.profile, epochs=len(record.epochs), accuracy=accuracy)
    experiment = replace(record.experiment, budget=budget)
    write(folder, replace(record, experiment=experiment, verdict=verdict))


def write(folder: Path, record: RunRecord) -> None:
    """Write the record, and the other files of the run that repeat its content."""
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
        self.register_buffer("extra", torch.zeros(5000))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.linear(images.flatten(1))
        return scores


class Unused(Buffers):
    """The same, and 30 unused parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(30))


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
    parametrizations.weight_norm(network[1])  # 7,840 for directions, 10 for lengths, 10 for biases
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
    "no buffers": (Buffers, 7850),
    "no statistics of a batch norm": (batch_normed, 72 + 16 + 90),
    "unused parameters": (Unused, 7880),
    "lazy layers after a forward pass": (lazy, 7850),
    "directions and lengths of a weight norm": (normed, 7860),
    "the parameters of an orthogonal weight": (orthogonal, 7850),
    "biases": (linear, 7850),
    "depthwise filters and slopes": (multi, 60 + 60 + 6 + 70),
}


@pytest.mark.parametrize("what", COUNTED)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_parameters_are_counted_exactly(what: str) -> None:
    make, count = COUNTED[what]
    network = make()
    known = profile(network, _SHAPE)
    for counted in (network, known):
        assert Budget(max_params=count).check(counted).passed
        assert not Budget(max_params=count - 1).check(counted).passed
    assert known.num_params == count


def test_uninitialized_lazy_layers_are_refused() -> None:
    with pytest.raises(SmidgenError, match="lazy layers"):
        Budget(max_params=10**9).check(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)))


def test_a_bias_can_exceed_the_budget(tiny: Experiment, tmp_path: Path) -> None:
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


# ------------------------------------------------------------------------------------- attempts


@dataclass(frozen=True)
class Scene:
    """A finished run to tamper with, its record, and the folder of a run with another seed."""

    folder: Path
    record: RunRecord
    other: Path

    def forge(self, **changes: Any) -> None:
        """Change fields of the record, and metrics, experiment and digest with it."""
        write(self.folder, replace(self.record, **changes))

    def weights(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        """Change the weights, and their digest in the record."""
        path = self.folder / "weights.safetensors"
        content = safetensors.torch.save(change(safetensors.torch.load(path.read_bytes())))
        path.write_bytes(content)
        self.forge(weights_sha256=hashlib.sha256(content).hexdigest())


ATTEMPTS: dict[str, tuple[Callable[[Scene], object], str]] = {}
"""What is attempted, and text that the check reports; "" if the attempt is honest."""


def attempt(name: str, message: str) -> Callable[[Callable[[Scene], object]], None]:
    def added(action: Callable[[Scene], object]) -> None:
        ATTEMPTS[name] = (action, message)

    return added


def forge_test(scene: Scene, **changes: Any) -> None:
    scene.forge(test=replace(scene.record.test, **changes))


def budget(scene: Scene, **limits: Any) -> Experiment:
    return replace(scene.record.experiment, budget=Budget(**limits))


@attempt("nothing", "")
def _(scene: Scene) -> None: ...


@attempt("a record rewritten unchanged", "")
def _(scene: Scene) -> None:
    scene.forge()


@attempt("another target and analysis", "")
def _(scene: Scene) -> None:
    changed = replace(scene.record.experiment, analysis="It learns.", target="As small as can be.")
    (scene.folder / "experiment.toml").write_text(changed.to_toml())


@attempt("a run without its optional files", "")
def _(scene: Scene) -> None:
    for name in ("metrics.jsonl", "diagnostics.safetensors", "times.json", "report.html"):
        (scene.folder / name).unlink(missing_ok=True)


@attempt("the last epoch left out, as if the best were the last", "epochs: 1 now, 2 in")
def _(scene: Scene) -> None:
    scene.forge(epochs=scene.record.epochs[:1])


@attempt("epochs in another order", "epoch numbers")
def _(scene: Scene) -> None:
    scene.forge(epochs=scene.record.epochs[::-1])


@attempt("an epoch listed twice", "epoch numbers")
def _(scene: Scene) -> None:
    scene.forge(epochs=scene.record.epochs[:1] * 2)


@attempt(
    "a number of epochs that fits the ones left in the record",
    "experiment.toml is not the record's",
)
def _(scene: Scene) -> None:
    toml = (scene.folder / "experiment.toml").read_bytes()
    train = replace(scene.record.experiment.train, epochs=1)
    scene.forge(
        experiment=replace(scene.record.experiment, train=train), epochs=scene.record.epochs[:1]
    )
    (scene.folder / "experiment.toml").write_bytes(toml)


@attempt("the score of a better epoch as the test score", "test accuracy")
def _(scene: Scene) -> None:
    forge_test(scene, score=replace(scene.record.test.score, accuracy=0.99))


@attempt("one more correct image", "correct test images")
def _(scene: Scene) -> None:
    forge_test(scene, num_correct=scene.record.test.num_correct + 1)


@attempt("a smaller loss", "test loss")
def _(scene: Scene) -> None:
    forge_test(scene, score=replace(scene.record.test.score, loss=0.01))


@attempt("a better confusion matrix", "confusion matrix")
def _(scene: Scene) -> None:
    rows = [[36 * (row == column) for column in range(10)] for row in range(10)]
    forge_test(scene, confusion=tuple(map(tuple, rows)))


@attempt("fewer test images", "test images")
def _(scene: Scene) -> None:
    forge_test(scene, num_images=scene.record.test.num_correct)


@attempt("looser limits in the record alone", "experiment.toml is not the record's")
def _(scene: Scene) -> None:
    toml = (scene.folder / "experiment.toml").read_bytes()
    judge_under(scene.folder, Budget(max_params=10**6), scene.record)
    (scene.folder / "experiment.toml").write_bytes(toml)


@attempt("looser limits in the experiment alone", "experiment.toml is not the record's")
def _(scene: Scene) -> None:
    changed = budget(scene, max_params=10**6)
    (scene.folder / "experiment.toml").write_text(changed.to_toml())


@attempt("a verdict that says pass under tighter limits", "verdict")
def _(scene: Scene) -> None:
    scene.forge(experiment=budget(scene, max_params=1))


@attempt("a verdict without its limits", "verdict")
def _(scene: Scene) -> None:
    scene.forge(verdict=replace(scene.record.verdict, limits=()))


@attempt("fewer parameters", "parameters")
def _(scene: Scene) -> None:
    scene.forge(profile=replace(scene.record.profile, num_params=7))


@attempt("fewer multiply-adds", "profile")
def _(scene: Scene) -> None:
    scene.forge(profile=replace(scene.record.profile, macs=7))


@attempt("fewer evaluations on the test set", "looks at the test set")
def _(scene: Scene) -> None:
    scene.forge(test_looks=0)


@attempt("uncounted evaluations on the test set in each epoch", "looks at the test set")
def _(scene: Scene) -> None:
    seen = [replace(epoch, test=scene.record.test.score) for epoch in scene.record.epochs]
    scene.forge(epochs=tuple(seen))


@attempt("another digest of the data", "data's SHA-256")
def _(scene: Scene) -> None:
    scene.forge(data=replace(scene.record.data, sha256="0" * 64))


@attempt("another number of training images", "data")
def _(scene: Scene) -> None:
    scene.forge(data=replace(scene.record.data, num_train=60_000))


@attempt("the weights of another seed", "weights' SHA-256")
def _(scene: Scene) -> None:
    shutil.copy(scene.other / "weights.safetensors", scene.folder)


@attempt("the weights of another seed, and their digest", "confusion matrix")
def _(scene: Scene) -> None:
    scene.weights(
        lambda _: safetensors.torch.load((scene.other / "weights.safetensors").read_bytes())
    )


@attempt("the weights of another network", "weights of another network")
def _(scene: Scene) -> None:
    scene.weights(lambda weights: weights | {"0.0.weight": torch.zeros(7, 1, 3, 3)})


@attempt("rounded weights", "weights' SHA-256")
def _(scene: Scene) -> None:
    digest = scene.record.weights_sha256
    scene.weights(lambda weights: {n: t.to(torch.float16).to(t.dtype) for n, t in weights.items()})
    scene.forge(weights_sha256=digest)


@attempt("a missing layer", "weights of another network")
def _(scene: Scene) -> None:
    scene.weights(lambda weights: {n: t for n, t in weights.items() if n != "0.0.weight"})


@attempt("no weights", "cannot be read")
def _(scene: Scene) -> None:
    (scene.folder / "weights.safetensors").unlink()


@attempt("a record that was edited by hand", "run.json was edited")
def _(scene: Scene) -> None:
    path = scene.folder / "run.json"
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))


@attempt("a learning rate larger than any float", "run.json")
def _(scene: Scene) -> None:
    path = scene.folder / "run.json"
    body = "{\n" + path.read_text().split("\n", 2)[2]
    path.write_text(seal(body.replace('"lr": ', '"lr": ' + "9" * 400, 1)))


@attempt("better metrics in metrics.jsonl", "metrics.jsonl differs from the record")
def _(scene: Scene) -> None:
    path = scene.folder / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.", "0.9", 1))


@attempt("another network in the experiment and the record", "weights of another network")
def _(scene: Scene) -> None:
    scene.forge(experiment=replace(scene.record.experiment, model=Model(chain="5,s2 8,s2,o0.1 G")))


@attempt("the record of one run in the folder of another", "weights' SHA-256")
def _(scene: Scene) -> None:
    for name in ("run.json", "metrics.jsonl"):
        shutil.copy(scene.other / name, scene.folder)


@pytest.fixture(scope="module")
def other(tiny: Experiment, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run like `finished` with another seed; do not change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smidgen.runs.train.write_report", lambda *_: None)
        out = tmp_path_factory.mktemp("other")
        found = run(tiny, RunOptions(seed=4, out=out, threads=1), dataset=digits).folder
    assert found is not None
    return found


def run_check(folder: Path, **options: Any) -> tuple[bool, str]:
    """Return whether the run passes the check, and the differences or the error."""
    try:
        found: CheckResult = check(folder, **options)
    except SmidgenError as error:
        return False, str(error)
    return found.passed, "\n".join(found.differences)


@pytest.mark.parametrize("name", ATTEMPTS)
def test_dishonest_attempts_are_found_and_honest_ones_pass(
    name: str, run_copy: Path, record: RunRecord, other: Path
) -> None:
    action, message = ATTEMPTS[name]
    action(Scene(run_copy, record, other))
    passed, text = run_check(run_copy)
    assert passed is (not message), text
    assert message in text


# ----------------------------------------------------------------- found only by training again

REPEATED: dict[str, Callable[[Scene], None]] = {
    "another seed": lambda scene: scene.forge(seed=5),
    "all files of another run under this seed": lambda scene: disguise(scene),
    "better training accuracies": lambda scene: scene.forge(
        epochs=tuple(
            replace(epoch, train=replace(epoch.train, accuracy=0.99))
            for epoch in scene.record.epochs
        )
    ),
}


def disguise(scene: Scene) -> None:
    shutil.rmtree(scene.folder)
    shutil.copytree(scene.other, scene.folder)
    write(scene.folder, replace(read_record(scene.other), seed=scene.record.seed))


@pytest.mark.parametrize("name", REPEATED)
def test_consistent_forgeries_are_found_by_training_again(
    name: str, run_copy: Path, record: RunRecord, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)
    REPEATED[name](Scene(run_copy, record, other))
    assert run_check(run_copy) == (True, "")
    passed, text = run_check(run_copy, repeat=True)
    assert not passed
    assert "trained again" in text


# ----------------------------------------------------------------------------------- the labels


def shuffled(split: TrainSplit, seed: int) -> TrainSplit:
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(seed))
    return replace(split, labels=split.labels[order])


def test_changed_labels_are_found(
    run_copy: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = (digits.test.labels + 1) % 10
    changed = replace(digits, test=replace(digits.test, labels=labels), sha256="1" * 64)
    monkeypatch.setattr("smidgen.runs.check.load", lambda *_, **__: changed)
    passed, text = run_check(run_copy)
    assert not passed
    assert "data's SHA-256" in text
    assert "correct test images" in text


@pytest.mark.slow
def test_shuffled_labels_give_chance_accuracy(
    tiny: Experiment, mnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 % on MNIST's test set, and the gate reports that the budget is missed."""
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)
    settings = replace(tiny.data, name="mnist", augment=Augment())
    dataset = load(settings, data_dir=mnist_folder)
    subset = replace(
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
        changed = replace(dataset, train=shuffled(subset, seed))
        result = run(experiment, RunOptions(seed=seed, out=tmp_path, threads=1), dataset=changed)
        assert result.record is not None
        assert not result.verdict.passed
        found.append(result.record.test.score.accuracy)
    assert abs(sum(found) / len(found) - 0.10) <= 0.015, found
    honest = run(
        experiment, RunOptions(out=tmp_path, threads=1), dataset=replace(dataset, train=subset)
    )
    assert honest.record is not None
    assert honest.verdict.passed, honest.record.test.score


SHUFFLES = 5


def test_the_table_keeps_its_length() -> None:
    assert len(LIMITS) + len(COUNTED) + len(ATTEMPTS) + len(REPEATED) + 4 >= 60
