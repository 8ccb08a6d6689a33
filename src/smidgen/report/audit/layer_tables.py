"""Read the layer tables of a page."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from smidgen.report.audit.claims import NUMBER, Total, read_claims, read_total, to_count
from smidgen.report.audit.finding import Remark, span

Shape = tuple[int, ...]
Role = Literal["conv", "norm", "same", "pool", "adaptive", "global", "linear", "flatten"]

_SAME_SHAPE = (
    "relu relu6 leakyrelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid "
    "logsigmoid tanh softplus softmax softmax2d logsoftmax "
    "dropout dropout1d dropout2d dropout3d alphadropout identity activation spatialdropout2d"
)
_ROLES: dict[str, Role] = {
    "conv2d": "conv",
    **dict.fromkeys(("linear", "dense"), "linear"),
    "flatten": "flatten",
    **dict.fromkeys(("batchnorm1d", "batchnorm2d", "instancenorm2d", "batchnormalization"), "norm"),
    **dict.fromkeys(("maxpool2d", "avgpool2d", "maxpooling2d", "averagepooling2d"), "pool"),
    **dict.fromkeys(("globalaveragepooling2d", "globalmaxpooling2d"), "global"),
    **dict.fromkeys(("adaptiveavgpool2d", "adaptivemaxpool2d"), "adaptive"),
    **dict.fromkeys(_SAME_SHAPE.split(), "same"),
}
# Containers whose modules simply follow each other.
_SEQUENCES = ("sequential", "modulelist", "moduledict")

_SHAPES = r"[\[(]{1,2}[-0-9, None]*[\])](?:\s*,\s*[\[(][-0-9, None]*[\])])*[\])]?"  # or a list
_SIZES = r"[0-9]{1,6}(?:\s?[x\u00d7]\s?[0-9]{1,6}){1,3}"
_CELL = rf"(?:{_SHAPES}|{_SIZES}|{NUMBER}|--|\(recursive\))"
_ROW = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_.]*)(?:\s*\((?P<inner>\w*)\)?)?"
    r"(?:-(?P<number>[0-9]{1,6})|:\s*(?P<depth>[0-9]{1,4})-[0-9]{1,6})?"
    rf"\s*(?P<cells>{_CELL}(?:\s+{_CELL})*)(?=\s|$)"
)
_HEADER = re.compile(r"layer.*\bparam", re.IGNORECASE)
_RULE = re.compile(r"[\s|:+=_\u2500-\u257f-]{3,}")
_WRAPPED = re.compile(r"\(?\w{1,24}\)")  # the end of a name that Keras breaks
_BARS = re.compile(r"[|│┃]")
_SIZES_ONLY = re.compile(_SIZES)
_FENCE = re.compile(r"\s*(?:```|~~~)")
_HEADING = re.compile(r"\s*#{1,6}\s")
_UNUSED = re.compile(rf"is\s+never\s+used:\s+({NUMBER})\s+parameters")
_NEAR = 12  # lines between a claim and a table
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
    after_gap: bool = False
    """Whether a line between it and the row above was not understood."""
    is_keras: bool = False
    """Whether its running mean and variance count as parameters."""


@dataclass(kw_only=True, slots=True)
class LayerTable:
    """A layer table while it is read."""

    rows: list[Row] = field(default_factory=list)
    """In the order of the page."""
    totals: list[Total] = field(default_factory=list)
    """Those directly below it."""
    gap: int = 0
    """The first line between its rows that was not understood; 0 for none."""
    branches: bool = False
    """Whether it has a type that may feed a row from elsewhere than the row above."""
    unused: int = 0
    """Parameters that a line below it declares to be in no row."""

    @property
    def span(self) -> str:
        """Its lines, as text."""
        return span(self.rows[0].line, self.rows[-1].line)

    @property
    def num_params(self) -> int:
        """The sum over the rows and the notes."""
        return sum(row.params for row in self.rows) + self.unused


def read_layer_tables(lines: Sequence[str]) -> tuple[list[LayerTable], list[Total], list[Remark]]:
    """The layer tables of a page, the numbers of parameters elsewhere, and what cannot be read.

    >>> tables, claims, remarks = read_layer_tables(["| Conv2d-1 | [-1, 8, 26, 26] | 72 |"])
    >>> tables[0].rows[0].shape
    (8, 26, 26)
    """
    reader = _Reader()
    for number, line in enumerate(lines, start=1):
        reader.read(number, line)
    tables = [table for table in reader.tables if any(row.role for row in table.rows)]
    ends = [*(table.rows[0].line - 1 for table in tables[1:]), len(lines)]
    near: set[int] = set()
    for table, end in zip(tables, ends, strict=False):
        first, last = table.rows[0].line, table.rows[-1].line
        table.unused = sum(map(to_count, _UNUSED.findall("\n".join(lines[last:end]))))
        table.unused += sum(total.count for total in table.totals if total.kind == "optimizer")
        near |= set(range(max(1, first - _NEAR), min(len(lines), last + _NEAR) + 1))
    near -= {total.line for total in reader.other_totals}
    near -= {total.line for table in tables for total in table.totals}
    claims = [*reader.other_totals, *read_claims(lines, near)]
    remarks = [remark for table in tables for remark in _remarks(table)]
    return tables, claims, remarks


class _Reader:
    """Joins lines to tables.

    Below a header a table ends at a total, a code fence or a heading; else at any rule or blank
    line, unless the rows are numbered.
    """

    def __init__(self) -> None:
        self.tables: list[LayerTable] = []
        self.other_totals: list[Total] = []
        self._in_rows = False  # whether the line above was a row
        self._after_gap = False  # whether a line since the last row was not understood
        self._new_table = True  # whether the next row begins a table in any case
        self._in_code = False
        self._fence_line = 0  # of the last code fence
        self._header: list[str] | None = None  # its cells, if there is one
        self._last_number = 0

    def read(self, number: int, line: str) -> None:
        """Take the next line."""
        plain = _BARS.sub(" ", re.sub(r"[*`]", "", line)).lstrip(" \t>├└─+-•").rstrip()
        if _FENCE.match(line):
            self._in_code, self._fence_line = not self._in_code, number
            self._end_table()
        elif not plain or _RULE.fullmatch(line.strip()):
            self._in_rows = False
        elif (row := self._row(line, plain)) is not None:
            self._add_row(number, *row)
        elif (total := read_total(plain, number, self._in_rows or bool(self._header))) is not None:
            self._in_rows, self._header = False, None
            self._add_total(total)
        elif _HEADER.search(plain):
            self._end_table()
            self._header = [cell.strip().lower() for cell in _BARS.split(line.strip(" |│┃"))]
        elif not self._in_code and _HEADING.match(line):
            self._end_table()
        elif not (self._in_rows and _WRAPPED.fullmatch(plain)) and (
            self._in_rows or (plain in ("...", "…", "⋮") and not self._new_table)
        ):
            self.tables[-1].gap = self.tables[-1].gap or number
            self._after_gap = True

    def _end_table(self) -> None:
        self._in_rows, self._new_table, self._header = False, True, None

    def _row(self, line: str, plain: str) -> tuple[re.Match[str], str, str] | None:
        """The name and the cells of output shape and parameters, if a line is a row."""
        arranged = self._arranged(line)
        found = _ROW.match(arranged or plain)
        if found is None:
            return None
        cells = [cell[0] for cell in re.finditer(_CELL, found["cells"])]
        is_shape = [
            (cell[0] in "[(" and cell != "(recursive)")
            or (self._header is not None and _SIZES_ONLY.fullmatch(cell) is not None)
            for cell in cells
        ]
        header = " ".join(self._header or []).partition("param")[0]
        columns = re.findall("input|output|kernel", header)
        count = 0 if arranged else len(columns)
        if any(is_shape[:count]) and count < len(cells) and not is_shape[count]:
            return found, cells[columns.index("output") if "output" in columns else 0], cells[count]
        params = (*is_shape, False).index(False)
        return (found, cells[0], cells[params]) if 0 < params < len(cells) else None

    def _arranged(self, line: str) -> str | None:
        """Type, output and parameters of a row with bars, by the header's cells."""
        cells = [cell.strip(" *`") for cell in _BARS.split(line.strip(" |│┃"))]
        if self._header is None or len(cells) != len(self._header) or len(cells) < 3:
            return None
        picked = [
            next((c for name, c in zip(self._header, cells, strict=True) if word in name), "")
            for word in ("type", "layer", "output", "param")
        ]
        if "" in picked[2:] or not (picked[0] or picked[1]):
            return None
        return " ".join((picked[0] or picked[1], *picked[2:]))

    def _add_row(self, line: int, found: re.Match[str], shape: str, params: str) -> None:
        number = int(found["number"] or 0)
        continues = self._in_rows or self._header is not None or 0 < number == self._last_number + 1
        if self._new_table or not continues:
            self.tables.append(LayerTable())
        self._in_rows, self._new_table, self._last_number = True, False, number
        table = self.tables[-1]
        names = [_type_name(name) for name in (found["name"], found["inner"] or "")]
        role = next((role for name in names if (role := _role(name))), None)
        has_count = params[0].isdigit()
        if role is None and not has_count:  # a container of torchinfo, whose modules have rows
            table.branches |= found["depth"] is not None and names[0] not in _SEQUENCES
            return
        is_chain = {*names} & {*_SEQUENCES, "input", "inputlayer"}
        table.branches |= role is None and not is_chain
        table.rows.append(
            Row(
                line=line,
                name=found["name"] + (f"-{number}" if number else ""),
                role=role,
                shape=_shape(shape),
                params=to_count(params) if has_count else 0,
                after_gap=self._after_gap,
                is_keras=any(name.startswith("batchnormal") for name in names),
            )
        )
        self._after_gap = False

    def _add_total(self, total: Total) -> None:
        table = self.tables[-1] if self.tables and self.tables[-1].rows else None
        if table is not None and self._belongs_to(table, total):
            table.totals.append(total)
        elif total.is_claim:
            self.other_totals.append(total)

    def _belongs_to(self, table: LayerTable, total: Total) -> bool:
        """Whether `total` is the first of its kind, directly below the table."""
        if any(known.kind == total.kind for known in table.totals):
            return False
        last = max([table.rows[-1].line, *(known.line for known in table.totals)])
        return self._fence_line < last and (self._in_code or total.line - last <= _BELOW)


