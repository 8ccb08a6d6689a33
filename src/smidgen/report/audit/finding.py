"""What an audit says about a page."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a line of a page states, and what follows from others; as text, a sentence."""

    line: int
    """Where it is stated, from 1."""
    related: tuple[int, ...] = ()
    """Lines that it contradicts or that repeat it, apart from the rows of a total."""
    stated: str
    """A clause, such as "a triangle has 4 sides"."""
    follows: str
    """A clause that contradicts it, such as "it has 3"."""

    def __str__(self) -> str:
        """The finding as a sentence.

        >>> print(Finding(line=9, stated="a triangle has 4 sides", follows="it has 3"))
        line 9: a triangle has 4 sides, but it has 3
        """
        return f"line {self.line}: {self.text}"

    @property
    def text(self) -> str:
        """The sentence without its line."""
        *others, last = map(str, self.related or (0,))
        lines = f"lines {', '.join(others)} and {last}" if others else f"line {last}"
        see = f" (see also {lines})" if self.related else ""
        return f"{self.stated}, but {self.follows}{see}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """Lines that were read, or what was not checked there and why."""

    line: int
    """The first of the lines."""
    text: str
    """Such as "a layer table of 8 rows" or "'Kernel: as above' is not a size"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """The result of an audit, each tuple in the order of the page."""

    findings: tuple[Finding, ...]
    """Contradictions."""
    not_checked: tuple[Remark, ...]
    """What could not be checked, although it stands in a table or list that was read."""
    read: tuple[Remark, ...]
    """The tables and lists that were read."""


def span(first: int, last: int) -> str:
    """Lines of a page, as text.

    >>> span(3, 3), span(3, 8)
    ('line 3', 'lines 3 to 8')
    """
    return f"line {first}" if first == last else f"lines {first} to {last}"
