"""Dataclasses whose fields declare a meaning, a unit and a range, and are checked when made.

One declaration serves the check, the class's help text, the command line's flags and the docs.
"""

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

from smidgen._storage.serialization import from_plain
from smidgen.errors import ConfigError, require

T = TypeVar("T")

_INTERVAL = re.compile(r"([\[(])(.+), (.+)([\])])")


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of numbers, written as in mathematics: [0, 1) includes 0 and excludes 1."""

    low: float
    high: float
    includes_low: bool
    includes_high: bool

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Read the mathematical notation.

        >>> str(Interval.parse("[0, 1)")), str(Interval.parse("(0, inf)"))
        ('from 0 to below 1', 'above 0')
        """
        match = _INTERVAL.fullmatch(text)
        assert match is not None, text
        opening, low, high, closing = match.groups()
        return cls(float(low), float(high), opening == "[", closing == "]")

    def __contains__(self, number: float) -> bool:
        above = number >= self.low if self.includes_low else number > self.low
        below = number <= self.high if self.includes_high else number < self.high
        return above and below

    def __str__(self) -> str:
        low = _shown(self.low)
        if math.isinf(self.high):
            return f"{low} or more" if self.includes_low else f"above {low}"
        high = _shown(self.high)
        if self.includes_low:
            return f"from {low} to {'' if self.includes_high else 'below '}{high}"
        return f"above {low} and {'at most' if self.includes_high else 'below'} {high}"


def _shown(number: float) -> str:
    return f"{int(number):,}" if number.is_integer() else f"{number:g}"


def option(
    meaning: str,
    *,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    within: str | None = None,
    unit: str = "",
    key: str | None = None,
    flag: bool = True,
) -> Any:
    """Declare a field of a `described` dataclass.

    Args:
        meaning: what the field means, a sentence or two; ends with a full stop.
        default: as in dataclasses.field.
        default_factory: as in dataclasses.field.
        within: the numbers allowed, such as "[0, 1)"; None: any of the type.
        unit: what the number counts or measures, such as "degrees".
        key: the field's key in a TOML file, where it is not the class's table and the name.
        flag: whether the command line has a flag for it.
    """
    metadata: dict[str, Any] = {"meaning": meaning, "unit": unit, "key": key, "flag": flag}
    metadata["within"] = None if within is None else Interval.parse(within)
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option,))
def described(table: str) -> Callable[[type[T]], type[T]]:
    """Make a frozen dataclass that stands in the table `table` of an experiment's file.

    Making an instance checks types and ranges (ConfigError, naming the field by its key) and turns
    integers into floats where a float is declared; then the class's own __post_init__ runs. Its
    docstring gets a section on the fields.
    """

    def decorate(cls: type[T]) -> type[T]:
        further_checks = cls.__dict__.get("__post_init__")

        def check(self: Any) -> None:
            """Check the fields, and convert integers to floats."""
            for field in fields:
                value = field.check(getattr(self, field.name))
                object.__setattr__(self, field.name, value)
            if further_checks is not None:
                further_checks(self)

        cls.__post_init__, cls.__table__ = check, table  # type: ignore[attr-defined]
        made = dataclass(frozen=True, kw_only=True, slots=True)(cls)
        fields = own_fields(made)
        lines = [f"    {field.name}: {field.summary} {field.default_text}" for field in fields]
        made.__doc__ = "\n".join([f"{cls.__doc__}\n\nAttributes:", *lines])
        return made

    return decorate


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a described dataclass."""

    name: str
    key: str
    """Its dotted key in an experiment's file, such as train.optimizer.lr."""
    kind: Any
    """Its type."""
    meaning: str
    unit: str
    within: Interval | None
    default: Any
    """dataclasses.MISSING where a value must be given."""
    flag: bool

    @property
    def summary(self) -> str:
        """Meaning, range and unit, in a line."""
        limits = self._limits
        return f"{self.meaning} {limits[0].upper()}{limits[1:]}." if limits else self.meaning

    @property
    def default_text(self) -> str:
        """The default, or that a value is required, as a sentence."""
        if self.default is dataclasses.MISSING:
            return "Required."
        if not dataclasses.is_dataclass(self.default):
            return f"Default: {self.default!r}."
        pairs = ((f, getattr(self.default, f.name)) for f in own_fields(type(self.default)))
        shown = ", ".join(f"{f.name}={value!r}" for f, value in pairs if value != f.default)
        return f"Default: {type(self.default).__name__}({shown})."

    @property
    def _limits(self) -> str:
        open_ended = self.within is not None and math.isinf(self.within.high)
        takes_floats = float in (self.kind, *typing.get_args(self.kind))
        finite = "and finite" if open_ended and takes_floats else ""
        unit = f"({self.unit})" if self.unit else ""
        return " ".join(filter(None, [str(self.within or ""), finite, unit]))

    def check(self, value: Any) -> Any:
        """The value, as a float if it is an integer and the field is a float.

        Raises:
            ConfigError: it has another type, or is out of range.
        """
        try:
            value = from_plain(self.kind, value, self.key)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        require(
            self.within is None or value is None or value in self.within,
            f"{self.key} is {value}; it must be {self._limits}.",
        )
        return value


def own_fields(cls: type) -> list[Field]:
    """The fields of a described dataclass."""
    hints, table = typing.get_type_hints(cls), cls.__table__  # type: ignore[attr-defined]
    found = []
    for field in dataclasses.fields(cls):
        about, default = field.metadata, field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(
            Field(
                name=field.name,
                key=about["key"] or f"{table}.{field.name}".lstrip("."),
                kind=hints[field.name],
                meaning=about["meaning"],
                unit=about["unit"],
                within=about["within"],
                default=default,
                flag=about["flag"],
            )
        )
    return found


def all_fields(cls: type, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Field]]:
    """The fields of a described dataclass and of those in it, each with the names leading to it."""
    for field in own_fields(cls):
        if dataclasses.is_dataclass(field.kind):
            yield from all_fields(typing.cast(type, field.kind), (*path, field.name))
        else:
            yield (*path, field.name), field
