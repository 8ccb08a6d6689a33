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

from smidgen._storage.schema import all_fields
from smidgen._storage.serialization import from_plain, to_plain
from smidgen.config import Experiment
from smidgen.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError instead of exiting."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **settings, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        """Raise the message as a ConfigError."""
        raise ConfigError(f"{message}; see {self.prog} --help")


def add_experiment_flags(parser: argparse.ArgumentParser) -> None:
    """Give `parser` a flag for every field of an Experiment."""
    group = parser.add_argument_group("experiment fields, by their keys in the file")
    for path, field in all_fields(Experiment):
        if not field.flag:
            continue
        group.add_argument(
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
    networks = [name for name in ("net", "chain", "module") if hasattr(given, f"model.{name}")]
    if len(networks) > 1:
        both = " and ".join(f"--model.{name}" for name in networks)
        raise ConfigError(f"{both} are given; give one of them.")
    for (*tables, name), field in all_fields(Experiment):
        place = ".".join([*tables, name])
        if hasattr(given, place):
            table = plain
            for key in tables:
                table = table.setdefault(key, {})
            table[name] = _value(field.kind, getattr(given, place))
            if tables == ["model"] and name in networks:  # another network, with its own args
                plain["model"] = {name: table[name]}
            if place in ("data.name", "data.path"):  # one replaces the other
                table.pop("path" if name == "name" else "name", None)
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
