import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import smidgen
from smidgen.errors import ConfigError
from smidgen.training import device as environment
from smidgen.training.device import describe, settle

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("cuda", "mps", "taken"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_first_device_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, taken: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert settle("auto").type == taken
    assert settle("cpu") == CPU
    if not cuda:
        with pytest.raises(ConfigError, match=r"--device is cuda, which torch .* does not find"):
            settle("cuda")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="is 'gpu'; it must be one of auto, cuda, mps, cpu"):
        settle("gpu")


def test_threads_and_determinism_are_set_and_described() -> None:
    settle("cpu", threads=1)
    assert torch.are_deterministic_algorithms_enabled()
    assert describe(CPU, "eager").threads == 1
    settle("cpu", threads=2)
    assert describe(CPU, "eager").threads == 2
    settle("cpu")
    assert describe(CPU, "eager").threads == 2


def test_what_a_reader_must_know_is_described() -> None:
    found = describe(CPU, "eager")
    assert (found.smidgen, found.torch) == (smidgen.__version__, torch.__version__)
    assert (found.python, found.device) == (platform.python_version(), "cpu")
    assert found.processor.endswith(" cores")


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    command = ["git", "-C", str(folder), *author, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_says_whether_the_checkout_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    source = tmp_path / "environment.py"
    source.write_text("1\n")
    monkeypatch.setattr(environment, "__file__", str(source))
    assert describe(CPU, "eager").commit is None  # no checkout at all
    git(tmp_path, "init", "-q")
    (tmp_path / "other").touch()
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "-q", "-m", "one")
    assert describe(CPU, "eager").commit is None  # installed inside somebody else's checkout
    git(tmp_path, "add", "environment.py")
    git(tmp_path, "commit", "-q", "-m", "two")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert describe(CPU, "eager").commit == commit
    (tmp_path / "untracked").touch()
    assert describe(CPU, "eager").commit == commit
    source.write_text("2\n")
    assert describe(CPU, "eager").commit == f"{commit}+"


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert describe(CPU, "eager").commit is None
