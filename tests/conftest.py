"""Fixtures that tests of several rooms share."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smidgen._storage.progress import terminal
from smidgen.config import (
    Augment,
    Average,
    Budget,
    Data,
    Experiment,
    Model,
    Optimizer,
    Schedule,
    Train,
)
from smidgen.record import RunRecord

# These limit memory, fork and send signals, which takes a POSIX system.
collect_ignore = (
    ["robustness.py", "test_hostile.py", "test_robustness.py"] if sys.platform == "win32" else []
)

if TYPE_CHECKING:
    from smidgen.data import Dataset
    from smidgen.runs.result import RunResult


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder that holds MNIST's four files; the test is skipped if there is none."""
    if named := os.environ.get("SMIDGEN_DATA"):
        return Path(named)
    default = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    if not default.is_dir():
        pytest.skip("MNIST is not available: set SMIDGEN_DATA to the folder that has its files")
    return default


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the expected texts in tests/golden"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a file in tests/golden, or rewrite the file with --update-golden."""

    def check(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        assert text + "\n" == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def digits() -> "Dataset":
    """The embedded digits, with the usual 300 validation images."""
    from smidgen.data import load

    return load(Data(name="digits"))


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    """A minimal experiment that uses every feature of training and meets its budget."""
    return Experiment(
        name="tiny",
        target="Something that learns | in seconds.",
        budget=Budget(max_params=1000, max_epochs=2, min_accuracy=0.15),
        model=Model(chain="6,s2 8,s2,o0.1 G"),
        data=Data(name="digits", augment=Augment(rotate=5, no_aug_epochs=1)),
        train=Train(
            epochs=2,
            batch_size=32,
            optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4),
            schedule=Schedule(name="one-cycle", warmup=0.3),
            average=Average(name="ema", decay=0.9),
        ),
    )


@pytest.fixture
def tiny_file(tiny: Experiment, tmp_path: Path) -> Path:
    """A file of `tiny`."""
    path = tmp_path / "tiny.toml"
    path.write_text(tiny.to_toml())
    return path


@pytest.fixture
def on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """Stdout and stderr, although captured, look like a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)
    terminal.cache_clear()  # it asks once
    yield
    terminal.cache_clear()


@pytest.fixture(scope="session")
def finished(
    tiny: Experiment, digits: "Dataset", tmp_path_factory: pytest.TempPathFactory
) -> "RunResult":
    """The result of training `tiny` with seed 3; do not change its folder."""
    from smidgen.runs.options import RunOptions
    from smidgen.runs.train import train_experiment

    out = tmp_path_factory.mktemp("finished")
    return train_experiment(tiny, RunOptions(seed=3, out=out, threads=1), dataset=digits)


@pytest.fixture(scope="session")
def record(finished: "RunResult") -> RunRecord:
    """The record of the finished run."""
    assert finished.record is not None
    return finished.record


@pytest.fixture(scope="session")
def finished_folder(finished: "RunResult") -> Path:
    """The folder of the finished run; do not change it."""
    assert finished.folder is not None
    return finished.folder


@pytest.fixture
def run_copy(finished_folder: Path, tmp_path: Path) -> Path:
    """A copy of the finished run's folder, which a test may change."""
    return Path(shutil.copytree(finished_folder, tmp_path / "run_copy"))
