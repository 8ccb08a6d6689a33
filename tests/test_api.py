"""What people import: these names, these meanings, and nothing heavy before it is used."""

import os
import random
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import smidgen
from smidgen import Budget, SmidgenError
from smidgen.errors import ConfigError
from smidgen.formatting import percent
from smidgen.runs.run import run

if typing.TYPE_CHECKING:
    from smidgen.data import Dataset

NAMES = """
Augment Average Budget Callback CheckResult Data Dataset Experiment ExportResult Model Optimizer
Prediction
Profile RunOptions RunRecord RunResult Schedule SmidgenError Train TrainedNetwork Verdict
__version__ check evaluate_weights export
find_experiment load load_network predict profile read_record resume train
"""


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=3), nn.Flatten(), nn.Linear(4 * 81, 10))


# ------------------------------------------------------------------------------------------- names


def test_the_names_are_these() -> None:
    assert sorted(smidgen.__all__) == sorted(NAMES.split())
    assert set(dir(smidgen)) == set(smidgen.__all__)
    assert len(set(smidgen.__all__)) == len(smidgen.__all__)


@pytest.mark.parametrize("name", NAMES.split())
def test_each_name_is_there_and_documented(name: str) -> None:
    found = getattr(smidgen, name)
    assert getattr(smidgen, name) is found
    if name != "__version__":
        assert callable(found)
        assert len(found.__doc__ or "") > 20
        assert found.__module__.startswith("smidgen")


def test_another_name_is_none_of_them() -> None:
    with pytest.raises(AttributeError, match=r"module 'smidgen' has no attribute 'fit'"):
        smidgen.fit  # noqa: B018


