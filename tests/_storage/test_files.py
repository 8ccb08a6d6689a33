import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from smidgen._storage import files
from smidgen._storage.files import append_line, held, new_folder, remove_partial_files, write_atomic
from smidgen.errors import BusyError, SmidgenError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["ä\n", "ä\n".encode()])
def test_a_file_holds_what_was_written(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "page.md"
    write_atomic(path, "old and longer")
    write_atomic(path, content)
    assert path.read_bytes() == b"\xc3\xa4\n"
    assert names(tmp_path) == ["page.md"]
    assert path.stat().st_mode & 0o777 == 0o644


def full(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["mkstemp", "write", "fsync", "fchmod", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    module = "tempfile" if place == "mkstemp" else "os"
    monkeypatch.setattr(f"{module}.{place}", full)
    with pytest.raises(SmidgenError, match=r"run.json cannot be written: No space left on device"):
        write_atomic(path, "new")
    assert (names(tmp_path), path.read_text()) == (["run.json"], "old")


def test_an_interrupted_write_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "run.json", "new")
    assert names(tmp_path) == []


def test_a_file_without_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SmidgenError, match="cannot be written: No such file"):
        write_atomic(tmp_path / "none" / "file", "")
    with pytest.raises(SmidgenError, match="cannot be written: No such file"):
        append_line(tmp_path / "none" / "file", "line\n")


def test_the_file_of_before_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    path, before = tmp_path / "last", tmp_path / "before"
    for content in ("one", "two", "three"):
        write_atomic(path, content, keep=before)
        assert path.read_text() == content
    assert before.read_text() == "two"
    assert names(tmp_path) == ["before", "last"]


@pytest.mark.parametrize("which", [1, 2])
def test_a_failed_rename_keeps_a_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    path, before = tmp_path / "last", tmp_path / "before"
    write_atomic(path, "one")
    rename, renames = os.replace, []

    def failing(source: str, target: Path) -> None:
        renames.append(target)
        if len(renames) == which:
            full()
        rename(source, target)

    monkeypatch.setattr("os.replace", failing)
    with pytest.raises(SmidgenError, match="last cannot be written"):
        write_atomic(path, "two", keep=before)
    (left,) = tmp_path.iterdir()
    assert left.read_text() == "one"


def test_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("os.write", lambda handle, data: write(handle, data[:3]))
    write_atomic(tmp_path / "whole", "more than three")
    append_line(tmp_path / "lines", "one line\n")
    assert (tmp_path / "whole").read_text() == "more than three"
    assert (tmp_path / "lines").read_text() == "one line\n"


def test_only_parts_are_removed(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for path in (tmp_path / ".run.json.x1.part", inner / ".weights.y.part"):
        path.touch()
    kept = {tmp_path / "run.json", tmp_path / ".hidden", inner / "a.part"}
    for path in kept:
        path.touch()
    remove_partial_files(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == kept


# ------------------------------------------------------------------------------------------- held


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `folder`, until it is killed or the context is left."""
    program = """
import sys
from pathlib import Path
from smidgen._storage.files import held
with held(Path(sys.argv[1])) as works:
    print(works, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process


def test_what_another_process_holds_is_refused_until_it_lets_go(tmp_path: Path) -> None:
    with holder(tmp_path):
        for _ in range(2):
            with pytest.raises(BusyError, match="is in use: another process is at work on it"):
                held(tmp_path).__enter__()
    with held(tmp_path) as works:
        assert works


def test_what_a_killed_process_held_is_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
        with held(tmp_path) as works:
            assert works


def test_who_is_to_wait_waits(tmp_path: Path) -> None:
    with holder(tmp_path) as process, ThreadPoolExecutor(1) as pool:

        def wait() -> bool:
            with held(tmp_path, wait=True) as works:
                return works

        waiting = pool.submit(wait)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        process.kill()
        assert waiting.result(30)


def test_a_folder_that_is_none_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(SmidgenError, match="none cannot be opened: No such file or directory"):
        held(tmp_path / "none").__enter__()


def test_without_locks_nothing_is_kept_from_anyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with held(tmp_path) as works, held(tmp_path):
        assert not works


# ------------------------------------------------------------------------------------ new folders


def leave(_: Path) -> None:
    """Fills a folder with nothing."""


def made(parent: Path, name: str) -> Path:
    with new_folder(parent, name, leave) as folder:
        return folder


def test_folders_are_numbered_from_the_second_on(tmp_path: Path) -> None:
    parent = tmp_path / "runs" / "net"
    assert [made(parent, "seed-0").name for _ in range(3)] == ["seed-0", "seed-0-2", "seed-0-3"]
    (parent / "seed-0-2").rmdir()
    assert made(parent, "seed-0") == parent / "seed-0-2"
    (parent / "seed-1").touch()  # a file is in the way, too
    assert made(parent, "seed-1").name == "seed-1-2"


def test_a_folder_is_hidden_until_it_is_filled_and_then_held(tmp_path: Path) -> None:
    parent = tmp_path / "runs"

    def fill(folder: Path) -> None:
        assert [path.name for path in parent.iterdir()] == [folder.name]
        assert folder.name.startswith(".seed-0.")
        (folder / "file").touch()

    with new_folder(parent, "seed-0", fill) as folder:
        assert (folder, names(parent)) == (parent / "seed-0", ["seed-0"])
        assert names(folder) == ["file"]
        assert folder.stat().st_mode & 0o777 == 0o755
        with pytest.raises(BusyError):
            held(folder).__enter__()
    with held(folder):
        pass


@pytest.mark.parametrize("kind", [SmidgenError, KeyboardInterrupt])
def test_a_folder_that_cannot_be_filled_leaves_nothing(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    def fill(folder: Path) -> None:
        (folder / "file").touch()
        raise kind

    with pytest.raises(kind):
        new_folder(tmp_path, "seed-0", fill).__enter__()
    assert names(tmp_path) == []
    assert made(tmp_path, "seed-0").name == "seed-0"


def test_what_a_killed_process_did_not_fill_is_removed_by_the_next(tmp_path: Path) -> None:
    stale = tmp_path / ".seed-0.abc.part"
    stale.mkdir()
    (stale / "file").touch()
    (tmp_path / ".mine").mkdir()
    made(tmp_path, "seed-1")
    assert names(tmp_path) == [".mine", "seed-1"]


def test_several_folders_at_once_get_names_of_their_own(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def make(_: int) -> Path:
        together.wait()
        with new_folder(tmp_path, "seed-0", lambda folder: (folder / "file").touch()) as folder:
            return folder

    with ThreadPoolExecutor(4) as pool:
        found = sorted(folder.name for folder in pool.map(make, range(4)))
    assert found == names(tmp_path) == ["seed-0", "seed-0-2", "seed-0-3", "seed-0-4"]
    assert all(names(tmp_path / name) == ["file"] for name in found)


def test_without_locks_a_folder_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", full)
    (tmp_path / ".theirs.abc.part").mkdir()  # somebody may be filling it
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(new_folder(tmp_path, "seed-0", leave)) for _ in range(2)
        )
    assert (first.name, second.name) == ("seed-0", "seed-0-2")
    assert (tmp_path / ".theirs.abc.part").is_dir()


def test_a_name_that_somebody_takes_in_between_is_left_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "held", _held_by_nobody)

    def fill(folder: Path) -> None:
        (folder / "file").touch()

    rename = Path.rename

    def too_late(self: Path, target: Path) -> Path:
        if target.name == "seed-0":
            target.mkdir()
            (target / "theirs").touch()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", too_late)
    with new_folder(tmp_path, "seed-0", fill) as folder:
        assert folder.name == "seed-0-2"
    assert names(tmp_path / "seed-0") == ["theirs"]


@contextmanager
def _held_by_nobody(folder: Path, wait: bool = False) -> Iterator[bool]:
    yield False


def test_a_folder_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "unplugged")
    for parent in ("file", "file/inner", "link"):
        with pytest.raises(SmidgenError, match="cannot be made: "):
            made(tmp_path / parent, "seed-0")
    monkeypatch.setattr("os.mkdir", full)
    with pytest.raises(SmidgenError, match="seed-0 cannot be made: No space left on device"):
        made(tmp_path, "seed-0")


def test_lines_are_there_as_soon_as_they_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, "one\n")
    assert path.read_text() == "one\n"
    append_line(path, "zwei ä\n")
    assert path.read_text(encoding="utf-8") == "one\nzwei ä\n"
