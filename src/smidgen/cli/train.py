"""The commands that train: train and quickstart."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.cli.arguments import (
    add_data_dir,
    add_device,
    add_skip_bad,
    add_target,
    chosen_experiment,
    what_is_given,
)
from smidgen.cli.flags import add_experiment_flags
from smidgen.config import Experiment, read_experiment
from smidgen.errors import ConfigError

if TYPE_CHECKING:
    from smidgen.cli.watch import Watch
    from smidgen.data import Dataset
    from smidgen.runs.run import Outcome, RunOptions

QUICKSTART_PATIENCE = 4.0  # seconds for each of two mirrors: a network that is not there costs 8


# What may be said anew when a run goes on.
_ANEW = (
    *("command", "resume", "data_dir", "device", "threads", "checkpoint_seconds"),
    *("quiet", "live", "track"),
)


def add(commands: Any) -> None:
    """Add both to the parser's commands."""
    quickstart = commands.add_parser(
        "quickstart",
        help="train the default network on MNIST, or on the embedded digits",
        description="Train the default network on MNIST if it is at hand or can be downloaded, "
        "otherwise on the 1,797 digits that come with smidgen. One that was stopped goes on.",
    )
    quickstart.set_defaults(command=_quickstart)
    _add_where(quickstart)

    train = commands.add_parser("train", help="train a network inside its budget, and judge it")
    train.set_defaults(command=_train)
    add_target(train, nargs="?")
    train.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with the run in this folder, which was stopped, as if it had never been; "
        "device, threads and data folder are as before unless they are given",
    )
    _add_where(train)
    add_experiment_flags(train)


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, metavar="N", help="default 0")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the folder of all runs (default: runs); no run goes over another",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads (default: one, or one for each core, whichever is faster)",
    )
    parser.add_argument(
        "--backend",
        help="how steps are computed: eager, channels-last or native (default: auto, the fastest, "
        "measured once for a network and then remembered)",
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        metavar="S",
        help="between two checkpoints within an epoch (default: 30); there is one after each "
        "epoch, and at most 2 %% of the time goes into them",
    )
    add_skip_bad(parser)
    parser.add_argument("--quiet", action="store_true", help="print the verdict only")
    parser.add_argument(
        "--live", action="store_true", help="show the curves in a browser on this machine, too"
    )
    parser.add_argument(
        "--track",
        action="append",
        choices=["tensorboard", "trackio"],
        default=[],
        help="write the curves for TensorBoard (into the run's folder) or trackio (into its local "
        "database), too; may be given twice; needs smidgen[track]",
    )
    add_data_dir(parser)
    add_device(parser)


def _quickstart(given: argparse.Namespace) -> int:
    from smidgen.config.builtin import find_experiment
    from smidgen.data import load
    from smidgen.errors import UnavailableError
    from smidgen.runs.run import find_stopped

    experiment = find_experiment("quickstart")
    try:
        dataset = load(experiment.data, folder=given.data_dir, patience=QUICKSTART_PATIENCE)
        print(f"data: MNIST, {dataset.source}", flush=True)
    except UnavailableError as error:
        experiment = find_experiment("quickstart-digits")
        dataset = load(experiment.data)
        print(
            "data: NOT MNIST but the embedded digits, 1,797 real ones enlarged to 28x28",
            flush=True,
        )
        print(f"smidgen: MNIST is not at hand: {error}", file=sys.stderr)
    stopped = find_stopped(experiment, _where(given))
    return _resume(stopped, given) if stopped else _run(experiment, given, dataset)


def _train(given: argparse.Namespace) -> int:
    if given.resume is None:
        if given.experiment is None:
            raise ConfigError("train needs an experiment, or --resume and a run's folder.")
        return _run(chosen_experiment(given), given)
    fixed = [name for name, value in vars(given).items() if value and name not in _ANEW]
    if fixed:
        raise ConfigError(
            f"--resume goes on with a run as it began, so {fixed[0].replace('_', '-')} cannot be "
            "given with it; without --resume, a run of its own begins."
        )
    return _resume(given.resume, given)


def _run(
    experiment: Experiment, given: argparse.Namespace, dataset: "Dataset | None" = None
) -> int:
    from smidgen.cli.watch import watching
    from smidgen.runs.run import run

    where = _where(given)
    with watching(experiment, f"seed {where.seed}", given) as watch:
        return _tell(run(experiment, where, watch.listener, dataset), watch)


def _resume(folder: Path, given: argparse.Namespace) -> int:
    from smidgen.cli.watch import watching
    from smidgen.record import EXPERIMENT
    from smidgen.runs.run import resume

    with watching(read_experiment(folder / EXPERIMENT), folder.name, given) as watch:
        there = what_is_given(given, "data_dir", "device", "threads", "checkpoint_seconds")
        return _tell(resume(folder, watch.listener, **there), watch)


def _where(given: argparse.Namespace) -> "RunOptions":
    from smidgen.runs.run import RunOptions

    names = ("seed", "out", "data_dir", "device", "threads", "backend", "checkpoint_seconds")
    return RunOptions(skip_bad=given.skip_bad, **what_is_given(given, *names))


def _tell(outcome: "Outcome", watch: "Watch") -> int:
    """Print what became of a run; the exit status."""
    from smidgen.record import PAGE, read_times
    from smidgen.report import result_sentence

    watch.result = str(outcome.verdict)
    if outcome.record is None or outcome.folder is None:
        print("stopped before training: the budget cannot be kept")
    else:
        print(result_sentence(outcome.record, read_times(outcome.folder)))
    print(outcome.verdict)
    if outcome.folder is not None:
        print(f"report: {outcome.folder / PAGE}")
    return 0 if outcome.verdict.passed else 1
