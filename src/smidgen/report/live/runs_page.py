"""The live page of several runs: it follows the files in their folders."""

import threading
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from smidgen.config import read_experiment
from smidgen.errors import SmidgenError
from smidgen.record import (
    EXPERIMENT,
    METRICS,
    PAGE,
    RECORD,
    TIMES,
    find_run_folders,
    read_record,
    read_times,
)
from smidgen.report.live.server import Answer, LoopbackServer
from smidgen.report.live.state import RunState, as_json, epoch_state, page_answers
from smidgen.report.run_folder import read_epochs

_MOST_RUNS = 50
# A report may come from anywhere: it runs its script, if any, without this server's name.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "sandbox allow-scripts; frame-ancestors 'none'"
)


class RunsPage:
    """Shows the runs in a folder and its subfolders, newest first, as their files change."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Take `port` of 127.0.0.1, or one that the system chooses.

        Raises:
            SmidgenError: there is no such folder, or the port is not available.
        """
        if not folder.is_dir():
            raise SmidgenError(f"{folder} is not a folder; give one that holds runs, such as runs.")
        self.folder = folder
        self._known: dict[Path, _Known] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._server = LoopbackServer(page_answers(self._snapshot), port)

    def start(self) -> str:
        """Serve the page; return its address."""
        return self._server.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()

    def _snapshot(self) -> bytes:
        with self._lock:
            return self._read()

    def _read(self) -> bytes:
        folders = sorted(find_run_folders(self.folder), key=_newest_first)
        runs = [self._state(folder) for folder in folders[:_MOST_RUNS]]
        note = f"The newest {_MOST_RUNS} of {len(folders)} runs." if folders[_MOST_RUNS:] else ""
        return as_json(runs, ended=False, title=f"Runs in {self.folder}", note=note)

    def _state(self, folder: Path) -> RunState:
        """The state of a run, read again only if its files have changed."""
        changed = tuple(map(_time, (folder / name for name in _READ)))
        known = self._known.get(folder)
        if known is None or known.changed != changed:
            key = known.state.key if known else str(next(self._numbers))
            known = self._known[folder] = _Known(changed, read_state(folder, key))
            if known.state.report:
                known.state.report_url = url = f"/report-{key}.html"
                self._server.answers[url] = _report_answer(folder / PAGE)
        if known.state.status in ("training", "stopped"):
            _update_estimate(folder, known.state)
        return known.state


_READ = (EXPERIMENT, METRICS, RECORD, TIMES, PAGE)


@dataclass(slots=True)
class _Known:
    changed: tuple[float, ...]
    """When each of _READ was."""
    state: RunState


def read_state(folder: Path, key: str) -> RunState:
    """What the files of a run tell, without weights and images."""
    state = RunState(name=f"{folder.parent.name}/{folder.name}", key=key)
    try:
        record = read_record(folder) if (folder / RECORD).exists() else None
        experiment = record.experiment if record else read_experiment(folder / EXPERIMENT)
        epochs = record.epochs if record else read_epochs(folder / METRICS)
        times = read_times(folder)
    except SmidgenError as error:
        state.status, state.result = "damaged", str(error)
        return state
    taken = times.epoch_seconds if times else ()
    state.name = f"{experiment.name}, {folder.resolve().name}"
    state.target = experiment.budget.min_accuracy
    state.num_epochs = experiment.train.epochs
    state.epochs = [
        epoch_state(epoch, taken[n] if n < len(taken) else None) for n, epoch in enumerate(epochs)
    ]
    state.status = "training"
    if record is not None:
        state.finish(record)
        if (folder / PAGE).is_file():
            state.report = str((folder / PAGE).resolve())
    return state


def _update_estimate(folder: Path, state: RunState) -> None:
    """Tell a run that trains from one that has stopped; estimate the rest at its mean pace."""
    place = folder.resolve()
    running = place.with_name(f".{place.name}.lock").exists()
    state.status = "training" if running else "stopped"
    began, last = _time(folder / EXPERIMENT), _time(folder / METRICS)
    state.seconds_left = None
    if running and state.epochs and state.num_epochs and last > began:
        left = (state.num_epochs - len(state.epochs)) * (last - began) / len(state.epochs)
        state.seconds_left = max(0.0, left - (time.time() - last))


def _report_answer(path: Path) -> Answer:
    return Answer("text/html; charset=utf-8", path.read_bytes, _REPORT_POLICY)


def _newest_first(folder: Path) -> tuple[float, Path]:
    return -_time(folder / METRICS), folder


def _time(path: Path) -> float:
    """When the file was last changed; 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
