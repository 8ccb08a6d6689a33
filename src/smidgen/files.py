"""Files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path

from smidgen.errors import ConfigError, SmidgenError


def write_whole(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary name in the same folder, are flushed to the disk and renamed. When
    that fails (no space, no permission), the temporary file is removed.

    Raises:
        SmidgenError: the file cannot be written; says why.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101 - mkstemp made it private
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        raise SmidgenError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


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


def new_folder(parent: Path, name: str) -> Path:
    """Make and return `parent/name`, or `parent/name-2`, `-3`, ...: the first that is not there.

    Raises:
        SmidgenError: the folder cannot be made; says why.
    """
    ensure_folder(parent)
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise SmidgenError(f"{folder} cannot be made: {error.strerror}.") from error


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
    """Append `line`, which ends in a newline, to `path` at once.

    Raises:
        SmidgenError: the file cannot be written; says why.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise SmidgenError(f"{path} cannot be written: {error.strerror}.") from error
