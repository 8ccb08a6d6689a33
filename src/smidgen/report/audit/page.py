"""The layer tables, totals and claims that stand in a page."""

import re
from dataclasses import dataclass, field
from typing import Literal

Shape = tuple[int, ...]
Role = Literal["conv", "norm", "keep", "pool", "adaptive", "linear", "flatten"]
Kind = Literal["total", "trainable", "non-trainable"]

_ACTIVATIONS = (
    "relu relu6 leakyrelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid "
    "logsigmoid tanh softplus softmax softmax2d logsoftmax"
)
_DROPOUTS = "dropout dropout1d dropout2d dropout3d alphadropout identity"
_ROLES: dict[str, Role] = {
    "conv2d": "conv",
    "linear": "linear",
    "flatten": "flatten",
    **dict.fromkeys(("batchnorm1d", "batchnorm2d", "instancenorm2d"), "norm"),
    **dict.fromkeys(("maxpool2d", "avgpool2d"), "pool"),
    **dict.fromkeys(("adaptiveavgpool2d", "adaptivemaxpool2d"), "adaptive"),
    **dict.fromkeys(_ACTIVATIONS.split(), "keep"),
    **dict.fromkeys(_DROPOUTS.split(), "keep"),
}
# Containers whose parts simply follow each other.
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
    r"(?:grand\s+|the\s+)?(?P<total>total\s+)?(?:number\s+of\s+)?(?P<part>(?:non-?)?trainable\s+)?"
    rf"param(?:eter)?s?\b[\s:=]*(?P<count>{_EXACT})",
    re.IGNORECASE,
)
_SUM = re.compile(rf"(?P<total>total|sum)[\s:=]+(?P<count>{_EXACT})$", re.IGNORECASE)
_CLAIM = re.compile(
    rf"(?<![0-9.,_])({_EXACT})\s+(?:(?:trainable|total|learnable|model)\s+)*param(?:eter)?s\b"
    rf"|\bparam(?:eter)?s?(?:\s+count)?\s*(?:[:=]|is\b|are\b)\s*({_EXACT})",
    re.IGNORECASE,
)
# A number is no claim of this network's size beside one of these.
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
_NEAR = 12  # lines between a claim in the text and its table
_AROUND = 40  # characters before and after a claim that say what it is
_FOOTER = 8  # lines between a table outside of a code block and its totals


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a layer table."""

    line: int
    name: str
    role: Role | None
    """What its type does; None for one that is not known here."""
    shape: Shape | None
    """Of the output without the batch; None where it is no single one."""
    params: int
    apart: bool
    """Whether something between it and the row above was not understood."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """A stated number of parameters."""

    line: int
    kind: Kind
    count: int


@dataclass(kw_only=True, slots=True)
class LayerTable:
    """A layer table as it is being read."""

    rows: list[Row] = field(default_factory=list)
    footer: list[Total] = field(default_factory=list)
    """The totals below it that are its own."""
    whole: bool = True
    """Whether every line between its first row and its last was understood."""
    branches: bool = False
    """Whether a type in it may feed rows from elsewhere than the row above."""
    unused: int = 0
    """Parameters that a note below it says no row has."""

    @property
    def num_params(self) -> int:
        """The sum of the rows, with what a note adds."""
        return sum(row.params for row in self.rows) + self.unused


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page as far as it was understood."""

    lines: tuple[str, ...]
    tables: tuple[LayerTable, ...]
    loose: tuple[Total, ...]
    """Totals and claims that are no table's own."""


def read_page(text: str) -> Page:
    """What can be read of a page; never fails.

    >>> page = read_page("| Conv2d-1 | [-1, 8, 26, 26] | 72 |")
    >>> page.tables[0].rows[0].shape
    (8, 26, 26)
    """
    lines = tuple(text.split("\n"))
    reader = _Reader()
    for number, line in enumerate(lines, start=1):
        reader.read(number, line)
    tables = tuple(t for t in reader.tables if any(row.role for row in t.rows))
    ends = [table.rows[0].line - 1 for table in tables[1:]] + [len(lines)]
    for table, end in zip(tables, ends, strict=False):  # without tables, the one end is no one's
        below = "\n".join(lines[table.rows[-1].line : end])
        table.unused = sum(map(_count, _UNUSED.findall(below)))
    said = {total.line for total in reader.loose}
    said |= {total.line for table in tables for total in table.footer}
    claims = [claim for claim in _claims(lines, tables) if claim.line not in said]
    return Page(lines=lines, tables=tables, loose=(*reader.loose, *claims))


