"""The command line: arguments in, one library call, print.

Exit status: 0 done; 1 a budget was missed or a check failed; 2 the person can mend it, as one line
says; 70 a bug, with its traceback; 130 interrupted; 143 terminated. What needs torch is imported
inside the command that needs it.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from smidgen._version import __version__
from smidgen.cli import bench, data, project, report, train
from smidgen.cli.arguments import (
    add_data_dir,
    add_device,
    add_skip_bad,
    add_target,
    chosen_experiment,
    what_is_given,
)
from smidgen.cli.flags import Parser, add_experiment_flags, normalized
from smidgen.errors import Interrupted, SmidgenError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    with contextlib.suppress(ValueError):  # not in the main thread, which alone gets signals
        signal.signal(signal.SIGTERM, _terminate)
    try:
        given = _parser().parse_args(normalized(sys.argv[1:] if arguments is None else arguments))
        status: int = given.command(given)
        sys.stdout.flush()
        return status
    except SmidgenError as error:
        print(f"smidgen: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        return _interrupted(stop)
    except BrokenPipeError:  # whoever read our output has left, as in `smidgen ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:  # 1, Python's own status for it, says that a budget was missed
        traceback.print_exc()
        return 70


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _interrupted(stop: KeyboardInterrupt) -> int:
    """Say what was stopped and how it goes on; the exit status."""
    number, folder = signal.SIGINT, None
    if isinstance(stop, Interrupted):
        number, folder = signal.Signals(stop.signal), stop.folder
    word = "terminated" if number == signal.SIGTERM else "interrupted"
    way = f"; to go on: smidgen train --resume {shlex.quote(str(folder))}" if folder else ""
    print(f"smidgen: {word}{way}", file=sys.stderr)
    return 128 + number


def _parser() -> Parser:
    parser = Parser(
        prog="smidgen",
        description="Train image classifiers that must stay small, and prove that they are.",
        epilog="Exit status: 0 done, 1 a budget was missed, 2 you can mend it, 70 a bug, "
        "130 interrupted, 143 terminated.",
    )
    parser.add_argument("--version", action="version", version=f"smidgen {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    summary = commands.add_parser(
        "summary",
        help="show layers, parameters, MACs, receptive fields and memory before any training",
    )
    summary.set_defaults(command=_summary)
    add_target(summary)
    add_experiment_flags(summary)
    summary.add_argument("--json", action="store_true", help="the same as data")

    train.add(commands)
    bench.add(commands)

    check = commands.add_parser(
        "check", help="repeat a run's verdict from its weights, and hold both against its record"
    )
    check.set_defaults(command=_check)
    check.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    add_data_dir(check)
    add_skip_bad(check)
    add_device(check)
    check.add_argument(
        "--repeat",
        action="store_true",
        help="train it again, too: the same weights and metrics must come out",
    )

    report.add(commands)
    project.add(commands)
    data.add(commands)

    predict = commands.add_parser("predict", help="classify pictures with a run's network")
    predict.set_defaults(command=_predict)
    predict.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    predict.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="PNG or JPEG, of any size"
    )
    return parser


def _summary(given: argparse.Namespace) -> int:
    from smidgen._storage.serialization import to_plain
    from smidgen.data import open_dataset
    from smidgen.runs.prepare import prepare_network

    experiment = chosen_experiment(given)
    _, profile = prepare_network(experiment, open_dataset(experiment.data).info)
    verdict = experiment.budget.check(profile, epochs=experiment.train.epochs)
    if given.json:
        print(json.dumps({"profile": to_plain(profile), "verdict": to_plain(verdict)}, indent=1))
    else:
        print(profile, verdict, sep="\n\n")
    return 0 if verdict.passed else 1


def _check(given: argparse.Namespace) -> int:
    from smidgen.runs.check import check

    found = check(
        given.run,
        data_dir=given.data_dir,
        skip_bad=given.skip_bad,
        repeat=given.repeat,
        **what_is_given(given, "device"),
    )
    print(found)
    return 0 if found.passed else 1


def _predict(given: argparse.Namespace) -> int:
    from smidgen.formatting import percent
    from smidgen.runs.predict import predict

    for found in predict(given.run, given.images):
        likely = ", ".join(f"{name} {percent(share)}" for name, share in found.classes[:3])
        print(f"{found.path}: {likely}")
    return 0
