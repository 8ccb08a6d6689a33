"""Arguments that several commands share."""

import argparse
from typing import Any

from smidgen._storage.schema import own_fields
from smidgen.cli.flags import with_flags
from smidgen.config import Experiment, find_experiment
from smidgen.runs.options import RunOptions


def add_target(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add the experiment, a positional argument."""
    parser.add_argument(
        "experiment",
        nargs=nargs,
        metavar="EXPERIMENT",
        help="a TOML file, or the name of a built-in experiment, such as gap-6k",
    )


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add a flag for each of these fields of RunOptions; for all of them if none is named."""
    numbers = {"seed": int, "threads": int, "checkpoint_seconds": float}
    for field in own_fields(RunOptions):
        if names and field.name not in names:
            continue
        text = field.summary.replace("%", "%%")
        if field.kind is bool:
            parser.add_argument(field.key, action="store_true", help=text)
        else:
            parser.add_argument(
                field.key,
                type=numbers.get(field.name, str),
                metavar="N" if field.name in numbers else field.name.upper(),
                help=f"{text} {field.default_text}",
            )


def given_options(given: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The values of those flags that were given, by name; the library has the other defaults."""
    return {name: getattr(given, name) for name in names if getattr(given, name) is not None}


def chosen_experiment(given: argparse.Namespace) -> Experiment:
    """The experiment that was named, with the fields that were given as flags."""
    return with_flags(find_experiment(given.experiment), given)
