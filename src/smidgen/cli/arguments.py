"""Arguments that several commands share."""

import argparse
from pathlib import Path
from typing import Any

from smidgen.cli.flags import with_flags
from smidgen.config import Experiment, find_experiment


def add_target(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add the experiment, a positional argument."""
    parser.add_argument(
        "experiment",
        nargs=nargs,
        metavar="EXPERIMENT",
        help="a TOML file, or the name of a built-in experiment, such as gap-6k",
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add --data-dir."""
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="folder with the files of the data set"
    )


def add_skip_bad(parser: argparse.ArgumentParser) -> None:
    """Add --skip-bad."""
    parser.add_argument("--skip-bad", action="store_true", help="skip unreadable images")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument("--device", help="auto (default), cuda, mps or cpu")


def given_options(given: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The values of those flags that were given, by name; the library has the other defaults."""
    return {name: getattr(given, name) for name in names if getattr(given, name) is not None}


def chosen_experiment(given: argparse.Namespace) -> Experiment:
    """The experiment that was named, with the fields that were given as flags."""
    return with_flags(find_experiment(given.experiment), given)
