import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels_oracle import needs_compiler

from smidgen.kernels import Unsupported
from smidgen.kernels.build import library

pytestmark = needs_compiler

FLAGS = ("-O0",)  # a second instead of several


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.cache_clear()
    yield tmp_path / "smidgen" / "lanes"
    library.cache_clear()


def own_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


def test_a_library_is_kept_and_taken_again(cache: Path) -> None:
    library("images.cpp", FLAGS)
    (kept,) = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    stamp = kept.stat().st_mtime_ns
    library.cache_clear()
    library("images.cpp", FLAGS)
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [stamp]


def test_a_damaged_library_is_not_loaded_but_made_again(cache: Path) -> None:
    library("images.cpp", FLAGS)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.unlink()  # it is mapped into this process, so another file takes its place
    kept.write_bytes(whole[:100])
    library.cache_clear()
    library("images.cpp", FLAGS)
    assert [path.read_bytes() != whole[:100] for path in cache.iterdir()] == [True]


def test_two_processes_at_once_are_fine(cache: Path) -> None:
    code = (
        f"from smidgen.kernels.build import library\nlibrary('images.cpp', {FLAGS!r}).lanes_prepare"
    )
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(100) for process in both] == [0, 0]
    assert all(path.suffix == ".so" for path in cache.iterdir())


def test_no_compiler_is_a_reason(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(Unsupported, match=r"there is no C\+\+ compiler"):
        library("images.cpp", FLAGS)


def test_a_compiler_that_fails_is_a_reason(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_compiler(tmp_path, monkeypatch, "echo 'error: out of ink' >&2; exit 1")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unsupported, match="compiler fails: error: out of ink"):
        library("images.cpp", FLAGS)


def test_without_openmp_it_is_compiled_all_the_same(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'case "$*" in *fopenmp*) echo "error: no openmp" >&2; exit 1;; esac; exec c++ "$@"'
    own_compiler(tmp_path, monkeypatch, script)
    assert library("network.cpp", FLAGS).lanes_width() in (4, 8, 16)


def test_what_cannot_be_loaded_is_compiled_without_openmp(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        'case "$*" in *-dM*) ;; *fopenmp*) for last; do :; done; echo junk >"$last"; exit;; esac\n'
        'exec c++ "$@"'
    )
    own_compiler(tmp_path, monkeypatch, script)
    assert library("network.cpp", FLAGS).lanes_width() in (4, 8, 16)


def test_a_compiler_that_does_not_end_is_a_reason(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.kernels.build._MOST_SECONDS", 0.2)
    own_compiler(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(Unsupported, match="two minutes"):
        library("images.cpp", FLAGS)


def test_a_cache_that_cannot_be_written_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smidgen").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.cache_clear()
    with pytest.raises(Unsupported, match="cannot be made"):
        library("images.cpp", FLAGS)
    library.cache_clear()
