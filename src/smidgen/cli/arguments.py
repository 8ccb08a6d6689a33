"""Arguments that several commands share."""

import argparse
from pathlib import Path
from typing import Any

from smidgen._storage.schema import own_fields
from smidgen.cli.flags import DATA_FLAGS, with_flags
from smidgen.config import Data, Experiment, find_experiment, find_model, known_experiments
from smidgen.errors import ConfigError
from smidgen.runs.options import RunOptions


def add_target(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add the experiment or network, a positional argument."""
    parser.add_argument(
        "experiment",
        nargs=nargs,
        metavar="EXPERIMENT|NETWORK",
        help="a TOML file or the name of a built-in experiment, such as gap-6k; or a network: "
        'FILE.py:NAME, PACKAGE.MODULE:NAME or a chain in quotes, such as "8 8 M 14 G"',
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
                help=text if field.default is None else f"{text} {field.default_text}",
            )


def given_options(given: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The values of those flags that were given, by name; the library has the other defaults."""
    return {name: getattr(given, name) for name in names if getattr(given, name) is not None}


def chosen_experiment(given: argparse.Namespace, data: str | None = None) -> Experiment:
    """The experiment or network that was named, with the fields that were given as flags.

    A network becomes an experiment with its own name and defaults for the rest; `data` is its data
    set unless a flag names one.

    Raises:
        ConfigError: neither an experiment nor a network; a network without data.
    """
    text = given.experiment
    is_experiment = text.endswith(".toml") or text in known_experiments()
    model = None if is_experiment else find_model(text)
    if model is None:
        if text.endswith(".py"):
            raise ConfigError(f"{text} is a file of code; name the network in it: {text}:NAME.")
        return with_flags(find_experiment(text), given)
    if data is None and not any(hasattr(given, name) for name in DATA_FLAGS):
        raise ConfigError(f"a network needs data to train on: {text} --data NAME|PATH.")
    experiment = Experiment(name=model.label, model=model, data=Data(name=data or "mnist"))
    return with_flags(experiment.with_files_in(Path()), given)
