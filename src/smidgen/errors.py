"""The errors that a user can fix; anything else is a bug and keeps its traceback.

    SmidgenError
    ├── ConfigError       an experiment, a flag or a budget (also a ValueError)
    ├── DataError         a data set or an image: missing, damaged, or malformed
    │   └── UnavailableError   a data set that is not on disk and cannot be downloaded
    ├── ModelError        a network that cannot be built, does not fit or does not learn
    ├── RecordError       a run folder, its record or its weights: missing or damaged
    ├── ExportError       an exported file that does not answer as the network does
    ├── CheckpointError   a run that cannot be resumed: its checkpoint is missing or damaged
    └── BusyError         a folder that another process has locked

    KeyboardInterrupt
    └── Interrupted       a run that was interrupted and can be resumed

A message says what was given, what is allowed and how to fix it.
"""

from collections.abc import Iterable
from pathlib import Path


class SmidgenError(Exception):
    """Base of all errors that the user can fix. The command line exits with status 2."""


class ConfigError(SmidgenError, ValueError):
    """An experiment, a flag or a budget is invalid."""


class DataError(SmidgenError):
    """A data set or an image is missing, damaged or malformed."""


class UnavailableError(DataError):
    """A data set is not on disk and cannot be downloaded."""


class ModelError(SmidgenError):
    """A network cannot be built, does not fit its input or does not learn."""


class RecordError(SmidgenError):
    """A run folder, its record or its weights are missing or damaged."""


class ExportError(SmidgenError):
    """An exported file does not answer as the network does, within the tolerance."""


class CheckpointError(SmidgenError):
    """A run cannot be resumed: its checkpoint is missing, damaged or does not match."""


class BusyError(SmidgenError):
    """Another process has locked a folder."""


class Interrupted(KeyboardInterrupt):
    """A run was interrupted by Ctrl-C or SIGTERM; `smidgen train --resume` continues it."""

    def __init__(self, signal: int, folder: Path | None = None) -> None:
        super().__init__()
        self.signal, self.folder = signal, folder


def install_extra(name: str) -> str:
    """How to install an extra: from the repository, since smidgen is not on the package index.

    >>> install_extra("track")
    "pip install '.[track]' in smidgen's checkout, or pip install 'smidgen[track] @ git+URL'"
    """
    return (
        f"pip install '.[{name}]' in smidgen's checkout, or pip install 'smidgen[{name}] @ git+URL'"
    )


def require(condition: bool, message: str) -> None:
    """Raise a ConfigError with `message` unless `condition` is true."""
    if not condition:
        raise ConfigError(message)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """End a message with the known name that is closest to `given`, if one is close.

    Case does not matter, nor do - and _. A dotted name is also found by its last parts.

    >>> did_you_mean("epoch", ["train.epochs", "train.batch_size"])
    ' Did you mean train.epochs?'
    >>> did_you_mean("x", ["mnist"])
    ''
    """
    from difflib import get_close_matches

    names = {name.lower().replace("-", "_"): name for name in known}
    for lower, name in list(names.items()):
        parts = lower.split(".")
        for start in range(1, len(parts)):
            names.setdefault(".".join(parts[start:]), name)
    found = get_close_matches(given.lower().replace("-", "_"), names, 1)
    return f" Did you mean {names[found[0]]}?" if found else ""
