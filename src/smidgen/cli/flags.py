"""A flag for every field of an experiment, with the field's docstring as its help.

A flag is named as the TOML key is, `--train.optimizer.lr`, and its value is written as in TOML,
where a text needs no quotes. What is given is laid over an experiment and read again as a whole, so
that flags and files obey one set of rules.
"""

import argparse
import ast
import dataclasses
import functools
import inspect
import itertools
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NoReturn

from smidgen._storage.serialization import from_plain, to_plain
from smidgen.config import Experiment
from smidgen.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError where others end the program."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **settings, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        """Raise the message as a ConfigError."""
        raise ConfigError(f"{message}; see {self.prog} --help")


@dataclasses.dataclass(frozen=True, slots=True)
class _Leaf:
    """One field that is no dataclass itself: its dotted place, type and docstring."""

    place: str
    kind: Any
    doc: str


# What stands at the top of an Experiment has a table in the file.
_IN_FILE = {"name": "experiment.name", "target": "experiment.target", "analysis": "analysis.text"}


def add_experiment_flags(parser: argparse.ArgumentParser) -> None:
    """Give `parser` a flag for every field of an Experiment."""
    group = parser.add_argument_group("any field of the experiment, by its name in the file")
    for leaf in _leaves(Experiment):
        group.add_argument(
            f"--{_IN_FILE.get(leaf.place, leaf.place)}",
            dest=leaf.place,
            metavar=_metavar(leaf.kind),
            default=argparse.SUPPRESS,
            help=leaf.doc.replace("%", "%%"),
        )


def with_flags(experiment: Experiment, given: argparse.Namespace) -> Experiment:
    """`experiment` with the fields that were given as flags.

    Raises:
        ConfigError: a value of the wrong type, or one that makes no sense.
    """
    plain = to_plain(experiment)
    networks = [name for name in ("net", "chain", "module") if hasattr(given, f"model.{name}")]
    if len(networks) > 1:
        both = " and ".join(f"--model.{name}" for name in networks)
        raise ConfigError(f"{both} are given; a network is one of them.")
    for leaf in _leaves(Experiment):
        if hasattr(given, leaf.place):
            *path, name = leaf.place.split(".")
            table = plain
            for key in path:
                table = table.setdefault(key, {})
            table[name] = _value(leaf.kind, getattr(given, leaf.place))
            if path == ["model"] and name in networks:  # another network, with its own args
                plain["model"] = {name: table[name]}
            if leaf.place in ("data.name", "data.path"):  # one replaces the other
                table.pop("path" if name == "name" else "name", None)
    try:
        return from_plain(Experiment, plain)
    except ValueError as error:
        raise ConfigError(f"--{error}") from None


def normalized(arguments: Sequence[str]) -> list[str]:
    """The arguments with `-` as `_` in dotted flags, so that both spellings are understood.

    >>> normalized(["--train.batch-size=64", "--data-dir", "a-b"])
    ['--train.batch_size=64', '--data-dir', 'a-b']
    """
    return [
        re.sub(r"^--[^=]*\.[^=]*", lambda flag: "--" + flag[0][2:].replace("-", "_"), argument)
        for argument in arguments
    ]


def _leaves(kind: type, prefix: str = "") -> Iterator[_Leaf]:
    hints, docs = typing.get_type_hints(kind), _docs(kind)
    for field in dataclasses.fields(kind):
        place, hint = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _leaves(typing.cast(type, hint), f"{place}.")
        else:
            yield _Leaf(place, hint, docs.get(field.name, ""))


@functools.cache
def _docs(kind: type) -> dict[str, str]:
    """The text that stands below each field in the source of `kind`."""
    body = typing.cast(ast.ClassDef, ast.parse(inspect.getsource(kind)).body[0]).body
    docs = {}
    for field, text in itertools.pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=doc)):
                docs[name] = " ".join(str(doc).split())
    return docs


def _kinds(kind: Any) -> tuple[Any, ...]:
    """The members of a union but None; a type that is no union alone."""
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
    """What `text` means for a field: itself for a text, otherwise a TOML value."""
    (first, *_) = _kinds(kind)
    if first is str or typing.get_origin(first) is Literal:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # of the wrong type, as the reader will say
