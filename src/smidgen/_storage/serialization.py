"""Strict conversion between frozen dataclasses and plain data (what TOML and JSON hold).

The dataclass is the schema: an unknown key, a value of another type or a missing field is a
ValueError that names the place. `from_plain(type(x), to_plain(x)) == x` for everything that the
project stores.
"""

import contextlib
import dataclasses
import os
import reprlib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from smidgen.errors import did_you_mean

T = TypeVar("T")

_MAX_BITS = 1024  # of an integer, which then fits into a double

_shown = reprlib.Repr()  # only the beginning of a long value
_shown.maxlevel, _shown.maxstring, _shown.maxother, _shown.maxlong = 3, 200, 200, 400


def to_plain(value: Any) -> Any:
    """Convert to dicts, lists and scalars; fields that are None are left out.

    >>> from smidgen.config import Average
    >>> to_plain(Average(name="ema", decay=0.995))
    {'name': 'ema', 'decay': 0.995}
    """
    if dataclasses.is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: to_plain(item) for name, item in pairs if item is not None}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], value: Any, where: str = "") -> T:
    """Make a `kind` of plain data; `where` is the dotted name of its place, for messages.

    An integer becomes a float if a float is declared, a path a string; nothing else is converted.

    Raises:
        ValueError: an unknown key (with the known ones), a missing field, a wrong type, an integer
            of more than 1,024 bits.

    >>> from smidgen.config import Average
    >>> from_plain(Average, {"name": "ema", "dekay": 1}, "train.average")
    Traceback (most recent call last):
    ValueError: train.average has no 'dekay'; it has: name, decay. Did you mean train.average.decay?
    """
    return typing.cast(T, _read(kind, value, where))


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise ValueError(f"{where} is an integer too large for a number.")
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(typing.cast(type, kind), value, where)
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            allowed = ", ".join(repr(argument) for argument in arguments)
            raise ValueError(f"{where} is {_shown.repr(value)}; it must be one of {allowed}.")
        return value
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a table")
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{where} is an integer too large for a number.") from None
    kind = origin or kind  # os.PathLike[str], say
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(where, value, _KINDS[kind])
    return value


_KINDS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
    os.PathLike: "a path",
}


def _read_dataclass(kind: type, value: Any, where: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "a table")
    place = where or "the file"
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            raise ValueError(
                f"{place} has no {_shown.repr(key)}; it has: {', '.join(fields)}."
                + did_you_mean(key, _keys(kind, where))
            )
    hints = typing.get_type_hints(kind)
    read = {}
    for name, field in fields.items():
        inner = f"{where}.{name}" if where else name
        if name in value:
            read[name] = _read(hints[name], value[name], inner)
        elif _is_required(field):
            if type(None) not in typing.get_args(hints[name]):
                raise ValueError(f"{inner} is missing.")
            read[name] = None
    return kind(**read)


def _keys(kind: type, where: str) -> Iterator[str]:
    """The dotted keys of a dataclass, then those of the dataclasses in it."""
    inner = [(f"{where}.{f.name}".lstrip("."), f.name) for f in dataclasses.fields(kind)]
    yield from (key for key, _ in inner)
    hints = typing.get_type_hints(kind)
    for key, name in inner:
        if dataclasses.is_dataclass(hints[name]):
            yield from _keys(hints[name], key)


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    some = [kind for kind in kinds if kind is not type(None)]
    if len(some) == 1:
        return _read(some[0], value, where)
    for kind in some:
        with contextlib.suppress(ValueError):
            return _read(kind, value, where)
    raise _wrong(
        where, value, " or ".join(_KINDS[typing.get_origin(kind) or kind] for kind in some)
    )


def _read_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, value, "a list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where} has {len(value)} items; it must have {len(kinds)}.")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_read(kind, item, f"{where}[{i}]") for i, (kind, item) in pairs)


def _wrong(where: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{where or 'the file'} is {_shown.repr(value)}; it must be {expected}.")
