"""Files that are written completely or not at all, and the folders that hold them."""

import os
import stat
import sys
from pathlib import Path

from smidgen.errors import ConfigError, SmidgenError

_BINARY = getattr(os, "O_BINARY", 0)  # without it, Windows changes line ends


def write_atomic(path: Path, content: bytes | str, previous: Path | None = None) -> None:
    """Write `content` to `path` so that readers see the old file or the new one, never a mixture.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is
    renamed. It has the mode of the file that it replaces; a new one has the mode that the umask
    leaves. The old file is moved to `previous`, if given.

    Raises:
        SmidgenError: the file cannot be written; the message says why, and the old one is still
            there, under either name.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        try:
            _write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        if path.exists():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            if previous is not None:
                os.replace(path, previous)  # noqa: PTH105
        os.replace(temporary, path)  # noqa: PTH105
        flush_names(path.parent)
    except OSError as error:
        raise SmidgenError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Append `line`, which ends in a newline, to the file at `path`, and flush it to the disk.

    Raises:
        SmidgenError: the file cannot be written; the message says why.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o666)
        try:
            _write_all(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise SmidgenError(f"{path} cannot be written: {error.strerror}.") from error


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def read_text(path: Path) -> str:
    """Read a text file, line ends unchanged.

    Raises:
        ConfigError: the file cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8.") from None


def make_folder(folder: Path) -> Path:
    """Make `folder`, and its parents, unless it exists; return it.

    Raises:
        SmidgenError: the folder cannot be made; the message says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SmidgenError(f"{folder} cannot be made: {error.strerror}.") from error
    return folder


def flush_names(folder: Path) -> None:
    """Flush the names in `folder` to the disk; Windows does so by itself."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left in `folder` and below.

    No other process may be writing there.
    """
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)
