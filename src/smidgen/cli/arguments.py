"""What several commands take, and how it is read."""

import argparse
from pathlib import Path
from typing import Any

from smidgen.cli.flags import with_flags
from smidgen.config import Experiment


def add_target(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """The experiment, by name or file."""
    parser.add_argument(
        "experiment",
        nargs=nargs,
        metavar="NET|TOML",
        help="an experiment file, or the name of one that comes with smidgen",
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Where the data are."""
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="the folder that holds the data set's files"
    )


def add_skip_bad(parser: argparse.ArgumentParser) -> None:
    """What becomes of pictures that cannot be read."""
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out pictures that cannot be read"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """What computes."""
    parser.add_argument("--device", help="auto (the default), cuda, mps or cpu")


def what_is_given(given: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the flags that were given, by name; the library knows the others' defaults."""
    return {name: getattr(given, name) for name in names if getattr(given, name) is not None}


def chosen_experiment(given: argparse.Namespace) -> Experiment:
    """The experiment that is named, with the flags laid over it."""
    from smidgen.config.builtin import find_experiment

    return with_flags(find_experiment(given.experiment), given)
