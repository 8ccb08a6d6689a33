"""What stands in examples/ and, as Python, in README.md and in smidgen's docstring, runs."""

import os
import re
import runpy
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

import smidgen
from smidgen.cli import main
from smidgen.config import Data
from smidgen.record import read_record

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the sections with pictures out of reports: drawing takes seconds."""
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.rglob("*"):
        if path.suffix in (".py", ".toml"):
            assert path.name in text.partition("def test_every")[2].partition("\n\n\n")[2]


@pytest.mark.usefixtures("no_pictures")
def test_a_network_of_ones_own(capsys: Capture) -> None:
    toml = str(EXAMPLES / "own_model" / "experiment.toml")
    assert main(["summary", toml]) == 0  # on MNIST's shape, inside its budget
    assert "SqueezeExcite" not in capsys.readouterr().out  # it has no parameters of its own
    flags = ["--data.name", "digits", "--train.epochs", "2", "--budget.min_accuracy", "0.3"]
    assert main(["train", toml, *flags, "--threads", "1"]) == 0
    run = Path("runs/own-model/seed-0")
    assert (run / "my_model.py").read_bytes() == (EXAMPLES / "own_model/my_model.py").read_bytes()
    assert read_record(run).profile.num_params <= 3_999
    assert main(["check", str(run)]) == 0


def make_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_pictures.py", "pictures"])
    runpy.run_path(str(EXAMPLES / "own_pictures" / "make_pictures.py"), run_name="__main__")


@pytest.mark.usefixtures("no_pictures")
def test_a_folder_of_pictures_in_colour(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    make_pictures(monkeypatch)
    assert main(["data", "show", "pictures", "--out", "shown.png"]) == 0
    toml = str(EXAMPLES / "own_pictures" / "experiment.toml")
    flags = ["--train.epochs", "2", "--budget.min_accuracy", "0.6", "--threads", "1"]
    assert main(["train", toml, *flags]) == 0
    run = Path("runs/own-pictures/seed-0")
    assert read_record(run).data.image_shape == (3, 32, 32)
    assert main(["check", str(run)]) == 0
    capsys.readouterr()
    assert main(["predict", str(run), "pictures/test/temple/000.png"]) == 0
    assert re.search(r"(temple|flower) \d+", capsys.readouterr().out)


@pytest.mark.slow
def test_the_pictures_reach_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    make_pictures(monkeypatch)
    toml = str(EXAMPLES / "own_pictures" / "experiment.toml")
    assert main(["train", toml, "--threads", "1"]) == 0
    assert (Path("runs/own-pictures/seed-0/figures") / "most-wrong.png").exists()


@pytest.mark.slow
def test_the_network_of_ones_own_reaches_its_budget(mnist_folder: Path) -> None:
    toml = str(EXAMPLES / "own_model" / "experiment.toml")
    assert main(["train", toml, "--threads", "1", "--data-dir", str(mnist_folder)]) == 0


def test_a_budget_in_another_script() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "budget_check.py"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("verdict: inside the budget\n")
    assert re.search(r"parameters +at most 8,000 +7,\d\d\d +pass", done.stdout)


def blocks() -> list[str]:
    """Python in README.md, and in what `help(smidgen)` shows."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert smidgen.__doc__ is not None
    shown = smidgen.__doc__.partition("import smidgen")
    return [
        *re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE),
        textwrap.dedent(shown[1] + shown[2]),
    ]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("code", blocks())
def test_the_python_that_is_shown_runs(
    code: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    original = smidgen.find_experiment("gap-6k")

    def shorter(name: str) -> smidgen.Experiment:
        assert name == original.name
        budget = smidgen.Budget(max_params=8_000, min_accuracy=0.1)
        train = replace(original.train, epochs=1)
        return replace(original, data=Data(name="digits"), train=train, budget=budget)

    monkeypatch.setattr(smidgen, "find_experiment", shorter)
    network = nn.Sequential(nn.Conv2d(1, 4, 28), nn.Flatten(), nn.Linear(4, 10))
    exec(compile(code, "README.md", "exec"), {"my_network": network})
    folders = list(Path("runs/gap-6k").iterdir())
    assert len(folders) == 1
    if "print" in code:
        assert capsys.readouterr().out.splitlines()[-2:] == [str(784 * 4 + 40), "True"]


def test_there_is_python_to_run() -> None:
    assert len(blocks()) >= 2
    assert all("smidgen.train(" in code and "Budget(" in code for code in blocks())
