"""The examples run."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.cli import main
from smidgen.record import read_record

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots out of reports: drawing takes seconds."""
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.rglob("*"):
        if path.suffix in (".py", ".toml"):
            assert path.name in text.partition("def test_every")[2].partition("\n\n\n")[2]


@pytest.mark.usefixtures("no_plots")
def test_a_user_module(capsys: Capture) -> None:
    toml = str(EXAMPLES / "user_module" / "experiment.toml")
    assert main(["summary", toml]) == 0  # for images of MNIST's shape
    assert "SqueezeExcite" not in capsys.readouterr().out  # it has no parameters itself
    flags = ["--data.name", "digits", "--train.epochs", "2", "--budget.min_accuracy", "0.3"]
    assert main(["train", toml, *flags, "--threads", "1"]) == 0
    run = Path("runs/user-module/seed-0")
    assert (run / "my_model.py").read_bytes() == (EXAMPLES / "user_module/my_model.py").read_bytes()
    assert read_record(run).profile.num_params <= 3_999
    assert main(["check", str(run)]) == 0


def make_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_images.py", "images"])
    runpy.run_path(str(EXAMPLES / "custom_images" / "make_images.py"), run_name="__main__")


@pytest.mark.usefixtures("no_plots")
def test_a_folder_of_color_images(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    make_images(monkeypatch)
    assert main(["data", "show", "images", "--out", "shown.png"]) == 0
    toml = str(EXAMPLES / "custom_images" / "experiment.toml")
    flags = ["--train.epochs", "2", "--budget.min_accuracy", "0.6", "--threads", "1"]
    assert main(["train", toml, *flags]) == 0
    run = Path("runs/custom-images/seed-0")
    assert read_record(run).data.image_shape == (3, 32, 32)
    assert main(["check", str(run)]) == 0
    capsys.readouterr()
    assert main(["predict", str(run), "images/test/temple/000.png"]) == 0
    assert re.search(r"(temple|flower) \d+", capsys.readouterr().out)


@pytest.mark.slow
def test_the_custom_images_reach_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(monkeypatch)
    toml = str(EXAMPLES / "custom_images" / "experiment.toml")
    assert main(["train", toml, "--threads", "1"]) == 0
    assert (Path("runs/custom-images/seed-0/figures") / "worst-predictions.png").exists()


@pytest.mark.slow
def test_the_user_module_reaches_its_budget(mnist_folder: Path) -> None:
    toml = str(EXAMPLES / "user_module" / "experiment.toml")
    assert main(["train", toml, "--threads", "1", "--data-dir", str(mnist_folder)]) == 0


def test_a_budget_in_a_training_script() -> None:
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
