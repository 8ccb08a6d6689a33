"""Every code block of README.md and docs/ runs, or is checked as far as it can be."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from page_blocks import LANGUAGES, ROOT, Block, PageRunner, blocks_of, pages
from PIL import Image
from torch import nn

import smidgen
from smidgen.data.datasets import Split, TestSplit
from smidgen.data.named.catalog import CATALOG, MNIST
from smidgen.data.named.digits import load_digits
from smidgen.report.readme import update

WITH_MNIST = ["docs/evaluate.md", "docs/tutorial.md"]
"""Pages whose blocks are also run with all of MNIST."""
LONG = ["docs/how-to.md"]
"""Pages that are run with the slow tests."""

MY_MODEL = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        layers, before = [], 1
        for channels in (8, 8, 0, 14, 14, 14, 16):
            if channels:
                layers += [nn.Conv2d(before, channels, 3, bias=False)]
                layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            else:
                layers += [nn.MaxPool2d(2)]
            before = channels or before
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
"""
TINY = """
[experiment]
name = "tiny"
[budget]
max_params = 4_000
[model]
chain = "4 8 M 8 G"
[data]
name = "digits"
[train]
epochs = 1
"""


def is_run(page: str) -> bool:
    """Whether the page has blocks to run."""
    return any(block.language in ("bash", "python", "toml") for block in blocks_of(page))


def easy_mnist(_: Any) -> tuple[Split, TestSplit]:
    """A stand-in that every network learns: one drawing of each digit, with noise."""
    drawn, _ = load_digits()
    first = torch.stack(
        [drawn.images[(drawn.labels == digit).nonzero()[0, 0]] for digit in range(10)]
    )
    labels = torch.arange(2_000) % 10
    noise = torch.randint(0, 40, (2_000, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    images = (first[labels].int() + noise).clamp(max=255).to(torch.uint8)
    return Split(images[:1_500], labels[:1_500]), TestSplit(images[1_500:], labels[1_500:])


EASY_MNIST = replace(MNIST, files=(), decode=easy_mnist, default_validation=300, mean_and_std=None)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages assume their reader to have."""
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("my_model.py", "net.py"):
        (folder / name).write_text(MY_MODEL, encoding="utf-8")
    (folder / "experiment.toml").write_text(TINY, encoding="utf-8")
    make_images(folder / "photos")
    shutil.copytree(folder / "photos", folder / "images" / "pets")
    Image.fromarray(np.full((40, 30), 255, np.uint8)).save(folder / "3.png")
    smidgen.train(
        smidgen.Experiment.from_toml(TINY), smidgen.RunOptions(out=folder / "records", threads=1)
    )
    section = "<!-- smidgen verdict records/tiny/seed-0 -->\n<!-- smidgen end -->\n"
    (folder / "README.md").write_text(section, encoding="utf-8")
    update(folder / "README.md")
    return folder


def make_images(folder: Path) -> None:
    """A few flowers and temples, as in the example."""
    script = ROOT / "examples" / "custom_images" / "make_images.py"
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)


@pytest.fixture
def here(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workspace, which is the current folder."""
    folder = shutil.copytree(workspace, tmp_path / "here")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    monkeypatch.setattr("smidgen.cli.report.time", SimpleNamespace(sleep=interrupt))
    monkeypatch.setenv("COLUMNS", "100")
    return folder


def interrupt(_: float) -> None:
    """Ctrl-C, which is how `smidgen live` ends."""
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def easy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default network on the stand-in for MNIST."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "mnist", EASY_MNIST)
        out = tmp_path_factory.mktemp("easy")
        result = smidgen.train("quickstart", smidgen.RunOptions(out=out, threads=1))
    assert result.folder is not None
    return result.folder


def save_weights(folder: Path, run: Path) -> None:
    """Write the weights of a run as a training script would, for `Net`, and two submissions."""
    trained = smidgen.load_network(run).network.state_dict().values()
    names = run_path(str(folder / "my_model.py"))["Net"]().state_dict()
    state = dict(zip(names, trained, strict=True))
    for name in ("net.pth", "model.pth"):
        torch.save(state, folder / name)
    for name in ("ada", "ben"):
        (folder / "submissions" / name).mkdir(parents=True)
        shutil.copy(folder / "my_model.py", folder / "submissions" / name / "model.py")
        torch.save(state, folder / "submissions" / name / "model.pth")
        (folder / "submissions" / name / "README.md").write_text("Total params: 7,518\n")


def given_names() -> dict[str, Any]:
    """The names that the README's Python stands for the reader's: a network and arrays."""
    digits = smidgen.load("digits")
    splits = [(split.images[:200], split.labels[:200]) for split in (digits.train, digits.test)]
    arrays = [tensor.numpy() for split in splits for tensor in split]
    names = dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True))
    small = nn.Sequential(nn.Conv2d(1, 4, 28), nn.Flatten(), nn.Linear(4, 10))
    networks = {"MyNetwork": lambda: small, "my_network": small, "network": small}
    return names | networks | {"images": torch.rand(128, 1, 28, 28)}


def runnable() -> list[Any]:
    """The pages with blocks to run, the long ones marked as slow."""
    found = [page for page in pages() if is_run(page)]
    return [pytest.param(page, marks=pytest.mark.slow) if page in LONG else page for page in found]


@pytest.mark.parametrize("page", runnable())
def test_the_blocks_of_a_page_run(
    page: str, here: Path, easy_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOG, "mnist", EASY_MNIST)
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])  # which draw
    save_weights(here, easy_run)
    run_page(blocks_of(page), PageRunner(with_mnist=False, names=given_names()))


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_MNIST)
def test_the_blocks_of_a_page_run_with_mnist(
    page: str, here: Path, mnist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMIDGEN_DATA", str(mnist_folder))
    save_weights(here, ROOT / "records" / "quickstart" / "seed-0")
    run_page(blocks_of(page), PageRunner(with_mnist=True))


def run_page(blocks: list[Block], runner: PageRunner) -> None:
    for block in blocks:
        runner.run(block)


@pytest.mark.parametrize("page", pages())
def test_the_blocks_of_a_page_name_their_language(page: str) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{block}: a fence with one of {LANGUAGES}"
        assert not block.directive.startswith("not run") or "because" in block.directive, block


def test_the_python_in_the_help_of_smidgen_runs(
    here: Path, easy_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOG, "mnist", EASY_MNIST)
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])
    code = (smidgen.__doc__ or "").partition("proves it.\n\n")[2]
    assert code.startswith("import smidgen\n")
    exec(compile(code, "help(smidgen)", "exec"), given_names())
