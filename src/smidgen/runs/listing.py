"""The runs in a folder, as a table. Needs no torch."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from smidgen.config import read_experiment
from smidgen.errors import ConfigError, SmidgenError, did_you_mean
from smidgen.record import (
    EXPERIMENT,
    METRICS,
    find_run_folders,
    read_record,
    read_times,
    run_status,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedRun:
    """A run as a list shows it; None where the run has no such value."""

    folder: str
    """The run's folder."""
    experiment: str
    """The experiment's name; empty if it cannot be read."""
    started: str
    """UTC, ISO 8601."""
    data: str | None = None
    """The data set's name."""
    num_params: int | None = None
    epochs: int | None = None
    """As many as were completed."""
    accuracy: float | None = None
    """On the test set, after the last epoch."""
    passed: bool | None = None
    """Whether every limit of its budget passed; None if it has no limits or did not finish."""
    problem: str = ""
    """Why it is not a finished run: running, interrupted, failed or unreadable."""

    @property
    def result(self) -> str:
        """The verdict in a word, or what the run is instead of finished."""
        if self.problem:
            return self.problem
        return {None: "no limits", True: "pass", False: "FAIL"}[self.passed]


def list_runs(
    folder: str | os.PathLike[str] = "runs", experiment: str | None = None
) -> list[ListedRun]:
    """List the runs anywhere below `folder`, finished or not, the newest first.

    A run that cannot be read is listed as such. `experiment` selects the runs of the experiment of
    that name.

    Raises:
        ConfigError: `folder` is not a folder, or no run in it is of `experiment`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; name the one that holds the runs.")
    runs = [_listed(found) for found in find_run_folders(folder)]
    chosen = [run for run in runs if experiment in (None, run.experiment)]
    if runs and not chosen:
        assert experiment is not None
        names = sorted({run.experiment for run in runs})
        raise ConfigError(
            f"{folder} has no run of {experiment}; it has runs of {', '.join(names)}."
            + did_you_mean(experiment, names)
        )
    return sorted(chosen, key=lambda run: run.started, reverse=True)


def _listed(folder: Path) -> ListedRun:
    """What the folder's files say, whatever is wrong with them."""
    changed = datetime.fromtimestamp((folder / EXPERIMENT).stat().st_mtime, UTC)
    started, name = changed.isoformat(timespec="seconds"), ""
    try:
        experiment = read_experiment(folder / EXPERIMENT)
        name = experiment.name
        if (status := run_status(folder)) != "finished":
            return ListedRun(
                folder=str(folder),
                experiment=name,
                started=started,
                data=experiment.data.name or experiment.data.path,
                epochs=(folder / METRICS).read_bytes().count(b"\n"),
                problem=status,
            )
        record, times = read_record(folder), read_times(folder)
    except (SmidgenError, OSError):
        return ListedRun(folder=str(folder), experiment=name, started=started, problem="unreadable")
    return ListedRun(
        folder=str(folder),
        experiment=record.experiment.name,
        started=times.started if times else started,
        data=record.data.name,
        num_params=record.profile.num_params,
        epochs=record.num_epochs,
        accuracy=record.test.score.accuracy,
        passed=record.verdict.passed if record.verdict.limits else None,
    )
