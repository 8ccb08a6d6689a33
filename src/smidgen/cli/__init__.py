"""The command line: arguments in, one library call, print.

Exit status: 0 done; 1 a budget was missed or a check failed; 2 the person can mend it, as one line
says; 70 a bug, with its traceback; 130 interrupted. What needs torch is imported inside the command
that needs it.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen import __version__
from smidgen.cli import data, pages, report
from smidgen.cli.flags import Parser, add_experiment_flags, normalized, with_flags
from smidgen.config import Experiment
from smidgen.errors import SmidgenError
from smidgen.startup import settle_threads

if TYPE_CHECKING:
    from smidgen.data import Dataset

QUICKSTART_PATIENCE = 4.0  # seconds for each of two mirrors: a network that is not there costs 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    settle_threads()
    try:
        given = _parser().parse_args(normalized(sys.argv[1:] if arguments is None else arguments))
        status: int = given.command(given)
        sys.stdout.flush()
        return status
    except SmidgenError as error:
        print(f"smidgen: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("smidgen: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has left, as in `smidgen ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:  # 1, Python's own status for it, says that a budget was missed
        traceback.print_exc()
        return 70


def _parser() -> Parser:
    parser = Parser(
        prog="smidgen",
        description="Train image classifiers that must stay small, and prove that they are.",
        epilog="Exit status: 0 done, 1 a budget was missed, 2 you can mend it, 70 a bug, "
        "130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"smidgen {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    quickstart = commands.add_parser(
        "quickstart",
        help="train the default network on MNIST, or on the embedded digits",
        description="Train the default network on MNIST if it is at hand or can be downloaded, "
        "otherwise on the 1,797 digits that come with smidgen.",
    )
    quickstart.set_defaults(command=_quickstart)
    _add_where(quickstart)

    summary = commands.add_parser(
        "summary",
        help="show layers, parameters, MACs, receptive fields and memory before any training",
    )
    summary.set_defaults(command=_summary)
    _add_target(summary)
    summary.add_argument("--json", action="store_true", help="the same as data")

    train = commands.add_parser("train", help="train a network inside its budget, and judge it")
    train.set_defaults(command=_train)
    _add_target(train)
    _add_where(train)
    for command in (summary, train):
        add_experiment_flags(command)

    check = commands.add_parser(
        "check", help="repeat a run's verdict from its weights, and hold both against its record"
    )
    check.set_defaults(command=_check)
    check.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    _add_data_dir(check)
    _add_skip_bad(check)
    _add_device(check)

    report.add(commands)
    pages.add(commands)
    data.add(commands)

    predict = commands.add_parser("predict", help="classify pictures with a run's network")
    predict.set_defaults(command=_predict)
    predict.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    predict.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="PNG or JPEG, of any size"
    )
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "experiment",
        metavar="NET|TOML",
        help="an experiment file, or the name of one that comes with smidgen",
    )


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="the folder that holds the data set's files"
    )


def _add_skip_bad(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out pictures that cannot be read"
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (the default), cuda, mps or cpu")


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="the folder of all runs (default: runs); no run goes over another",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)"
    )
    _add_skip_bad(parser)
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
    _add_data_dir(parser)
    _add_device(parser)


def _quickstart(given: argparse.Namespace) -> int:
    from smidgen.data import load
    from smidgen.errors import UnavailableError
    from smidgen.experiments import find_experiment

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
    return _run(experiment, given, dataset)


def _summary(given: argparse.Namespace) -> int:
    from smidgen.report import summary, verdict_text
    from smidgen.run import prepare
    from smidgen.schema import to_plain

    experiment = _experiment(given)
    _, found = prepare(experiment)
    verdict = experiment.budget.check(found, epochs=experiment.train.epochs)
    if given.json:
        print(json.dumps({"profile": to_plain(found), "verdict": to_plain(verdict)}, indent=1))
    else:
        print(summary(found), verdict_text(verdict), sep="\n\n")
    return 0 if verdict.passed else 1


def _train(given: argparse.Namespace) -> int:
    return _run(_experiment(given), given)


def _run(
    experiment: Experiment, given: argparse.Namespace, dataset: "Dataset | None" = None
) -> int:
    from smidgen.cli.watch import watching
    from smidgen.report import result_text, verdict_text
    from smidgen.run import Where, run

    where = Where(
        seed=given.seed,
        out=given.out,
        data_dir=given.data_dir,
        device=given.device,
        threads=given.threads,
        skip_bad=given.skip_bad,
    )
    with watching(experiment, given) as watch:
        outcome = run(experiment, where, watch.listener, dataset)
        watch.result = verdict_text(outcome.verdict)
    if outcome.record is None:
        print("stopped before training: the budget cannot be kept")
    else:
        print(result_text(outcome.record))
    print(verdict_text(outcome.verdict))
    if outcome.folder is not None:
        print(f"report: {outcome.folder / 'report.html'}")
    return 0 if outcome.verdict.passed else 1


def _check(given: argparse.Namespace) -> int:
    from smidgen.checking import check
    from smidgen.report import verdict_text

    found = check(given.run, data_dir=given.data_dir, device=given.device, skip_bad=given.skip_bad)
    print(verdict_text(found.verdict))
    for difference in found.differences:
        print(f"  differs from the record: {difference}")
    if not found.differences:
        print("record: what was counted and scored again equals it")
    return 0 if found.passed else 1


def _predict(given: argparse.Namespace) -> int:
    from smidgen.predicting import predict
    from smidgen.report import percent

    for found in predict(given.run, given.images):
        likely = ", ".join(f"{name} {percent(share)}" for name, share in found.classes[:3])
        print(f"{found.path}: {likely}")
    return 0


def _experiment(given: argparse.Namespace) -> Experiment:
    from smidgen.experiments import find_experiment

    return with_flags(find_experiment(given.experiment), given)
