import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from kernels_oracle import needs_compiler

from smidgen.kernels import Unsupported, build
from smidgen.kernels.build import load_library

pytestmark = needs_compiler

FLAGS = ("-O0",)  # a second instead of several


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_library.cache_clear()
    yield tmp_path / "smidgen" / "kernels"
    load_library.cache_clear()


def use_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


def test_the_library_is_compiled_once(cache: Path) -> None:
    load_library(FLAGS)
    (built,) = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    stamp = built.stat().st_mtime_ns
    load_library.cache_clear()
    load_library(FLAGS)
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [stamp]


def test_a_damaged_library_is_compiled_again(cache: Path) -> None:
    load_library(FLAGS)
    (built,) = cache.iterdir()
    whole = built.read_bytes()
    built.unlink()  # it is mapped into this process, so another file takes its place
    built.write_bytes(whole[:100])
    load_library.cache_clear()
    load_library(FLAGS)
    assert [path.read_bytes() != whole[:100] for path in cache.iterdir()] == [True]


def test_two_processes_may_compile_at_once(cache: Path) -> None:
    code = f"from smidgen.kernels.build import load_library; load_library({FLAGS!r})"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(100) for process in both] == [0, 0]
    assert all(path.suffix == ".so" for path in cache.iterdir())


def test_without_a_compiler_the_kernels_are_unsupported(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(Unsupported, match=r"there is no C\+\+ compiler"):
        load_library(FLAGS)


def test_a_compiler_that_fails_is_reported(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_compiler(tmp_path, monkeypatch, "echo 'error: no space left' >&2; exit 1")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unsupported, match="compiler fails: error: no space left"):
        load_library(FLAGS)


def test_without_openmp_the_kernels_are_compiled_for_one_thread(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'case "$*" in *fopenmp*) echo "error: no openmp" >&2; exit 1;; esac; exec c++ "$@"'
    use_compiler(tmp_path, monkeypatch, script)
    assert load_library(FLAGS).functions.smidgen_vector_width() in (4, 8, 16)


def test_a_library_that_cannot_be_loaded_is_compiled_without_openmp(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        'case "$*" in *-dM*) ;; *fopenmp*) for last; do :; done; echo junk >"$last"; exit;; esac\n'
        'exec c++ "$@"'
    )
    use_compiler(tmp_path, monkeypatch, script)
    assert load_library(FLAGS).functions.smidgen_vector_width() in (4, 8, 16)


def test_a_compiler_that_hangs_is_stopped(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.kernels.build._TIMEOUT_SECONDS", 0.2)
    use_compiler(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(Unsupported, match="two minutes"):
        load_library(FLAGS)


def test_a_cache_that_cannot_be_written_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smidgen").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_library.cache_clear()
    with pytest.raises(Unsupported, match="cannot be built"):
        load_library(FLAGS)
    load_library.cache_clear()


def test_a_failure_is_remembered_until_compiler_or_note_changes(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    script = f"echo x >>{runs}; echo 'error: no space left' >&2; exit 1"

    def failed_runs() -> int:
        before = len(runs.read_text().split()) if runs.exists() else 0
        load_library.cache_clear()
        with pytest.raises(Unsupported, match="error: no space left"):
            load_library(FLAGS)
        return len(runs.read_text().split()) - before

    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    monkeypatch.setattr(
        "smidgen.kernels.build.shutil.which", lambda name: name if "/" in name else None
    )
    use_compiler(tmp_path, monkeypatch, script)
    assert failed_runs() > 0
    assert failed_runs() == 0
    with pytest.raises(Unsupported, match=r"delete .*failed-.*\.txt to try again"):
        load_library(FLAGS)
    use_compiler(tmp_path, monkeypatch, script + " # an update")
    assert failed_runs() > 0
    assert failed_runs() == 0
    for note in cache.glob("failed-*.txt"):
        note.unlink()
    assert failed_runs() > 0


def test_a_compiler_that_hangs_is_not_waited_for_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.kernels.build._TIMEOUT_SECONDS", 0.3)
    use_compiler(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(Unsupported, match="two minutes"):
        load_library(FLAGS)
    monkeypatch.setattr("smidgen.kernels.build._TIMEOUT_SECONDS", 60.0)
    load_library.cache_clear()
    start = time.perf_counter()
    with pytest.raises(Unsupported, match="two minutes"):
        load_library(FLAGS)
    assert time.perf_counter() - start < 10


def test_the_identity_changes_with_flags_and_not_with_the_place(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_library(FLAGS)
    assert len(first.sha256) == 64
    assert first.compiler
    (built,) = cache.iterdir()
    assert sha256(built.read_bytes()).hexdigest() == first.sha256
    assert load_library((*FLAGS, "-fno-inline", "-DFORCED_VECTOR_WIDTH=4")).sha256 != first.sha256
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(build._SOURCES, elsewhere)
    monkeypatch.setattr(build, "_SOURCES", elsewhere)
    built.unlink()
    load_library.cache_clear()
    again = load_library(FLAGS)
    assert (again.sha256, again.compiler) == (first.sha256, first.compiler)


def test_a_failure_that_cannot_be_remembered_is_still_reported(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("smidgen.kernels.build.write_atomic", fail)
    monkeypatch.setenv("PATH", "/nowhere")
    use_compiler(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(Unsupported, match="compiler fails: it does not say why"):
        load_library(FLAGS)
