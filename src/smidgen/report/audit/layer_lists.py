"""Read layers that a page describes one by one: "Layer 4", then a list of what it has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from smidgen.record import Pair
from smidgen.report.audit.finding import Remark
from smidgen.report.audit.windows import Row, column_of, read_value

_BULLET = re.compile(r"[\s>]*(?:(?:[-+*•]|\(?[0-9]{1,3}[.)])\s+)?")
_EMPHASIS = re.compile(r"`|__|(?<![0-9])\*+|\*+(?![0-9])")
_HEADING = re.compile(r"(#{1,6})\s+(?:[0-9]{1,3}[.)]\s+)?")
_LAYER = re.compile(r"layer\s*[-#]?\s*([0-9]{1,4})(?![0-9.])\s*(?P<rest>.*)", re.IGNORECASE)
_DASH = "[-\u2013\u2014]"
_FIELD = re.compile(
    r"(?P<key>[A-Za-z][A-Za-z ()/_]{0,40}?)\s*"
    rf"(?:[:=]|->|\s{_DASH}(?=\s)|\s(?=[0-9(\[]))\s*(?P<value>.+)"
)
_APART = 8  # lines between two values of a layer
_FENCE = re.compile(r"\s*(?:```|~~~)")
_WINDOW = re.compile("conv|pool", re.IGNORECASE)
_AROUND_NAME = " :()-.\u2013\u2014"
_PIECES = re.compile(r";|,(?=\s*[A-Za-z][A-Za-z ]{1,30}(?:[:=]|\s-\s))")


@dataclass(slots=True)
class _Layer:
    """A layer while its list is read."""

    line: int
    number: int
    operation: str = ""
    values: dict[str, Pair] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    same: bool = False
    unread: list[Remark] = field(default_factory=list)
    is_ambiguous: bool = False

    @property
    def last_line(self) -> int:
        """Of its heading, or what was read below it."""
        return max([self.line, *self.lines.values()])

    def add(self, line: int, key: str, value: str) -> None:
        """Take what a line states."""
        column = column_of(key)
        if column is None:
            if _WINDOW.search(f"{key} {value}"):
                self._give_up(line, f"has the step {key.strip()!r}")
        elif column in self.lines:
            self._give_up(line, f"states {key.strip()!r} twice")
        elif column == "operation":
            self.operation, self.lines["operation"] = value, line
        elif column == "padding" and value.lower() == "same":
            self.same, self.lines["padding"] = True, line
        elif (read := read_value(column, value)) is not None:
            self.values |= read
            self.lines = dict.fromkeys(read, line) | self.lines
        else:
            self.unread.append(
                Remark(line=line, text=f"{key.strip()} {value!r} is not a number or size")
            )

    def _give_up(self, line: int, reason: str) -> None:
        self.is_ambiguous = True
        text = f"layer {self.number}, which {reason}, as if it were several layers"
        self.unread.append(Remark(line=line, text=text))

    def row(self, above: "_Layer | None") -> Row:
        return Row(
            line=self.line,
            name=f"layer {self.number}",
            operation=self.operation,
            values=self.values,
            lines=self.lines,
            same=self.same,
            listed=True,
            after_gap=above is not None and self.number != above.number + 1,
        )


def read_layer_lists(lines: Sequence[str]) -> tuple[list[list[Row]], list[Remark]]:
    r"""The layers of each list, and its lines that cannot be read.

    A list ends at another heading of the same rank or above, at a code fence, after some lines
    that are not part of it, or when the numbers begin again.

    >>> page = "### Layer 1\n- **Kernel**: 3x3\n- Padding - 0\n- Input dimension: 28x28x1"
    >>> lists, unread = read_layer_lists(page.split("\n"))
    >>> lists[0][0].values
    {'kernel': (3, 3), 'padding': (0, 0), 'size_in': (28, 28), 'size_in_channels': (1, 1)}
    """
    groups: list[list[_Layer]] = []
    layer: _Layer | None = None  # whose list is read
    rank = 0  # of its heading; 0 if it is not marked as one
    for number, line in enumerate(lines, start=1):
        if "|" in line:
            continue
        if _FENCE.match(line):
            layer = None
        for piece in _PIECES.split(line):
            heading = _HEADING.match(piece.strip())
            text = _EMPHASIS.sub("", piece.strip()[heading.end() if heading else 0 :])
            text = text[_BULLET.match(text).end() :].strip()  # type: ignore[union-attr]
            marked = heading is not None or "**" in piece or "__" in piece
            if found := _layer(text, marked):
                rank = len(heading[1]) if heading else 0
                begins = not groups or layer is None or found.number <= groups[-1][-1].number
                layer = found
                layer.line = number
                groups += [[layer]] if begins else []
                if not begins:
                    groups[-1].append(layer)
            elif (heading and len(heading[1]) <= (rank or 6)) or (
                layer and number - layer.last_line > _APART
            ):
                layer = None
            elif layer and (stated := _FIELD.fullmatch(text)):
                layer.add(number, stated["key"], stated["value"].strip(" .;,"))
    described = [[found for found in group if found.values] for group in groups]
    remarks = [remark for group in described for found in group for remark in found.unread]
    described = [[found for found in group if not found.is_ambiguous] for group in described]
    return [
        [found.row(above) for above, found in zip([None, *group], group, strict=False)]
        for group in described
        if group
    ], remarks


def _layer(text: str, marked: bool) -> _Layer | None:
    """A layer if `text` is the heading of one; what follows its number may name its type."""
    found = _LAYER.fullmatch(text)
    if found is None or not (marked or not found["rest"] or found["rest"][0] in _AROUND_NAME):
        return None
    return _Layer(0, int(found[1]), found["rest"].strip(_AROUND_NAME))
