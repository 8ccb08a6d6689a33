"""How far a run has come, in a file that other processes read while it trains."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smidgen._storage.serialization import from_plain, to_plain
from smidgen.callbacks import Callback, Progress, RunInfo, TrainState
from smidgen.record import PROGRESS, Epoch, RunRecord


class ProgressLog(Callback):
    """Writes progress.jsonl while a run trains; it is removed at the end.

    A line is the number of parameters, an epoch with its duration, or a `Progress`. Those come a
    few times a second at first and less often as the run goes on, so the file stays small. A run
    never fails because of it: lines that cannot be written are left out.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._begun = self._written = time.perf_counter()

    def on_train_start(self, run: RunInfo) -> None:
        """Start the file, with the epochs from before an interruption."""
        self._path = run.folder / PROGRESS
        with suppress(OSError):
            self._path.write_text("", encoding="utf-8")
        self._write({"num_params": run.profile.num_params})
        for epoch, seconds in run.completed:
            self._write({"epoch": epoch.epoch, "seconds": seconds})

    def on_progress(self, progress: Progress) -> None:
        """Write it, unless another one was written a moment ago."""
        now = time.perf_counter()
        if now - self._written >= min(10, max(0.2, 0.005 * (now - self._begun))):
            self._written = now
            self._write(to_plain(progress))

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """Write the epoch's duration."""
        self._write({"epoch": epoch.epoch, "seconds": seconds})

    def on_train_end(self, record: RunRecord | None) -> None:
        """Remove the file."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _write(self, line: dict[str, Any]) -> None:
        assert self._path is not None
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@dataclass(slots=True)
class LoggedProgress:
    """What a progress.jsonl tells."""

    num_params: int | None = None
    epoch_seconds: dict[int, float] = field(default_factory=dict)
    """Duration of each completed epoch, by its number."""
    steps: list[Progress] = field(default_factory=list)


def read_progress(folder: Path) -> LoggedProgress:
    """What the progress.jsonl of a run tells, as far as it can be read."""
    found = LoggedProgress()
    with suppress(OSError, ValueError, RecursionError):  # ValueError: a line that is cut off
        for line in (folder / PROGRESS).read_text(encoding="utf-8").splitlines():
            plain = json.loads(line)
            if "num_params" in plain:
                found.num_params = int(plain["num_params"])
            elif "seconds" in plain:
                found.epoch_seconds[int(plain["epoch"])] = float(plain["seconds"])
            else:
                found.steps.append(from_plain(Progress, plain))
    return found