def _remarks(table: LayerTable) -> Iterator[Remark]:
    """What the table has that cannot be read."""
    if table.gap:
        text = f"the sum of the rows in {table.span}, as line {table.gap} is not a row"
        yield Remark(line=table.gap, text=text)
    for row in table.rows:
        if row.role is None and row.params:
            yield Remark(line=row.line, text=f"{row.name}, a layer of a type that is not known")
        elif row.role is not None and row.shape is None:
            yield Remark(line=row.line, text=f"{row.name}, as its output shape cannot be read")


def _role(name: str) -> Role | None:
    """What a type does; Keras cuts long names off."""
    cut = [known for known in _ROLES if len(name) >= 10 and known.startswith(name)]
    return _ROLES.get(name) or (_ROLES[cut[0]] if cut else None)


def _type_name(name: str) -> str:
    """One name for a module and its function, such as MaxPool2d and max_pool2d."""
    return name.rpartition(".")[2].replace("_", "").lower()


def _shape(text: str) -> Shape | None:
    """A shape without its batch; None for several, or an invalid one."""
    sizes = re.findall(r"-?[0-9]+|None", text)
    if _SIZES_ONLY.fullmatch(text):
        sizes = sizes if len(sizes) < 4 else sizes[1:]
    elif re.fullmatch(r"\[?[\[(][-0-9, None]*[\])]\]?", text):
        sizes = sizes[1:]
    else:
        return None
    if not sizes or any(len(size) > 6 or not size.isdigit() or int(size) < 1 for size in sizes):
        return None
    return tuple(map(int, sizes))
