"""Train and resume, as users call them: a run, then its report."""

import os
from collections.abc import Sequence
from pathlib import Path

from smidgen.callbacks import Callback
from smidgen.config import Experiment
from smidgen.config.builtin import find_experiment
from smidgen.data import Dataset
from smidgen.record import PAGE
from smidgen.report import read_run, write_report
from smidgen.runs.options import CHECKPOINT_SECONDS, RunOptions
from smidgen.runs.run import RunResult, run
from smidgen.runs.run import resume as resume_run


def train(
    experiment: str | os.PathLike[str] | Experiment,
    options: RunOptions | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    dataset: Dataset | None = None,
) -> RunResult:
    """Train an experiment once, score it on the test set and write its report.

    A network or number of epochs over the budget stops the run before training and leaves no
    folder. The last epoch counts; the test set is scored once, at the end, unless the experiment
    asks for more. An interrupted run continues with `resume`.

    Args:
        experiment: an Experiment, the path of its TOML file, or the name of one that comes with
            smidgen.
        options: seed, output folder, device and so on; the defaults if None.
        callbacks: called while the run goes on.
        dataset: used instead of the data set that the experiment names.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written first.
        SmidgenError: something the user can fix; what was finished stays in the folder.
    """
    if not isinstance(experiment, Experiment):
        experiment = find_experiment(os.fspath(experiment))
    result = run(experiment, options, callbacks, dataset)
    return _with_report(result)


def resume(
    run: str | os.PathLike[str],
    callbacks: Sequence[Callback] = (),
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str | None = None,
    threads: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> RunResult:
    """Continue the run in the folder `run` from its last checkpoint, as if it had never stopped.

    Weights, metrics and record are then those of an uninterrupted run, byte for byte. Data folder,
    device and threads are as before unless given; what cannot be exact, because build, device or
    number of threads differ, is noted in the record. A finished run is returned as it is.

    Raises:
        BusyError: another process is working on the run.
        CheckpointError: there is no checkpoint, or it is damaged.
        DataError: the data differ from those that the run started with.
        Interrupted, SmidgenError: as train.
    """
    result = resume_run(
        Path(run),
        callbacks,
        data_dir=None if data_dir is None else Path(data_dir),
        device=device,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
    )
    return _with_report(result)


def _with_report(result: RunResult) -> RunResult:
    """Write the report of a finished run unless it is there."""
    if result.folder is not None and not (result.folder / PAGE).exists():
        write_report(read_run(result.folder), result.folder)
    return result
