"""Folders that one process at a time works in."""

import errno
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from smidgen._storage.files import flush_names, make_folder
from smidgen.errors import BusyError, SmidgenError

# A file system without locks, such as some network ones.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_PATIENCE = 0.2  # seconds: `is_locked` has the lock for a moment


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Keep other processes from locking `folder`; yield whether the file system can do that.

    The lock is a hidden file next to the folder. It ends with its process, however that ends.

    Raises:
        BusyError: another process has locked the folder, and `wait` is false.
        SmidgenError: there is no such folder, or no lock file can be made next to it.
    """
    if not folder.is_dir():
        raise SmidgenError(f"{folder} is not a folder.")
    with _locked(folder, -1 if wait else _PATIENCE) as works:
        yield works


def is_locked(folder: Path) -> bool:
    """Whether a process works in `folder` now; a lock file that a killed one left is removed."""
    if not _lock_file(folder).exists():
        return False
    try:
        with _locked(folder, 0):
            return False
    except SmidgenError:  # another process has it, or another user, whose files are out of reach
        return True


def _lock_file(folder: Path) -> Path:
    path = folder.resolve()
    return path.with_name(f".{path.name}.lock")


@contextmanager
def _locked(folder: Path, timeout: float = _PATIENCE) -> Iterator[bool]:
    """The same for a folder that need not exist yet; `timeout` in seconds, or -1 for none."""
    from filelock import FileLock, Timeout

    path = _lock_file(folder)
    lock = FileLock(path, timeout=timeout, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{folder} is in use by another process; wait for it to finish, or stop it."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise SmidgenError(f"{path} cannot be written: {error.strerror}.") from None
        path.unlink(missing_ok=True)
        yield False
        return
    try:
        yield True
    finally:
        if sys.platform != "win32":  # which does not remove an open file
            path.unlink(missing_ok=True)  # those waiting for it notice, and make another
        lock.release()
        if sys.platform == "win32":
            with suppress(OSError):  # it has been locked again
                path.unlink(missing_ok=True)


@contextmanager
def new_run_folder(parent: Path, name: str, fill: Callable[[Path], None]) -> Iterator[Path]:
    """Make and lock `parent/name`, or the first of `parent/name-2`, `-3`, ... that does not exist.

    `fill` fills the folder while it has a hidden name, so that no half-filled one is ever found. If
    a process is killed meanwhile, the next call removes what it left.

    Raises:
        SmidgenError: the folder cannot be made; says why. Or what `fill` raises; nothing remains.
    """
    with locked(make_folder(parent), wait=True) as alone:
        for stale in parent.glob(".*.part") if alone else ():
            shutil.rmtree(stale, ignore_errors=True)
        hidden = parent / f".{name}.{os.urandom(6).hex()}.part"
        try:
            hidden.mkdir()
            fill(hidden)
            folder, lock = _rename(hidden, parent, name)
        except OSError as error:
            raise SmidgenError(f"{parent / name} cannot be made: {error.strerror}.") from error
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    with lock:
        yield folder


def _rename(hidden: Path, parent: Path, name: str) -> tuple[Path, ExitStack]:
    """Give a hidden folder the first free name; return the folder and its lock.

    The name is locked first, so that nobody takes the folder for one that was abandoned.
    """
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():  # an empty folder would be replaced
            with ExitStack() as stack, suppress(BusyError):
                stack.enter_context(_locked(folder))
                try:
                    hidden.rename(folder)
                    flush_names(parent)
                    return folder, stack.pop_all()
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                        raise
    raise AssertionError  # the count has no end
