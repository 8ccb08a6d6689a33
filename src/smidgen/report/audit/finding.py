"""One contradiction in a page."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What some lines of a page state, and what follows from others; as text, a sentence."""

    lines: tuple[int, ...]
    """Where it is stated, from 1, ascending."""
    stated: str
    """A clause, such as "a triangle has 4 sides"."""
    follows: str
    """A clause that contradicts it, such as "it has 3"."""

    def __str__(self) -> str:
        """The finding as a sentence that begins with its lines.

        >>> print(Finding(lines=(3, 9), stated="a triangle has 4 sides", follows="it has 3"))
        lines 3, 9: a triangle has 4 sides, but it has 3.
        """
        word = "line" if len(self.lines) == 1 else "lines"
        return f"{word} {', '.join(map(str, self.lines))}: {self.stated}, but {self.follows}."
