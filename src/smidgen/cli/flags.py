"""A flag for every field of an experiment, with the field's description as its help.

A flag has the name of the TOML key, `--train.optimizer.lr`, and its value is written as in TOML,
except that strings need no quotes. The flags given replace fields of an experiment, which is then
checked like one from a file.
"""

import argparse
import re
import tomllib
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, NoReturn

from smidgen._storage.progress import status
from smidgen._storage.schema import all_fields
from smidgen._storage.serialization import from_plain, to_plain
from smidgen.config import Experiment
from smidgen.errors import ConfigError, did_you_mean

SHORT_FLAGS = {
    "experiment.name": "--name",
    "budget.max_params": "--max-params",
    "budget.max_epochs": "--max-epochs",
    "budget.min_accuracy": "--min-accuracy",
    "train.epochs": "--epochs",
    "train.batch_size": "--batch-size",
    "train.optimizer.lr": "--lr",
}
"""Second flags of the fields that are given most often."""
NETWORK_FLAGS = ("model.net", "model.chain", "model.module")
DATA_FLAGS = ("data", "data.name", "data.path")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError instead of exiting, with the closest match."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **settings, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments of this command; it knows its flags, the whole program does not."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raise the message as a ConfigError."""
        hint = ""
        if match := re.match(r".*invalid choice: '(.*)' \(choose from (.*)\)", message):
            hint = did_you_mean(match[1], re.findall(r"[\w.-]+", match[2]))
        elif match := re.match(r"unrecognized arguments: --([^ =]+)", message):
            known = [flag.lstrip("-") for flag in self._option_string_actions]
            hint = did_you_mean(match[1], known).replace("mean ", "mean --")
        ending = f".{hint} See" if hint else "; see"
        raise ConfigError(f"{message}{ending} {self.prog} --help")


def add_experiment_flags(parser: argparse.ArgumentParser) -> None:
    """Give `parser` a flag for every field of an Experiment, the common ones first."""
    parser.usage = f"{parser.prog} [options] EXPERIMENT|NETWORK"  # not a screen full of flags
    common = parser.add_argument_group("common experiment fields")
    others = parser.add_argument_group("other experiment fields, by their keys in the file")
    common.add_argument(
        "--data",
        metavar="NAME|PATH",
        default=argparse.SUPPRESS,
        help="Short for --data.name or --data.path.",
    )
    for path, field in all_fields(Experiment):
        if not field.flag:
            continue
        short = [SHORT_FLAGS[field.key]] if field.key in SHORT_FLAGS else []
        (common if short else others).add_argument(
            *short,
            f"--{field.key}",
            dest=".".join(path),
            metavar=_metavar(field.kind),
            default=argparse.SUPPRESS,
            help=field.summary.replace("%", "%%"),
        )


def with_flags(experiment: Experiment, given: argparse.Namespace) -> Experiment:
    """Return `experiment` with the fields that were given as flags.

    Raises:
        ConfigError: a value has the wrong type or is out of range.
    """
    plain = to_plain(experiment)
    for names in (NETWORK_FLAGS, DATA_FLAGS):
        if len(both := [f"--{name}" for name in names if hasattr(given, name)]) > 1:
            raise ConfigError(f"{' and '.join(both)} are given; give one of them.")
    if hasattr(given, "data"):
        with status("loading torch"):
            from smidgen.data import find_data

        for name, value in to_plain(find_data(given.data)).items():
            if name in ("name", "path"):
                setattr(given, f"data.{name}", value)
    for (*tables, name), field in all_fields(Experiment):
        place = ".".join([*tables, name])
        if hasattr(given, place):
            table = plain
            for key in tables:
                table = table.setdefault(key, {})
            table[name] = _value(field.kind, getattr(given, place))
            if place in NETWORK_FLAGS:  # another network, with its own args
                plain["model"] = {name: table[name]}
            elif place == "data.name":  # without what describes custom data
                for key in ("path", "size", "grayscale", "split"):
                    table.pop(key, None)
            elif place == "data.path":
                table.pop("name", None)
    try:
        return from_plain(Experiment, plain)
    except ValueError as error:
        raise ConfigError(f"--{error}") from None


def normalized(arguments: Sequence[str]) -> list[str]:
    """Replace `-` by `_` in dotted flags, so that both spellings work.

    >>> normalized(["--train.batch-size=64", "--data-dir", "a-b"])
    ['--train.batch_size=64', '--data-dir', 'a-b']
    """
    return [
        re.sub(r"^--[^=]*\.[^=]*", lambda flag: "--" + flag[0][2:].replace("-", "_"), argument)
        for argument in arguments
    ]


def _kinds(kind: Any) -> tuple[Any, ...]:
    """The members of a union except None; any other type alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(k for k in typing.get_args(kind) if k is not type(None))
    return (kind,)


def _metavar(kind: Any) -> str:
    (first, *_) = _kinds(kind)
    if typing.get_origin(first) is Literal:
        return "|".join(typing.get_args(first))
    if typing.get_origin(first) is dict:
        return "{KEY=VALUE}"
    return {int: "N", float: "X", bool: "true|false"}.get(first, "TEXT")


def _value(kind: Any, text: str) -> Any:
    """The value of a flag: the text itself for a string, otherwise a TOML value."""
    (first, *_) = _kinds(kind)
    if first is str or typing.get_origin(first) is Literal:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # reported as a wrong type when the experiment is checked
