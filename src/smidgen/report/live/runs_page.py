"""The live page of several runs: it follows the files in their folders."""

import threading
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from smidgen._storage.files import read_text
from smidgen.config import read_experiment
from smidgen.errors import SmidgenError
from smidgen.record import (
    EXPERIMENT,
    FAILURE,
    METRICS,
    PAGE,
    PROGRESS,
    RECORD,
    TIMES,
    find_run_folders,
    read_record,
    read_times,
    run_status,
)
from smidgen.report.live.server import Answer, LoopbackServer
from smidgen.report.live.state import RunState, as_json, page_answers
from smidgen.report.progress_log import LoggedProgress, read_progress
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
        changed = run_status(folder), tuple(_time(folder / name) for name in _READ)
        known = self._known.get(folder)
        if known is None or known.changed != changed:
            key = known.state.key if known else str(next(self._numbers))
            known = self._known[folder] = _Known(changed, read_state(folder, key))
            if known.state.report:
                known.state.report_url = url = f"/report-{key}.html"
                self._server.answers[url] = _report_answer(folder / PAGE)
        return known.state


_READ = (EXPERIMENT, METRICS, PROGRESS, RECORD, TIMES, PAGE)


@dataclass(slots=True)
class _Known:
    changed: tuple[str, tuple[float, ...]]
    """The run's status, and when each of _READ was changed."""
    state: RunState


def read_state(folder: Path, key: str) -> RunState:
    """What the files of a run tell, without weights and images."""
    try:
        status = run_status(folder)
        record = read_record(folder) if status == "finished" else None
        experiment = record.experiment if record else read_experiment(folder / EXPERIMENT)
        epochs = record.epochs if record else read_epochs(folder / METRICS)
        times = read_times(folder)
        failure = read_text(folder / FAILURE).strip() if status == "failed" else ""
    except SmidgenError as error:
        name = f"{folder.parent.name}/{folder.name}"
        return RunState(name=name, key=key, status="unreadable", result=str(error))
    log = read_progress(folder) if status == "running" else LoggedProgress()
    seconds = log.epoch_seconds | dict(enumerate(times.epoch_seconds if times else (), 1))
    state = RunState.of(experiment, name=folder.resolve().name, key=key)
    state.status, state.result = status, failure
    for epoch in epochs:
        state.end_epoch(epoch, seconds.get(epoch.epoch))
    for progress in log.steps:
        state.advance(progress)
    if status != "running":
        state.seconds_left = None
    if record is not None:
        state.finish(record)
        if (folder / PAGE).is_file():
            state.report = str((folder / PAGE).resolve())
    return state


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