def test_importing_it_is_light_and_stars_give_all() -> None:
    program = """
import sys
import smidgen
from smidgen import Budget
heavy = {"torch", "numpy", "matplotlib", "sklearn", "PIL", "safetensors", "rich", "jinja2"}
print(sorted(heavy & set(sys.modules)))
class Counted:
    num_params, macs, weight_bytes, peak_activation_bytes = 5, 6, 7, 8
print(Budget(max_params=5, max_macs=5).check(Counted()).passed, "torch" in sys.modules)
from smidgen import *
print(train.__name__, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\nFalse False\ntrain True\n", "")


def test_it_is_typed() -> None:
    assert smidgen.__file__ is not None
    assert (Path(smidgen.__file__).parent / "py.typed").is_file()
    for function in (smidgen.train, smidgen.check, smidgen.profile, smidgen.predict):
        hints = function.__annotations__
        assert "return" in hints
        assert set(function.__code__.co_varnames[: function.__code__.co_argcount]) <= set(hints)


# -------------------------------------------------------------------------------- train and check


def test_training_and_checking_are_a_line_each(
    tiny: smidgen.Experiment,
    digits: "Dataset",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)
    Path("tiny.toml").write_text(tiny.to_toml())
    epochs: list[int] = []

    class Epochs(smidgen.Callback):
        def on_epoch_end(self, epoch: Any, seconds: float, capture: Any) -> None:
            epochs.append(epoch.epoch)

    outcome = smidgen.train("tiny.toml", smidgen.RunOptions(seed=3, threads=1), [Epochs()])
    assert outcome.folder == Path("runs/tiny/seed-3")
    assert outcome.record == replace(smidgen.read_record(outcome.folder))
    assert outcome.verdict.passed
    assert epochs == [1, 2]
    found = smidgen.check(outcome.folder)
    assert found.passed
    assert found.record == outcome.record
    assert str(found.verdict).startswith("verdict: inside the budget")


def state_of_the_process() -> tuple[object, ...]:
    """Everything global that a computation may change."""
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        repr(np.random.get_state()),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("call", ["train", "resume", "check", "load_network", "predict", "profile"])
def test_a_call_leaves_the_process_as_it_was(
    call: str, tiny: smidgen.Experiment, digits: "Dataset", run_copy: Path, tmp_path: Path
) -> None:
    image = tmp_path / "5.png"
    Image.new("L", (28, 28)).save(image)
    calls: dict[str, Callable[[], object]] = {
        "train": lambda: run(tiny, smidgen.RunOptions(out=tmp_path, threads=1), dataset=digits),
        "resume": lambda: smidgen.resume(run_copy),
        "check": lambda: smidgen.check(run_copy),
        "load_network": lambda: smidgen.load_network(run_copy),
        "predict": lambda: smidgen.predict(run_copy, [image]),
        "profile": lambda: smidgen.profile(network, (1, 28, 28)),
    }
    network = small()
    before = state_of_the_process()
    calls[call]()
    assert state_of_the_process() == before


def test_the_trained_network_comes_back_with_what_feeds_it(
    finished: "smidgen.RunResult", digits: "Dataset"
) -> None:
    assert finished.folder is not None
    assert finished.record is not None
    images = digits.test.images
    loaded = smidgen.load_network(str(finished.folder))
    for network in (finished.network, loaded):
        assert network is not None
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert (network.mean, network.std) == (digits.mean, digits.std)
        assert (network.classes, network.image_shape) == (digits.classes, (1, 28, 28))
        correct = (network(images).argmax(1) == digits.test.labels).sum()
        assert int(correct) == finished.record.test.num_correct
        shares = network.probabilities(images[:5])
        assert torch.allclose(shares.sum(1), torch.ones(5))
    assert torch.equal(loaded(images), finished.network(images))  # type: ignore[misc]


def test_results_show_themselves(finished: "smidgen.RunResult", run_copy: Path) -> None:
    found = smidgen.check(run_copy)
    assert finished.record is not None
    accuracy = percent(finished.record.test.score.accuracy)
    for result in (finished, found):
        assert "verdict: inside the budget" in str(result)
    assert str(finished).startswith(f"{accuracy} of 360 test images after epoch 2")
    assert "record: equal to what was counted and scored again" in str(found)
    shown: list[Any] = [finished, found.verdict, finished.record.profile]
    for result in shown:
        assert result._repr_html_().count("<table>") >= 1


def test_a_result_has_the_plots_of_its_report(finished: "smidgen.RunResult") -> None:
    assert finished.folder is not None
    for name in ("accuracy", "network", "samples"):
        shown: Any = finished.plot(name)
        assert shown._repr_png_() == (finished.folder / "figures" / f"{name}.png").read_bytes()
    with pytest.raises(SmidgenError, match="has no plot 'acuracy'; it has accuracy, loss, "):
        finished.plot("acuracy")
    with pytest.raises(SmidgenError, match="stopped before training; there is nothing to plot"):
        smidgen.RunResult(verdict=finished.verdict).plot("accuracy")


def test_over_the_budget_nothing_is_trained(tiny: smidgen.Experiment, tmp_path: Path) -> None:
    over = replace(tiny, budget=Budget(max_params=10))
    outcome = smidgen.train(over, smidgen.RunOptions(out=tmp_path / "runs"))
    assert (outcome.folder, outcome.record, outcome.verdict.passed) == (None, None, False)
    assert not (tmp_path / "runs").exists()


def test_mistakes_have_one_root(tmp_path: Path) -> None:
    with pytest.raises(SmidgenError, match="is neither a TOML file nor a built-in experiment"):
        smidgen.find_experiment("gap-7k")
    with pytest.raises(SmidgenError, match="is not a finished run"):
        smidgen.check(tmp_path)
    with pytest.raises(SmidgenError, match=r"data.name is 'emoji'"):
        smidgen.load(smidgen.Data(name="emoji"))
    with pytest.raises(SmidgenError, match=r"of \(3, 28, 28\): expected 1 channel, got 3"):
        smidgen.profile(small(), (3, 28, 28))


# ------------------------------------------------------------------------------------------ budget


def test_a_budget_checks_a_network_alone() -> None:
    count = 40 + 324 * 10 + 10
    assert Budget(max_params=count).check(small()).passed
    verdict = Budget(max_params=count - 1).check(small())
    assert not verdict.passed
    [limit] = verdict.limits
    assert (limit.limit, limit.bound, limit.value) == ("max_params", count - 1, count)


def test_shared_and_frozen_parameters_count_once_and_all_the_same() -> None:
    conv = nn.Conv2d(4, 4, 3)
    net = nn.Sequential(conv, conv).requires_grad_(False)
    assert Budget(max_params=148).check(net).limits[0].value == 148
    assert smidgen.profile(net, (4, 9, 9)).num_params == 148


def test_a_budget_checks_a_profile() -> None:
    found = smidgen.profile(small(), (1, 28, 28))
    budget = Budget(
        max_params=found.num_params,
        max_macs=found.macs - 1,
        max_weight_bytes=found.weight_bytes,
        max_activation_bytes=found.peak_activation_bytes,
        max_epochs=3,
        min_accuracy=0.9,
    )
    verdict = budget.check(found)
    assert [limit.limit for limit in verdict.limits if not limit.passed] == ["max_macs"]
    assert len(verdict.limits) == 4  # epochs and accuracy are not known yet
    verdict = budget.check(found, epochs=4, accuracy=0.9)
    failed = [limit.limit for limit in verdict.limits if not limit.passed]
    assert sorted(failed) == ["max_epochs", "max_macs"]
    assert len(verdict.limits) == 6
    assert str(found).count("\n") > 5


def test_without_limits_everything_passes() -> None:
    assert Budget().check(small()).passed
    assert Budget().check(small()).limits == ()


@pytest.mark.parametrize("limit", ["max_macs", "max_weight_bytes", "max_activation_bytes"])
def test_limits_beyond_parameters_need_a_profile(limit: str) -> None:
    limits: dict[str, Any] = {limit: 10}
    budget = smidgen.Budget(**limits)
    with pytest.raises(ConfigError, match=rf"budget.{limit} needs a profile: pass smidgen.profile"):
        budget.check(small())


@pytest.mark.parametrize(
    ("other", "kind"),
    [(7_999, "int"), (None, "NoneType"), (torch.zeros(3), "Tensor"), ({"num_params": 3}, "dict")],
)
@pytest.mark.parametrize("budget", [Budget(max_params=8_000), Budget(max_macs=8_000)])
def test_anything_but_a_network_is_refused(budget: Budget, other: object, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"checks a profile or a torch module, not a {kind}"):
        budget.check(other)


def test_parameters_of_lazy_layers_are_not_known_yet() -> None:
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(SmidgenError, match="lazy layers"):
        Budget(max_params=8_000).check(net)
