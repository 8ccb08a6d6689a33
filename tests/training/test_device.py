import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from kernels_oracle import needs_compiler

import smidgen
from smidgen._storage.cores import usable_cores
from smidgen.errors import ConfigError
from smidgen.kernels import build_native_network
from smidgen.kernels.build import load_library
from smidgen.models.chain import build_chain
from smidgen.training.device import (
    compute_settings,
    describe_environment,
    require_threads,
    select_device,
    source_version,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "selected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_selects_the_first_available_device(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, selected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert select_device("auto").type == selected
    assert select_device("cpu") == CPU
    if not cuda:
        with pytest.raises(ConfigError, match=r"--device is cuda, but torch .* does not find it"):
            select_device("cuda")


def test_an_unknown_device_is_an_error() -> None:
    with pytest.raises(ConfigError, match="is 'gpu'; it must be one of auto, cuda, mps, cpu"):
        select_device("gpu")


def process_settings() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_num_threads(),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("workspace", [None, ":16:8"])
@pytest.mark.parametrize("threads", [None, 1])
def test_compute_settings_apply_inside_and_are_restored_on_exit(
    threads: int | None, workspace: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if workspace:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    before = process_settings()
    with compute_settings("cpu", threads) as device:
        assert device == CPU
        assert process_settings() == (True, True, threads or before[2], workspace or ":4096:8")
        torch.set_num_threads(3)
        assert describe_environment(CPU, "eager").threads == 3
    assert process_settings() == before


def test_compute_settings_are_restored_after_an_exception() -> None:
    before = process_settings()
    with pytest.raises(KeyError), compute_settings("cpu", 1):
        raise KeyError
    assert process_settings() == before


def test_compute_settings_that_are_not_allowed_change_nothing() -> None:
    before = process_settings()
    for device, threads in (("cpu", 0), ("cpu", 1025), ("gpu", 1)):
        with pytest.raises(ConfigError), compute_settings(device, threads):
            pass
    assert process_settings() == before


def test_the_environment_names_versions_device_and_processor() -> None:
    found = describe_environment(CPU, "eager")
    assert (found.smidgen, found.torch) == (smidgen.__version__, torch.__version__)
    assert (found.python, found.device) == (platform.python_version(), "cpu")
    assert found.processor.endswith(" cores")


@needs_compiler
def test_the_environment_does_not_look_for_the_compiler_again() -> None:
    build_native_network(build_chain("4 G", (1, 8, 8), 10), (1, 8, 8), batch_size=8)
    misses = load_library.cache_info().misses
    assert describe_environment(CPU, "native").kernels_sha256 == load_library(()).sha256
    assert load_library.cache_info().misses == misses


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    command = ["git", "-C", str(folder), *author, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_source_version_tells_modified_checkouts_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    package = tmp_path / "src"
    package.mkdir()
    module = package / "module.py"
    module.write_text("1\n")
    assert source_version(package) is None  # no checkout
    git(tmp_path, "init", "-q")
    (tmp_path / "README").touch()
    git(tmp_path, "add", "README")
    git(tmp_path, "commit", "-q", "-m", "one")
    assert source_version(package) is None  # installed inside the checkout of another project
    git(tmp_path, "add", "src")
    git(tmp_path, "commit", "-q", "-m", "two")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "README").write_text("outside of the package")
    assert source_version(package) == commit

    versions = [source_version(package)]
    module.write_text("2\n")
    versions.append(source_version(package))
    module.write_text("3\n")
    versions.append(source_version(package))
    (package / "new.py").write_text("1\n")
    versions.append(source_version(package))
    (package / "new.py").write_text("2\n")
    versions.append(source_version(package))
    assert len(set(versions)) == len(versions)
    assert all((version or "").startswith(f"{commit}+") for version in versions[1:])
    assert source_version(package) == versions[-1]


def test_without_git_there_is_no_source_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert source_version() is None


def test_more_threads_than_cores_are_refused() -> None:
    cores = usable_cores()
    with pytest.raises(ConfigError, match=f"it must be from 1 to {cores}, the cores that this"):
        require_threads(cores + 1)
