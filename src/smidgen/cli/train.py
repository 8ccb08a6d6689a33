"""The commands that train: train and quickstart."""

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen._storage.progress import status
from smidgen.cli.arguments import (
    add_options,
    add_target,
    chosen_experiment,
    given_options,
)
from smidgen.cli.flags import add_experiment_flags
from smidgen.config import Experiment, find_experiment
from smidgen.errors import ConfigError, install_extra

if TYPE_CHECKING:
    from smidgen.callbacks import Callback
    from smidgen.data import Dataset
    from smidgen.runs.options import RunOptions
    from smidgen.runs.result import RunResult

QUICKSTART_TIMEOUT = 4.0  # seconds for each of two mirrors: without a network, 8 in all


# What may change when a run is resumed.
_MAY_CHANGE = (
    *("command", "resume", "data_dir", "device", "threads", "checkpoint_seconds"),
    *("quiet", "open", "live", "track"),
)


def add(commands: Any) -> None:
    """Register `quickstart` and `train`."""
    quickstart = commands.add_parser(
        "quickstart",
        help="train the default network on MNIST, or on the embedded digits",
        description="Train the default network on MNIST if it is on disk or can be downloaded, "
        "otherwise on the 1,797 embedded digits. An interrupted quickstart is resumed.",
    )
    quickstart.set_defaults(command=_quickstart)
    _add_run_flags(quickstart)

    train = commands.add_parser("train", help="train a network and compare it with its budget")
    train.set_defaults(command=_train)
    add_target(train, nargs="?")
    train.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume the interrupted run in this folder, with the same result as without the "
        "interruption; device, threads and data folder are as before unless given",
    )
    _add_run_flags(train)
    add_experiment_flags(train)


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--quiet", action="store_true", help="print the verdict only")
    parser.add_argument("--open", action="store_true", help="show the report in the browser")
    parser.add_argument(
        "--live", action="store_true", help="also show the curves in a browser on this machine"
    )
    parser.add_argument(
        "--track",
        action="append",
        choices=["tensorboard", "trackio"],
        default=[],
        help="also log to TensorBoard (in the run's folder) or trackio (in its local database); "
        f"can be given twice; to install them: {install_extra('track')}",
    )


def _quickstart(given: argparse.Namespace) -> int:
    with status("loading torch"):
        from smidgen.data import load
        from smidgen.errors import UnavailableError
        from smidgen.runs.run import find_interrupted

    experiment = find_experiment("quickstart")
    try:
        with status("loading mnist"):
            dataset = load(experiment.data, data_dir=given.data_dir, timeout=QUICKSTART_TIMEOUT)
        print(f"data: MNIST, {dataset.source}", flush=True)
    except UnavailableError as error:
        experiment = find_experiment("quickstart-digits")
        dataset = load(experiment.data)
        print(
            "data: NOT MNIST but the embedded digits, 1,797 real ones enlarged to 28x28",
            flush=True,
        )
        print(f"smidgen: MNIST is not available: {error}", file=sys.stderr)
    interrupted = find_interrupted(experiment, _options(given))
    if interrupted:
        return _resume(interrupted, given, dataset)
    return _run(experiment, given, dataset)


def _train(given: argparse.Namespace) -> int:
    if given.resume is None:
        if given.experiment is None:
            raise ConfigError(
                "train needs an experiment or a network, or --resume and a run's folder."
            )
        return _run(chosen_experiment(given), given)
    fixed = [name for name, value in vars(given).items() if value and name not in _MAY_CHANGE]
    if fixed:
        raise ConfigError(
            f"--resume continues a run as it began, so {fixed[0].replace('_', '-')} cannot be "
            "given with it; to start a new run, leave out --resume."
        )
    return _resume(given.resume, given)


def _run(
    experiment: Experiment, given: argparse.Namespace, dataset: "Dataset | None" = None
) -> int:
    options = _options(given)
    with _callbacks(given, f"seed {options.seed}") as callbacks:
        from smidgen.runs.train import train_experiment

        result = train_experiment(experiment, options, callbacks, dataset)
    return _print_result(result, given)


def _resume(folder: Path, given: argparse.Namespace, dataset: "Dataset | None" = None) -> int:
    with _callbacks(given, folder.name) as callbacks:
        from smidgen.runs.train import resume

        changed = given_options(given, "data_dir", "device", "threads", "checkpoint_seconds")
        result = resume(folder, callbacks, data=dataset, **changed)
    return _print_result(result, given)


def _options(given: argparse.Namespace) -> "RunOptions":
    from smidgen.runs.options import RunOptions

    names = ("seed", "out", "data_dir", "device", "threads", "backend", "checkpoint_seconds")
    return RunOptions(skip_bad=given.skip_bad, **given_options(given, *names))


@contextmanager
def _callbacks(given: argparse.Namespace, run_name: str) -> "Iterator[list[Callback]]":
    """What --quiet, --live and --track ask for; the live page is served while this lasts.

    A terminal shows that torch is being loaded, which the body does next.

    Raises:
        ConfigError: a tracker's package is not installed.
    """
    from smidgen.cli.display import Display

    with ExitStack() as stack:
        callbacks: list[Callback] = []
        if given.track:
            from smidgen.training.tracking import make_trackers

            callbacks = make_trackers(given.track)
        if given.live:
            from smidgen.report.live import LivePage

            page = LivePage(run_name)
            stack.callback(page.close)
            print(f"live: {page.start()}", flush=True)
            callbacks.append(page)
        display = Display(quiet=given.quiet)
        stack.callback(display.close)
        display.on_status("loading torch")
        yield [*callbacks, display]


def _print_result(result: "RunResult", given: argparse.Namespace) -> int:
    """Print the result of a run, and show its report if asked to; return the exit status."""
    from smidgen.cli.console import open_page, print_result
    from smidgen.record import PAGE

    print_result(str(result))
    if result.folder is not None:
        print(f"report: {result.folder / PAGE}")
        if given.command is _quickstart:
            print(f"to draw digits for the network: smidgen demo {shlex.quote(str(result.folder))}")
        if given.open:
            open_page(result.folder / PAGE)
    return 0 if result.verdict.passed else 1
