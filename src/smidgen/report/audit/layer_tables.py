"""Read the layer tables of a page, and the numbers of parameters that it states."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Shape = tuple[int, ...]
Role = Literal["conv", "norm", "same", "pool", "adaptive", "linear", "flatten"]
Kind = Literal["total", "trainable", "non-trainable"]

_SAME_SHAPE = (
    "relu relu6 leakyrelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid "
    "logsigmoid tanh softplus softmax softmax2d logsoftmax "
    "dropout dropout1d dropout2d dropout3d alphadropout identity"
)
_ROLES: dict[str, Role] = {
    "conv2d": "conv",
    "linear": "linear",
    "flatten": "flatten",
    **dict.fromkeys(("batchnorm1d", "batchnorm2d", "instancenorm2d"), "norm"),
    **dict.fromkeys(("maxpool2d", "avgpool2d"), "pool"),
    **dict.fromkeys(("adaptiveavgpool2d", "adaptivemaxpool2d"), "adaptive"),
    **dict.fromkeys(_SAME_SHAPE.split(), "same"),
}
# Containers whose modules simply follow each other.
_SEQUENCES = ("sequential", "modulelist", "moduledict")

_NUMBER = r"[0-9]{1,3}(?:[,_][0-9]{3}){1,4}|[0-9]{1,15}"
_EXACT = rf"(?:{_NUMBER})(?![0-9]|[.,_][0-9]|\s?[kKmM%]\b)"
_SHAPES = r"[\[(]{1,2}[-0-9, ]*[\])](?:\s*,\s*[\[(][-0-9, ]*[\])])*[\])]?"  # one, or a list
_CELL = rf"(?:{_SHAPES}|{_NUMBER}|--|\(recursive\))"
_ROW = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_.]*)(?:\s*\((?P<inner>\w*)\))?"
    r"(?:-(?P<number>[0-9]{1,6})|:\s*(?P<depth>[0-9]{1,4})-[0-9]{1,6})?"
    rf"\s*(?P<cells>{_CELL}(?:\s+{_CELL})*)(?=\s|$)"
)
_TOTAL = re.compile(
    r"(?:grand\s+|the\s+)?(?P<total>total\s+)?(?:number\s+of\s+)?(?P<kind>(?:non-?)?trainable\s+)?"
    rf"param(?:eter)?s?\b[\s:=]*(?P<count>{_EXACT})",
    re.IGNORECASE,
)
_SUM = re.compile(rf"(?P<total>total|sum)[\s:=]+(?P<count>{_EXACT})$", re.IGNORECASE)
_CLAIM = re.compile(
    rf"(?<![0-9.,_])({_EXACT})\s+(?:(?:trainable|total|learnable|model)\s+)*param(?:eter)?s\b"
    rf"|\bparam(?:eter)?s?(?:\s+count)?\s*(?:[:=]|is\b|are\b)\s*({_EXACT})",
    re.IGNORECASE,
)
# Near one of these, a number does not claim to be the size of the page's network.
_NO_CLAIM = re.compile(
    r"[<>≤≥~≈±]|\b(?:under|below|less|fewer|lower|most|max\w*|up\s+to|limit\w*|budget\w*|within|over"
    r"|above|more|least|min\w*|about|around|approx\w*|roughly|nearly|almost|than|target\w*|goal"
    r"|constraint\w*|from|by|sav\w+|reduc\w+|instead|was|were|had|before|previous\w*|earlier|old"
    r"|first|baseline|compar\w+|vs|versus|unlike|layers?|conv\w*|blocks?|kernels?|norms?|linear"
    r"|unused|never|each|per|only)\b",
    re.IGNORECASE,
)
_HEADER = re.compile(r"layer.*\bparam", re.IGNORECASE)
_RULE = re.compile(r"[\s|:+=_─━-]{3,}")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_HEADING = re.compile(r"\s*#{1,6}\s")
_UNUSED = re.compile(rf"is\s+never\s+used:\s+({_NUMBER})\s+parameters")
_NEAR = 12  # lines between a claim and a table
_AROUND = 40  # characters before and after a claim that are searched for _NO_CLAIM
_BELOW = 8  # lines between a table outside of a code block and its totals


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a layer table."""

    line: int
    """From 1."""
    name: str
    """Type and number, as stated."""
    role: Role | None
    """What its type does; None for an unknown type."""
    shape: Shape | None
    """Of the output without the batch; None if it is not a single valid one."""
    params: int
    """As stated; 0 for a layer that was called before."""
    after_gap: bool
    """Whether a line between it and the row above was not understood."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """A stated number of parameters."""

    line: int
    """From 1."""
    kind: Kind
    """Which parameters it counts."""
    count: int
    """As stated."""


@dataclass(kw_only=True, slots=True)
class LayerTable:
    """A layer table while it is read."""

    rows: list[Row] = field(default_factory=list)
    """In the order of the page."""
    totals: list[Total] = field(default_factory=list)
    """Those directly below it."""
    complete: bool = True
    """Whether every line from its first row to its last was understood."""
    branches: bool = False
    """Whether it has a type that may feed a row from elsewhere than the row above."""
    unused: int = 0
    """Parameters that a note below it declares to be in no row."""

    @property
    def num_params(self) -> int:
        """The sum over the rows and the notes."""
        return sum(row.params for row in self.rows) + self.unused


def read_layer_tables(lines: Sequence[str]) -> tuple[list[LayerTable], list[Total]]:
    """The layer tables of a page, and the numbers of parameters that it states elsewhere.

    >>> tables, claims = read_layer_tables(["| Conv2d-1 | [-1, 8, 26, 26] | 72 |"])
    >>> tables[0].rows[0].shape
    (8, 26, 26)
    """
    reader = _Reader()
    for number, line in enumerate(lines, start=1):
        reader.read(number, line)
    tables = [table for table in reader.tables if any(row.role for row in table.rows)]
    ends = [*(table.rows[0].line - 1 for table in tables[1:]), len(lines)]
    for table, end in zip(tables, ends, strict=False):
        below = "\n".join(lines[table.rows[-1].line : end])
        table.unused = sum(map(_count, _UNUSED.findall(below)))
    known = {total.line for total in reader.other_totals}
    known |= {total.line for table in tables for total in table.totals}
    claims = [claim for claim in _claims(lines, tables) if claim.line not in known]
    return tables, [*reader.other_totals, *claims]


class _Reader:
    """Joins lines to tables; a table ends at a rule, a blank line, a code fence or a heading."""

    def __init__(self) -> None:
        self.tables: list[LayerTable] = []
        self.other_totals: list[Total] = []
        self._in_rows = False  # whether the line above was a row
        self._after_gap = False  # whether a line since the last row was not understood
        self._new_table = True  # whether the next row begins a table in any case
        self._in_code = False
        self._fence_line = 0  # of the last code fence
        self._shape_columns: list[str] = []  # left of the parameters, if a header names them
        self._last_number = 0

    def read(self, number: int, line: str) -> None:
        """Take the next line."""
        plain = re.sub(r"[*`]", "", line).replace("|", " ").lstrip(" \t>│├└─+-•").rstrip()
        if _FENCE.match(line):
            self._in_code, self._fence_line = not self._in_code, number
            self._end_table()
        elif not plain or _RULE.fullmatch(line.strip()):
            self._in_rows = False
        elif (found := _ROW.match(plain)) and (cells := self._shape_and_params(found["cells"])):
            self._add_row(number, found, *cells)
        elif (found := _TOTAL.match(plain)) or (self._in_rows and (found := _SUM.match(plain))):
            self._add_total(number, plain, found)
        elif _HEADER.search(plain):
            self._end_table()
            left = plain.lower().partition("param")[0]
            self._shape_columns = re.findall("input|output|kernel", left)
        elif not self._in_code and _HEADING.match(line):
            self._end_table()
        elif self._in_rows or (plain in ("...", "…", "⋮") and not self._new_table):
            self.tables[-1].complete = False
            self._after_gap = True

    def _end_table(self) -> None:
        self._in_rows, self._new_table, self._shape_columns = False, True, []

    def _shape_and_params(self, text: str) -> tuple[str, str] | None:
        """The cells of output shape and parameters, by the header or by their brackets."""
        cells = [found[0] for found in re.finditer(_CELL, text)]
        brackets = [cell[0] in "[(" and cell != "(recursive)" for cell in cells]
        shapes = len(self._shape_columns)
        if any(brackets[:shapes]) and len(cells) > shapes and not brackets[shapes]:
            columns = self._shape_columns
            return cells[columns.index("output") if "output" in columns else 0], cells[shapes]
        shapes = (*brackets, False).index(False)
        return (cells[0], cells[shapes]) if 0 < shapes < len(cells) else None

    def _add_row(self, line: int, found: re.Match[str], shape: str, params: str) -> None:
        number = int(found["number"] or 0)
        continues = self._in_rows or 0 < number == self._last_number + 1
        if self._new_table or not continues:
            self.tables.append(LayerTable())
        self._in_rows, self._new_table, self._last_number = True, False, number
        table = self.tables[-1]
        names = [_type_name(name) for name in (found["name"], found["inner"] or "")]
        role = next((_ROLES[name] for name in names if name in _ROLES), None)
        has_count = params[0].isdigit()
        if role is None and not has_count:  # a container of torchinfo, whose modules have rows
            table.branches |= found["depth"] is not None and names[0] not in _SEQUENCES
            return
        table.branches |= role is None and names[0] not in (*_SEQUENCES, "input")
        table.rows.append(
            Row(
                line=line,
                name=found["name"] + (f"-{number}" if number else ""),
                role=role,
                shape=_shape(shape),
                params=_count(params) if has_count else 0,
                after_gap=self._after_gap,
            )
        )
        self._after_gap = False

    def _add_total(self, line: int, plain: str, found: re.Match[str]) -> None:
        which = (found.groupdict().get("kind") or "").lower()
        if not which and not found["total"]:
            return
        kind: Kind = "total"
        if which:
            kind = "non-trainable" if which.startswith("non") else "trainable"
        self._in_rows = False
        total = Total(line=line, kind=kind, count=_count(found["count"]))
        table = self.tables[-1] if self.tables and self.tables[-1].rows else None
        if table is not None and self._belongs_to(table, total):
            table.totals.append(total)
        elif not _NO_CLAIM.search(plain[found.end() :][:_AROUND]):
            self.other_totals.append(total)

    def _belongs_to(self, table: LayerTable, total: Total) -> bool:
        """Whether `total` is the first of its kind, directly below the table."""
        if any(known.kind == total.kind for known in table.totals):
            return False
        last = max([table.rows[-1].line, *(known.line for known in table.totals)])
        return self._fence_line < last and (self._in_code or total.line - last <= _BELOW)


def _claims(lines: Sequence[str], tables: Sequence[LayerTable]) -> list[Total]:
    """Numbers of parameters in the text near a table: exact, not round, not a bound."""
    near: set[int] = set()
    for table in tables:
        near |= set(range(table.rows[0].line - _NEAR, table.rows[-1].line + _NEAR + 1))
    claims = []
    for number in sorted(near & set(range(1, len(lines) + 1))):
        line = lines[number - 1]
        for found in _CLAIM.finditer(line):
            around = line[max(0, found.start() - _AROUND) : found.end() + _AROUND]
            count = _count(found[1] or found[2])
            if count >= 1000 and count % 500 and not _NO_CLAIM.search(around):
                claims.append(Total(line=number, kind="total", count=count))
    return claims


def _type_name(name: str) -> str:
    """One name for a module and its function, such as MaxPool2d and max_pool2d."""
    return name.rpartition(".")[2].replace("_", "").lower()


def _count(text: str) -> int:
    return int(re.sub(r"[,_]", "", text))


def _shape(text: str) -> Shape | None:
    """A shape without its batch; None for several, or an invalid one."""
    if re.fullmatch(r"[\[(][-0-9, ]*[\])]", text) is None:
        return None
    sizes = re.findall(r"-?[0-9]+", text)[1:]
    if not sizes or any(len(size) > 6 or int(size) < 1 for size in sizes):
        return None
    return tuple(map(int, sizes))
