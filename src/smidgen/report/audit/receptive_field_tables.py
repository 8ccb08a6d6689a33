"""Read the receptive field tables of a page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smidgen.record import Pair

_COLUMNS = {
    "operation": "operation op type layertype layer name layername",
    "kernel": "kernel kernelsize k filter filtersize kernelshape",
    "stride": "stride strides s",
    "padding": "padding pad p",
    "dilation": "dilation d",
    "size_in": "input inputsize inputshape inputdim inputdimension inputresolution nin",
    "size_out": "output outputsize outputshape outputdim outputdimension outputresolution nout",
    "rf_in": "rfin rin receptivefieldin inputrf rfinput inputreceptivefield",
    "rf_out": "rfout rout receptivefieldout rf receptivefield outputrf rfoutput globalrf",
    "jump_in": "jumpin jin inputjump jumpinput",
    "jump_out": "jumpout jout outputjump jumpoutput",
}
_COLUMN_OF = {name: column for column, names in _COLUMNS.items() for name in names.split()}
_WORDS = re.compile(r"(?:RF|Jump) (?:In|Out)|(?:Kernel|Input|Output) Size|\S+", re.IGNORECASE)
_CELL = re.compile(
    r"[\[(]?\s*([0-9]{1,6})(?:\s*[x\u00d7*,]\s*([0-9]{1,6}))?(?:\s*[x\u00d7*,]\s*([0-9]{1,6}))?\s*[\])]?"
)
_RULE = re.compile(r"[\s|:+=_─━-]{3,}")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a receptive field table."""

    line: int
    """From 1."""
    operation: str
    """Empty if there is no such column."""
    values: dict[str, Pair]
    """By the columns kernel, stride, padding, dilation, size_in, size_out, rf_in, and so on."""


def read_receptive_field_tables(lines: Sequence[str]) -> list[list[Row]]:
    """The rows of each table that has a kernel, and a size, field or jump that follows from it."""
    tables: list[list[Row]] = []
    columns: list[str | None] | None = None
    for number, line in enumerate(lines, start=1):
        if _RULE.fullmatch(line.strip()) and not (columns and tables[-1]):
            continue
        if (found := _header_columns(line)) is not None:
            columns = found
            tables.append([])
        elif columns is not None:
            cells = next((c for c in _cell_splits(line) if len(c) == len(columns)), None)
            if cells is None:
                columns = None
            else:
                tables[-1].append(_row(number, columns, cells))
    return tables


def _header_columns(line: str) -> list[str | None] | None:
    """The column of each cell if `line` is the header of such a table."""
    for cells in _cell_splits(line):
        columns = [_COLUMN_OF.get(re.sub(r"[^a-z]", "", cell.lower())) for cell in cells]
        lowered = [cell.lower() for cell in cells]
        if columns.count("operation") > 1 and "layer" in lowered:  # a number and a type
            columns[lowered.index("layer")] = None
        known = [column for column in columns if column]
        if "kernel" in known and {"size_out", "rf_out", "jump_out"} & set(known):
            return columns if len(known) >= 3 and len(set(known)) == len(known) else None
    return None


def _cell_splits(line: str) -> list[list[str]]:
    """The possible splits of a line into cells: at bars, tabs, wide gaps, or words."""
    text = line.strip()
    if "|" in text:
        return [[cell.strip(" *_`\t") for cell in text.strip("|").split("|")]]
    if "\t" in text:
        return [[cell.strip() for cell in text.split("\t")]]
    return [re.split(r" {2,}", text), _WORDS.findall(text), text.split()]


def _row(line: int, columns: Sequence[str | None], cells: Sequence[str]) -> Row:
    values, operation = {}, ""
    for column, cell in zip(columns, cells, strict=True):
        if column == "operation":
            operation = cell
        elif column is not None and (pair := _pair(cell)) is not None:
            values[column] = pair
    return Row(line, operation, values)


def _pair(cell: str) -> Pair | None:
    """A cell as (vertical, horizontal) without channels; None if it is not a size.

    >>> _pair("3x3"), _pair("2"), _pair("28x28x1"), _pair("-")
    ((3, 3), (2, 2), (28, 28), None)
    """
    found = _CELL.fullmatch(cell)
    if found is None:
        return None
    sizes = [int(size) for size in found.groups() if size]
    if len(sizes) == 1:
        return sizes[0], sizes[0]
    if len(sizes) == 2 or sizes[0] == sizes[1]:
        return sizes[0], sizes[1]
    return (sizes[1], sizes[2]) if sizes[1] == sizes[2] else None
