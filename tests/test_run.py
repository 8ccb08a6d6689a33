import errno
import hashlib
import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from PIL import Image

from smidgen import run as module
from smidgen.cli import main
from smidgen.config import Augment, Budget, Data, Experiment, Model, read_experiment
from smidgen.data import Dataset, load
from smidgen.errors import ConfigError, ModelError, SmidgenError
from smidgen.predicting import predict
from smidgen.record import Epoch, RunRecord, format_epoch, read_record
from smidgen.run import Listener, Outcome, Where, run


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the report out: drawing it takes longer than these trainings."""
    monkeypatch.setattr(module, "write_report", lambda *_: None)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def quick(tiny: Experiment, **changes: Any) -> Experiment:
    """One epoch of the tiny experiment, without limits."""
    train = replace(tiny.train, epochs=1, **changes)
    data = replace(tiny.data, augment=Augment())
    return replace(tiny, budget=Budget(), train=train, data=data)


def test_the_folder_holds_what_came_of_it(finished: Outcome) -> None:
    assert finished.folder is not None
    assert finished.folder.parts[-2:] == ("tiny", "seed-3")
    kept = {"experiment.toml", "run.json", "metrics.jsonl", "weights.safetensors", "report.md"}
    assert kept <= files(finished.folder)
    assert not [name for name in files(finished.folder) if name.startswith(".")]


def test_the_record_says_what_was_done(
    finished: Outcome, finished_folder: Path, record: RunRecord, tiny: Experiment, digits: Dataset
) -> None:
    assert record.experiment == tiny == read_experiment(finished_folder / "experiment.toml")
    assert (record.seed, len(record.epochs), record.test_looks) == (3, 2, 1)
    assert (record.data.num_train, record.data.num_validation) == (1137, 300)
    assert (record.data.sha256, record.data.mean) == (digits.sha256, digits.mean)
    content = (finished_folder / "weights.safetensors").read_bytes()
    assert record.weights_sha256 == hashlib.sha256(content).hexdigest()
    assert 0 < record.train_seconds < record.total_seconds
    assert finished.verdict == record.verdict
    figures = {line.limit: line.figure for line in record.verdict.limits}
    assert figures == {
        "max_params": record.profile.num_params,
        "max_epochs": 2,
        "min_accuracy": record.test.score.accuracy,
    }


def test_metrics_are_the_record_s_epochs(finished_folder: Path, record: RunRecord) -> None:
    lines = (finished_folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert lines == [format_epoch(epoch) for epoch in record.epochs]
    assert all(epoch.validation is not None and epoch.test is None for epoch in record.epochs)


@pytest.mark.usefixtures("no_report")
def test_the_command_in_the_record_repeats_it(
    record: RunRecord, finished_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *words = shlex.split(record.command)
    monkeypatch.chdir(finished_folder)
    assert program == "smidgen"
    assert main([*words, "--out", str(tmp_path), "--quiet"]) == 0
    again = read_record(tmp_path / "tiny" / "seed-3")
    assert again.weights_sha256 == record.weights_sha256
    assert again.experiment == record.experiment
    assert again.test == record.test
    assert [replace(e, seconds=0.0) for e in again.epochs] == [
        replace(e, seconds=0.0) for e in record.epochs
    ]


def test_the_command_says_on_what_it_ran_and_tells_no_path(tmp_path: Path) -> None:
    where = Where(seed=7, device="cpu", data_dir=tmp_path / "my data")
    words = shlex.split(module._command(where))
    assert words[:5] == ["smidgen", "train", "experiment.toml", "--seed", "7"]
    assert str(tmp_path) not in " ".join(words)
    assert words[words.index("--device") + 1] == "cpu"
    assert int(words[words.index("--threads") + 1]) >= 1


@pytest.mark.usefixtures("no_report")
def test_no_run_goes_over_another(tiny: Experiment, digits: Dataset, tmp_path: Path) -> None:
    where = Where(out=tmp_path, threads=1)
    first, second = (run(quick(tiny), where, dataset=digits) for _ in range(2))
    assert first.folder is not None
    assert first.record is not None
    assert first.folder.name == "seed-0"
    assert second.folder == tmp_path / "tiny" / "seed-0-2"
    assert read_record(first.folder) == first.record


@pytest.mark.usefixtures("no_report")
def test_the_seed_matters(
    tiny: Experiment, digits: Dataset, tmp_path: Path, record: RunRecord
) -> None:
    other = run(tiny, Where(seed=4, out=tmp_path, threads=1), dataset=digits).record
    assert other is not None
    assert other.weights_sha256 != record.weights_sha256


@pytest.mark.parametrize(
    ("budget", "missed"),
    [
        (Budget(max_params=100), "max_params"),
        (Budget(max_epochs=1), "max_epochs"),
        (Budget(max_macs=10, min_accuracy=0.5), "max_macs"),
    ],
)
def test_over_the_budget_nothing_is_trained_and_nothing_is_left(
    tiny: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    budget: Budget,
    missed: str,
) -> None:
    def unexpected(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(module, "load", unexpected)
    monkeypatch.setattr(module, "train", unexpected)
    outcome = run(replace(tiny, budget=budget), Where(out=tmp_path / "runs"))
    assert (outcome.folder, outcome.record) == (None, None)
    assert [line.limit for line in outcome.verdict.limits if not line.passed] == [missed]
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("no_report")
def test_looks_at_the_test_set_are_counted(
    tiny: Experiment, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    score = module.score

    def counted(network: Any, data: Dataset, part: Any) -> Any:
        looks.append(part is data.test)
        return score(network, data, part)

    monkeypatch.setattr(module, "score", counted)
    where = Where(out=tmp_path, threads=1)
    run(tiny, where, dataset=digits)
    assert looks == [False, False, True]
    looks.clear()
    asked = replace(tiny, train=replace(tiny.train, test_each_epoch=True))
    found = run(asked, where, dataset=digits).record
    assert found is not None
    assert found.test_looks == looks.count(True) == 3
    assert found.epochs[-1].test == found.test.score


@pytest.mark.usefixtures("no_report")
def test_without_validation_all_images_are_trained_on(tiny: Experiment, tmp_path: Path) -> None:
    experiment = quick(tiny)
    experiment = replace(experiment, data=replace(experiment.data, validation=0))
    found = run(experiment, Where(out=tmp_path, threads=1)).record
    assert found is not None
    assert (found.data.num_train, found.data.num_validation) == (1437, 0)
    assert found.epochs[0].validation is None


def test_an_interrupted_run_leaves_its_metrics_and_no_record(
    tiny: Experiment, digits: Dataset, tmp_path: Path
) -> None:
    def interrupt(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny, Where(out=tmp_path, threads=1), Listener(epoch=interrupt), digits)
    folder = tmp_path / "tiny" / "seed-0"
    assert files(folder) == {"experiment.toml", "metrics.jsonl"}
    (line,) = (folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["epoch"] == 1


@pytest.mark.parametrize("name", ["weights.safetensors", "run.json", "experiment.toml"])
def test_a_full_disk_leaves_no_half_file(
    tiny: Experiment,
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    rename = os.replace

    def full(source: str, target: Path) -> None:
        if target.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(SmidgenError, match=f"{name} cannot be written: No space left on device"):
        run(quick(tiny), Where(out=tmp_path, threads=1), dataset=digits)
    left = files(tmp_path / "tiny" / "seed-0")
    assert name not in left
    assert not left & {"run.json", "report.md"}
    assert not [file for file in left if file.startswith(".")]


def test_a_network_that_becomes_useless_in_its_last_step_is_noticed(
    tiny: Experiment, digits: Dataset, tmp_path: Path
) -> None:
    # One batch: its loss is that of the first weights, and only then are they spoilt.
    experiment = quick(tiny, batch_size=2000)
    optimizer = replace(experiment.train.optimizer, lr=1e30)
    experiment = replace(experiment, train=replace(experiment.train, optimizer=optimizer))
    with pytest.raises(ModelError, match=r"loss on a set of 300 images is nan"):
        run(experiment, Where(out=tmp_path, threads=1), dataset=digits)
    assert files(tmp_path / "tiny" / "seed-0") == {"experiment.toml"}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"seed": -1}, r"--seed is -1; it must be from 0 to 2\^63 - 1"),
        ({"seed": 2**63}, "--seed is 9223372036854775808"),
        ({"threads": 0}, "--threads is 0; it must be from 1 to 1,024"),
        ({"threads": 10**12}, "--threads is 1000000000000"),
    ],
)
def test_where_checks_itself(where: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Where(**where)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_report")
def test_the_largest_seed_works(tiny: Experiment, digits: Dataset, tmp_path: Path) -> None:
    found = run(quick(tiny), Where(seed=2**63 - 1, out=tmp_path, threads=1), dataset=digits)
    assert found.record is not None


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        (Model(net="gap-7k"), ConfigError, "model.net is 'gap-7k'; known are gap-6k"),
        (Model(net="gap-6k", args={"drop": 1}), ConfigError, "model.args does not fit gap-6k"),
        (Model(net="gap-6k", args={"dropout": "x"}), ConfigError, "model.args does not fit gap-6k"),
        (Model(chain="8 Q G"), ConfigError, "model.chain, token 2"),
    ],
)
def test_a_network_that_cannot_be_built_leaves_no_folder(
    tiny: Experiment, tmp_path: Path, model: Model, kind: type[SmidgenError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        run(replace(tiny, model=model), Where(out=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_network_that_does_not_fit_its_classes_is_an_error(
    tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    wide = nn.Sequential(nn.Flatten(), nn.Linear(784, 11))
    monkeypatch.setattr(module, "build", lambda *_: wide)
    with pytest.raises(ModelError, match=r"returns \(batch, 11\); it must return \(batch, 10\)"):
        run(tiny, Where(out=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_mnist_is_learnt_in_five_epochs(mnist_folder: Path, tmp_path: Path) -> None:
    words = ["train", "quickstart", "--train.epochs", "5", "--out", str(tmp_path), "--quiet"]
    assert main([*words, "--data-dir", str(mnist_folder)]) in (0, 1)  # the target is for 14
    found = read_record(tmp_path / "quickstart" / "seed-0")
    assert (found.data.num_train, found.test.num_images) == (50_000, 10_000)
    assert found.profile.num_params < 8000
    assert found.test.score.accuracy >= 0.992

    # And on paper: dark on bright, large, off the centre, as JPEG.
    test = load(Data(name="mnist"), folder=mnist_folder).test
    pictures = []
    for number, image in enumerate(test.images[:100, 0]):
        large = Image.fromarray(255 - image.numpy()).resize((280, 280), Image.Resampling.BICUBIC)
        paper = Image.new("L", (500, 400), 255)
        paper.paste(large, (180, 40))
        pictures.append(tmp_path / f"{number}.jpg")
        paper.save(pictures[-1])
    answers = [p.classes[0][0] for p in predict(tmp_path / "quickstart" / "seed-0", pictures)]
    truths = [str(label) for label in test.labels[:100].tolist()]
    assert sum(a == t for a, t in zip(answers, truths, strict=True)) >= 97
