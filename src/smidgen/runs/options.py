"""How and where an experiment runs: everything that is not part of the experiment itself."""

import os
from dataclasses import dataclass
from pathlib import Path

from smidgen.errors import ConfigError
from smidgen.training.device import require_threads

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """How and where an experiment runs. Paths may be given as strings.

    Raises:
        ConfigError: a value of the wrong type or out of range; names the field.
    """

    seed: int = 0
    """Seeds the initial weights, the order of the images, augmentation and dropout."""
    out: str | os.PathLike[str] = Path("runs")
    """Parent folder of all runs; a run goes to OUT/NAME/seed-SEED and never overwrites another."""
    data_dir: str | os.PathLike[str] | None = None
    """Folder that holds the data set's files."""
    device: str = "auto"
    """auto, cuda, mps or cpu; auto takes the first of these that is available."""
    skip_bad: bool = False
    """Skip unreadable images of a custom data set and note them, instead of refusing the data."""
    threads: int | None = None
    """CPU threads; None lets the backend choose."""
    backend: str = "auto"
    """How training steps are computed: eager, channels-last, native, or auto."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints within an epoch; there is always one after each epoch."""

    def __post_init__(self) -> None:
        for name, kinds in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ConfigError(
                    f"RunOptions.{name} is {value!r}; it must be {_NAMES.get(kinds[0], 'a path')}."
                )
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"--seed is {self.seed}; it must be from 0 to 2^63 - 1.")
        if not self.checkpoint_seconds >= 0:
            raise ConfigError(
                f"--checkpoint-seconds is {self.checkpoint_seconds}; it must be 0 or more."
            )
        require_threads(self.threads)


_TYPES: dict[str, tuple[type, ...]] = {
    "seed": (int,),
    "out": (str, os.PathLike),
    "data_dir": (str, os.PathLike, type(None)),
    "device": (str,),
    "skip_bad": (bool,),
    "threads": (int, type(None)),
    "backend": (str,),
    "checkpoint_seconds": (float, int),
}
_NAMES = {int: "an integer", bool: "True or False", float: "a number"}
