"""The commands that evaluate a network: `summary` without training, `check`, `predict`."""

import argparse
import json
from pathlib import Path
from typing import Any

from smidgen.cli.arguments import (
    add_options,
    add_target,
    chosen_experiment,
    given_options,
)
from smidgen.cli.flags import add_experiment_flags


def add_summary(commands: Any) -> None:
    """Register `summary`."""
    parser = commands.add_parser(
        "summary",
        help="show layers, parameters, MACs, receptive fields and memory, without training",
    )
    parser.set_defaults(command=_summary)
    add_target(parser)
    add_experiment_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_check(commands: Any) -> None:
    """Register `check`."""
    parser = commands.add_parser(
        "check", help="evaluate a run's weights again and compare the result with its record"
    )
    parser.set_defaults(command=_check)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    add_options(parser, "data_dir", "skip_bad", "device")
    parser.add_argument(
        "--repeat",
        action="store_true",
        help="also train again; weights and metrics must be the same, byte for byte",
    )


def add_predict(commands: Any) -> None:
    """Register `predict`."""
    parser = commands.add_parser("predict", help="classify images with a run's network")
    parser.set_defaults(command=_predict)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="image files of any size"
    )


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

    result = check(
        given.run,
        data_dir=given.data_dir,
        skip_bad=given.skip_bad,
        repeat=given.repeat,
        **given_options(given, "device"),
    )
    print(result)
    return 0 if result.passed else 1


def _predict(given: argparse.Namespace) -> int:
    from smidgen.formatting import percent
    from smidgen.runs.predict import predict

    for prediction in predict(given.run, given.images):
        likely = ", ".join(f"{name} {percent(share)}" for name, share in prediction.classes[:3])
        print(f"{prediction.path}: {likely}")
    return 0
