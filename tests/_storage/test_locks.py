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
from typing import NoReturn

import pytest

from smidgen._storage import locks
from smidgen._storage.locks import is_locked, locked, new_run_folder
from smidgen.errors import BusyError, SmidgenError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_locks(*_: object) -> NoReturn:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has locked `folder`, until it is killed or the context is left."""
    program = """
import sys
from pathlib import Path
from smidgen._storage.locks import locked
with locked(Path(sys.argv[1])) as works:
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


def test_a_folder_that_another_process_has_locked_is_refused(tmp_path: Path) -> None:
    with holder(tmp_path):
        for _ in range(2):
            with pytest.raises(BusyError, match="is in use by another process"):
                locked(tmp_path).__enter__()
    with locked(tmp_path) as works:
        assert works


def test_a_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
        with locked(tmp_path) as works:
            assert works


def test_a_lock_is_seen_until_its_process_ends_however_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "seed-0"
    folder.mkdir()
    assert not is_locked(folder)
    assert list(tmp_path.iterdir()) == [folder]  # looking leaves nothing behind
    with holder(folder) as process:
        assert is_locked(folder)
        assert is_locked(folder)
        process.kill()
        process.wait()
        assert (tmp_path / ".seed-0.lock").exists()
        assert not is_locked(folder)


def test_looking_at_a_lock_never_gets_in_the_way(tmp_path: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            is_locked(tmp_path)

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        try:
            for _ in range(50):
                with locked(tmp_path) as works:
                    assert works
        finally:
            done.set()
    for each in looking:
        each.result()


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    with holder(tmp_path) as process, ThreadPoolExecutor(1) as pool:

        def wait() -> bool:
            with locked(tmp_path, wait=True) as works:
                return works

        waiting = pool.submit(wait)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        process.kill()
        assert waiting.result(30)


def test_a_folder_that_does_not_exist_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        with pytest.raises(SmidgenError, match=f"{name} is not a folder"), locked(tmp_path / name):
            pass


def test_a_lock_leaves_nothing_behind_and_nothing_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "seed-0"
    folder.mkdir()
    with locked(folder):
        assert list(folder.iterdir()) == []
        assert (tmp_path / ".seed-0.lock").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["seed-0"]


def test_a_folder_is_locked_under_whatever_path_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seed-0"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    with locked(folder):
        for other in (Path(), Path("../seed-0"), tmp_path / "link"):
            with pytest.raises(BusyError), locked(other):
                pass


def test_a_lock_file_left_by_a_killed_process_does_not_matter(tmp_path: Path) -> None:
    folder = tmp_path / "seed-0"
    folder.mkdir()
    (tmp_path / ".seed-0.lock").touch()
    with locked(folder) as works:
        assert works


def test_a_forked_child_does_not_keep_a_lock_that_was_released(tmp_path: Path) -> None:
    program = """
import os, signal, sys, time
from pathlib import Path
from smidgen._storage.locks import locked
with locked(Path(sys.argv[1])):
    child = os.fork()
    if not child:
        time.sleep(60)
with locked(Path(sys.argv[1])) as works:
    print(works)
os.kill(child, signal.SIGKILL)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_without_locks_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", no_locks)
    with locked(tmp_path) as works, locked(tmp_path):
        assert not works
    assert not list(tmp_path.parent.glob(".*.lock"))


# -------------------------------------------------------------------------------- new run folders


def leave(_: Path) -> None:
    """Leave the folder empty."""


def made(parent: Path, name: str) -> Path:
    with new_run_folder(parent, name, leave) as folder:
        return folder


def test_folders_are_numbered_from_the_second_on(tmp_path: Path) -> None:
    parent = tmp_path / "runs" / "net"
    assert [made(parent, "seed-0").name for _ in range(3)] == ["seed-0", "seed-0-2", "seed-0-3"]
    (parent / "seed-0-2").rmdir()
    assert made(parent, "seed-0") == parent / "seed-0-2"
    (parent / "seed-1").touch()  # a file is in the way, too
    assert made(parent, "seed-1").name == "seed-1-2"


def test_a_folder_is_hidden_until_it_is_filled_and_then_locked(tmp_path: Path) -> None:
    parent = tmp_path / "runs"

    def fill(folder: Path) -> None:
        assert names(parent) == [folder.name]
        assert folder.name.startswith(".seed-0.")
        (folder / "file").touch()

    with new_run_folder(parent, "seed-0", fill) as folder:
        assert (folder, names(parent)) == (parent / "seed-0", ["seed-0"])
        assert names(folder) == ["file"]
        assert folder.stat().st_mode & 0o777 == 0o755
        with pytest.raises(BusyError):
            locked(folder).__enter__()
    with locked(folder) as works:
        assert works


@pytest.mark.parametrize("kind", [SmidgenError, KeyboardInterrupt])
def test_a_folder_that_cannot_be_filled_leaves_nothing(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    def fill(folder: Path) -> None:
        (folder / "file").touch()
        raise kind

    with pytest.raises(kind):
        new_run_folder(tmp_path, "seed-0", fill).__enter__()
    assert names(tmp_path) == []
    assert made(tmp_path, "seed-0").name == "seed-0"


def test_a_folder_that_a_killed_process_did_not_fill_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / ".seed-0.abc.part"
    stale.mkdir()
    (stale / "file").touch()
    (tmp_path / ".mine").mkdir()
    made(tmp_path, "seed-1")
    assert names(tmp_path) == [".mine", "seed-1"]


def test_folders_made_at_once_get_different_names(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def make(_: int) -> Path:
        together.wait()
        with new_run_folder(tmp_path, "seed-0", lambda folder: (folder / "file").touch()) as folder:
            return folder

    with ThreadPoolExecutor(4) as pool:
        found = sorted(folder.name for folder in pool.map(make, range(4)))
    assert found == names(tmp_path) == ["seed-0", "seed-0-2", "seed-0-3", "seed-0-4"]
    assert all(names(tmp_path / name) == ["file"] for name in found)


def test_without_locks_a_folder_is_made_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", no_locks)
    (tmp_path / ".theirs.abc.part").mkdir()  # somebody may be filling it
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(new_run_folder(tmp_path, "seed-0", leave)) for _ in range(2)
        )
    assert (first.name, second.name) == ("seed-0", "seed-0-2")
    assert (tmp_path / ".theirs.abc.part").is_dir()


def test_a_name_that_another_process_takes_meanwhile_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_locked", _not_locked)

    def fill(folder: Path) -> None:
        (folder / "file").touch()

    rename = Path.rename

    def too_late(self: Path, target: Path) -> Path:
        if target.name == "seed-0":
            target.mkdir()
            (target / "theirs").touch()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", too_late)
    with new_run_folder(tmp_path, "seed-0", fill) as folder:
        assert folder.name == "seed-0-2"
    assert names(tmp_path / "seed-0") == ["theirs"]


@contextmanager
def _not_locked(folder: Path, wait: bool = False) -> Iterator[bool]:
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
