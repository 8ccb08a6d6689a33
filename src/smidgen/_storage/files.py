"""Files and folders that are there whole or not at all, and that one process holds at a time."""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from smidgen.errors import BusyError, ConfigError, SmidgenError

if sys.platform != "win32":
    import fcntl


def write_atomic(path: Path, content: bytes | str, keep: Path | None = None) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary name in the same folder, are flushed to the disk and renamed, and
    the rename is flushed too. When that fails (no space, no permission), the temporary file is
    removed. The file that was at `path` is then at `keep`, where that is given.

    Raises:
        SmidgenError: the file cannot be written; says why.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(".part", f".{path.name}.", path.parent)
        try:
            _write_all(handle, data)
            os.fchmod(handle, 0o644)  # mkstemp made it private
            os.fsync(handle)
        finally:
            os.close(handle)
        if keep is not None and path.exists():
            os.replace(path, keep)  # noqa: PTH105
        os.replace(temporary, path)  # noqa: PTH105
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise SmidgenError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _write_all(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def _sync_folder(folder: Path) -> None:
    """Flush the names in `folder`; a system that cannot open a folder does so by itself."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial_files(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left in `folder` and below.

    Nobody else may be writing there.
    """
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


@contextmanager
def held(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Keep other processes from holding `folder`; one that dies lets go of it. Whether that works.

    Where the system or the file system has no such locks, nothing is kept from anyone.

    Raises:
        BusyError: another process holds it, and this one is not to wait.
        SmidgenError: it cannot be opened.
    """
    if sys.platform == "win32":
        yield False
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SmidgenError(f"{folder} cannot be opened: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            works = True
        except BlockingIOError:
            raise BusyError(
                f"{folder} is in use: another process is at work on it; wait for it, or stop it."
            ) from None
        except OSError:  # a network's file system without locks
            works = False
        yield works
    finally:
        os.close(handle)


def ensure_folder(folder: Path) -> Path:
    """`folder`, made with its parents if it was not there.

    Raises:
        SmidgenError: it cannot be made; says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SmidgenError(f"{folder} cannot be made: {error.strerror}.") from error
    return folder


@contextmanager
def new_folder(parent: Path, name: str, fill: Callable[[Path], None]) -> Iterator[Path]:
    """`parent/name`, or `parent/name-2`, `-3`, ..., the first that is not there: made, and held.

    It has its name only once `fill` has filled it; until then it is hidden, and the next such
    folder removes what is left of one whose process was killed.

    Raises:
        SmidgenError: it cannot be made; says why. Or what `fill` raises; nothing is left then.
    """
    with ExitStack() as stack:
        with held(ensure_folder(parent), wait=True) as alone:
            for stale in parent.glob(".*.part") if alone else ():
                shutil.rmtree(stale, ignore_errors=True)
            try:
                hidden = Path(tempfile.mkdtemp(".part", f".{name}.", parent))
            except OSError as error:
                raise SmidgenError(f"{parent / name} cannot be made: {error.strerror}.") from error
            try:
                hidden.chmod(0o755)  # mkdtemp made it private
                fill(hidden)
                stack.enter_context(held(hidden))
                folder = _take_name(hidden, parent, name)
            except BaseException:
                shutil.rmtree(hidden, ignore_errors=True)
                raise
        yield folder


def _take_name(hidden: Path, parent: Path, name: str) -> Path:
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            if not folder.exists():  # an empty folder would be replaced
                hidden.rename(folder)
                _sync_folder(parent)
                return folder
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise SmidgenError(f"{folder} cannot be made: {error.strerror}.") from error
        number += 1


def read_page(path: Path) -> str:
    """The text of a page that a person wrote, with its own line ends.

    Raises:
        ConfigError: it cannot be read, or is no text in UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text in UTF-8.") from None


def append_line(path: Path, line: str) -> None:
    """Append `line`, which ends in a newline, to `path`, and flush it to the disk.

    Raises:
        SmidgenError: the file cannot be written; says why.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _write_all(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise SmidgenError(f"{path} cannot be written: {error.strerror}.") from error
