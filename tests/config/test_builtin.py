from pathlib import Path

import pytest

from smidgen.config import read_experiment
from smidgen.config.builtin import find_experiment, known_experiments
from smidgen.data import open_dataset
from smidgen.errors import ConfigError
from smidgen.models import REFERENCE
from smidgen.runs.network import prepare_network

FOLDER = Path(__file__).parents[2] / "experiments"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_meets_its_limits_before_training(name: str) -> None:
    experiment = find_experiment(name)
    _, profile = prepare_network(experiment, open_dataset(experiment.data).info)
    verdict = experiment.budget.check(profile, epochs=experiment.train.epochs)
    assert {"max_params", "max_epochs"} <= {line.limit for line in verdict.limits}
    assert verdict.passed
    assert experiment.budget.min_accuracy is not None
    assert experiment.target


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_has_the_name_of_its_file(name: str) -> None:
    assert read_experiment(FOLDER / f"{name}.toml").name == name


@pytest.mark.parametrize("net", REFERENCE)
def test_a_reference_network_has_a_published_recipe_and_a_better_one(net: str) -> None:
    best, published = find_experiment(net), find_experiment(f"{net}-published")
    assert best.model.net == published.model.net == net
    assert best.budget == published.budget
    assert published.train.test_each_epoch  # as they were published
    assert not best.train.test_each_epoch


def test_the_quickstart_has_a_recipe_for_each_data_set() -> None:
    mnist, digits = find_experiment("quickstart"), find_experiment("quickstart-digits")
    assert (mnist.data.name, digits.data.name) == ("mnist", "digits")
    assert mnist.model == digits.model
    assert mnist.budget.max_params == digits.budget.max_params == 7999


def test_known_experiments_are_the_files() -> None:
    assert known_experiments() == NAMES
    assert len(NAMES) >= 2 * len(REFERENCE) + 2


def test_an_installed_package_has_its_own_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").mkdir()
    text = (FOLDER / "quickstart.toml").read_text()
    (tmp_path / "experiments" / "only.toml").write_text(text)
    monkeypatch.setattr("smidgen.config.builtin.resources.files", lambda _: tmp_path)
    assert known_experiments() == ["only"]
    assert find_experiment("only").name == "quickstart"


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "gap-6k.toml"
    path.write_text(find_experiment("quickstart-digits").to_toml())
    assert find_experiment(str(path)) == find_experiment("quickstart-digits")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gap-7k", r"'gap-7k' is neither a TOML file nor .* those are .*gap-6k, "),
        ("", "'' is neither"),
        ("gap-7k.toml", r"gap-7k.toml cannot be read: No such file"),
        ("../gap-6k", "cannot be read"),
    ],
)
def test_an_unknown_experiment_is_named(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_experiment(name)
