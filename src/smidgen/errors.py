"""What smidgen raises when the person can fix it; anything else is a bug and keeps its traceback.

    SmidgenError
    ├── ConfigError       an experiment, a flag or a budget (also a ValueError)
    ├── DataError         a data set or an image: missing, damaged, of the wrong form
    │   └── UnavailableError   a data set that is nowhere at hand and cannot be downloaded
    ├── ModelError        a network that cannot be built, does not fit or does not learn
    ├── RecordError       a run folder, its record or its weights: missing or damaged
    ├── CheckpointError   a run that cannot go on: its checkpoint is missing or damaged
    └── BusyError         a folder that another process is at work on

    KeyboardInterrupt
    └── Interrupted       a run that was stopped, and can go on

A message says what was given, what is allowed and what to do next.
"""

from pathlib import Path


class SmidgenError(Exception):
    """The root: whoever runs smidgen can mend what the message says. The CLI exits with 2."""


class ConfigError(SmidgenError, ValueError):
    """An experiment, a flag or a budget does not make sense."""


class DataError(SmidgenError):
    """A data set or an image is missing, damaged or of the wrong form."""


class UnavailableError(DataError):
    """A data set is nowhere at hand, and no mirror gives it."""


class ModelError(SmidgenError):
    """A network cannot be built, does not fit its input or does not learn."""


class RecordError(SmidgenError):
    """A run folder, its record or its weights are missing or damaged."""


class CheckpointError(SmidgenError):
    """A run cannot go on: its checkpoint is missing, damaged or of something else."""


class BusyError(SmidgenError):
    """Another process is at work on a folder."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal (Ctrl-C or SIGTERM); `smidgen train --resume` goes on."""

    def __init__(self, signal: int, folder: Path | None = None) -> None:
        super().__init__()
        self.signal, self.folder = signal, folder


def require(holds: bool, message: str) -> None:
    """Nothing, where `holds`; otherwise the message as a ConfigError."""
    if not holds:
        raise ConfigError(message)