class _Reader:
    """Puts lines together to tables: a table ends at a rule, a blank line, a fence or a heading."""

    def __init__(self) -> None:
        self.tables: list[LayerTable] = []
        self.loose: list[Total] = []
        self._open = False  # whether the line above was a row
        self._gap = False  # whether something since the last row was not understood
        self._fresh = True  # whether the next row begins a table in any case
        self._in_fence = False
        self._fence = 0  # the line of the last one
        self._shapes: list[str] = []  # what stands before the parameters, where a header says it
        self._last_number = 0

    def read(self, line_number: int, line: str) -> None:
        """Take in the next line."""
        plain = re.sub(r"[*`]", "", line).replace("|", " ").lstrip(" \t>│├└─+-•").rstrip()
        if _FENCE.match(line):
            self._in_fence, self._fence = not self._in_fence, line_number
            self._begin()
        elif not plain or _RULE.fullmatch(line.strip()):
            self._open = False
        elif (found := _ROW.match(plain)) and (cells := self._cells(found["cells"])):
            self._row(line_number, found, *cells)
        elif (found := _TOTAL.match(plain)) or (self._open and (found := _SUM.match(plain))):
            self._total(line_number, plain, found)
        elif _HEADER.search(plain):
            self._begin()
            self._shapes = re.findall("input|output|kernel", plain.lower().partition("param")[0])
        elif not self._in_fence and _HEADING.match(line):
            self._begin()
        elif self._open or (plain in ("...", "…", "⋮") and not self._fresh):
            self.tables[-1].whole = False
            self._gap = True

    def _begin(self) -> None:
        self._open, self._fresh, self._shapes = False, True, []

    def _cells(self, text: str) -> tuple[str, str] | None:
        """Output shape and parameters, by the header or as one or more shapes and a number."""
        cells = [found[0] for found in re.finditer(_CELL, text)]
        brackets = [cell[0] in "[(" and cell != "(recursive)" for cell in cells]
        before = len(self._shapes)
        if not any(brackets[:before]) or len(cells) <= before or any(brackets[before:][:1]):
            before = (*brackets, False).index(False)
            if before == 0 or len(cells) <= before:
                return None
            return cells[0], cells[before]
        place = self._shapes.index("output") if "output" in self._shapes else 0
        return cells[place], cells[before]

    def _row(self, line_number: int, found: re.Match[str], shape: str, params: str) -> None:
        number = int(found["number"] or 0)
        follows = 0 < number == self._last_number + 1
        if self._fresh or not (self._open or follows):
            self.tables.append(LayerTable())
        self._open, self._fresh, self._last_number = True, False, number
        table = self.tables[-1]
        names = [_plain_name(name) for name in (found["name"], found["inner"] or "")]
        role = next((_ROLES[name] for name in names if name in _ROLES), None)
        counted = params[0].isdigit()
        if role is None and not counted:  # a container of torchinfo, whose parts have the rows
            table.branches |= found["depth"] is not None and names[0] not in _SEQUENCES
            return
        table.branches |= role is None and names[0] not in (*_SEQUENCES, "input")
        table.rows.append(
            Row(
                line=line_number,
                name=found["name"] + (f"-{number}" if number else ""),
                role=role,
                shape=_shape(shape),
                params=_count(params) if counted else 0,
                apart=self._gap,
            )
        )
        self._gap = False

    def _total(self, line_number: int, plain: str, found: re.Match[str]) -> None:
        part = (found.groupdict().get("part") or "").lower()
        kind: Kind = "total"
        if part:
            kind = "non-trainable" if part.startswith("non") else "trainable"
        elif not found["total"]:
            return
        self._open = False
        total = Total(line=line_number, kind=kind, count=_count(found["count"]))
        table = self.tables[-1] if self.tables and self.tables[-1].rows else None
        if table is not None and self._is_footer(table, total):
            table.footer.append(total)
        elif not _NO_CLAIM.search(plain[found.end() :][:_AROUND]):
            self.loose.append(total)

    def _is_footer(self, table: LayerTable, total: Total) -> bool:
        """Whether `total` is the table's own: the first of its kind, right below its rows."""
        if any(known.kind == total.kind for known in table.footer):
            return False
        last = max([table.rows[-1].line, *(known.line for known in table.footer)])
        return self._fence < last and (self._in_fence or total.line - last <= _FOOTER)


def _claims(lines: tuple[str, ...], tables: tuple[LayerTable, ...]) -> list[Total]:
    """Numbers of parameters in the text beside a table: exact, not round, no bound."""
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


def _plain_name(name: str) -> str:
    """Modules and functions by one name: MaxPool2d and max_pool2d."""
    return name.rpartition(".")[2].replace("_", "").lower()


def _count(text: str) -> int:
    return int(re.sub(r"[,_]", "", text))


def _shape(text: str) -> Shape | None:
    """A shape without its batch; None for several, or one that no network has."""
    if re.fullmatch(r"[\[(][-0-9, ]*[\])]", text) is None:
        return None
    sizes = re.findall(r"-?[0-9]+", text)
    if len(sizes) < 2 or any(len(size) > 6 or int(size) < 1 for size in sizes[1:]):
        return None
    return tuple(map(int, sizes[1:]))
