"""The live page of several runs: it follows the files in their folders."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from smidgen._storage.files import read_text
from smidgen.config import Experiment, read_experiment
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
from smidgen.report.grouping import distinct_names
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
            raise SmidgenError(f"there is no folder {folder}; name the one that holds the runs.")
        self.folder = folder
        self._known: dict[Path, _Run] = {}
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
        shown = [self._follow(folder) for folder in folders[:_MOST_RUNS]]
        _name(shown)
        note = f"The newest {_MOST_RUNS} of {len(folders)} runs." if folders[_MOST_RUNS:] else ""
        states = [run.state for run in shown]
        return as_json(states, ended=False, title=f"Runs in {self.folder}", note=note)

    def _follow(self, folder: Path) -> "_Run":
        """A run, read again only if its files have changed."""
        status = run_status(folder)
        changed = status, tuple(_time(folder / name) for name in _READ)
        known = self._known.get(folder)
        if known is not None and known.changed == changed:
            return known
        run = self._known[folder] = _Run(folder, changed, *_read_run(folder, status))
        state = run.state
        state.key = known.state.key if known else str(next(self._numbers))
        if known is not None and not state.steps:  # a run that has ended keeps its curves
            state.steps = known.state.steps
        if state.report:
            state.report_url = f"/report-{state.key}.html"
            self._server.answers[state.report_url] = _report_answer(folder / PAGE)
        return run


_READ = (EXPERIMENT, METRICS, PROGRESS, RECORD, TIMES, PAGE)


@dataclass(slots=True)
class _Run:
    folder: Path
    changed: tuple[str, tuple[float, ...]]
    """The run's status, and when each of _READ was changed."""
    state: RunState
    experiment: Experiment | None
    """None if it cannot be read."""


def _name(runs: Sequence[_Run]) -> None:
    """Name runs by experiment and folder, and the fields that tell equally named ones apart."""
    known = [run.experiment.without_texts() for run in runs if run.experiment]
    experiments = [found for n, found in enumerate(known) if found not in known[:n]]
    names = distinct_names(experiments, [None] * len(experiments))
    for run in runs:
        if run.experiment:
            name = names[experiments.index(run.experiment.without_texts())]
            run.state.name = f"{name}, {run.folder.resolve().name}"


def _read_run(folder: Path, status: str) -> tuple[RunState, Experiment | None]:
    """What the files of a run tell, without weights and images."""
    try:
        record = read_record(folder) if status == "finished" else None
        experiment = record.experiment if record else read_experiment(folder / EXPERIMENT)
        epochs = record.epochs if record else read_epochs(folder / METRICS)
        times = read_times(folder)
        failure = read_text(folder / FAILURE).strip() if status == "failed" else ""
    except SmidgenError as error:
        name = f"{folder.parent.name}/{folder.name}"
        return RunState(name=name, status="unreadable", result=str(error)), None
    log = read_progress(folder) if status == "running" else LoggedProgress()
    seconds = log.epoch_seconds | dict(enumerate(times.epoch_seconds if times else (), 1))
    state = RunState.of(experiment)
    state.status, state.result, state.num_params = status, failure, log.num_params
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
    return state, experiment


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
