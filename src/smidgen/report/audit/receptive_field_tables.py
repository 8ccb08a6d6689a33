"""Read the receptive field tables of a page."""

import re
from collections.abc import Sequence

from smidgen.record import Pair
from smidgen.report.audit.finding import Remark
from smidgen.report.audit.windows import Row, column_of, read_value

_WORDS = re.compile(r"(?:RF|Jump) (?:In|Out)|(?:Kernel|Input|Output) Size|\S+", re.IGNORECASE)
_RULE = re.compile(r"[\s|:+=_\u2500-\u257f-]{3,}")
_EMPTY = ("", "-", "--", "\u2014", "\u2013", "n/a", "na", "none")


def read_receptive_field_tables(lines: Sequence[str]) -> tuple[list[list[Row]], list[Remark]]:
    """The rows of each table that has a kernel, and a size, field or jump that follows from it.

    Also the cells that cannot be read.
    """
    tables: list[list[Row]] = []
    remarks: list[Remark] = []
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
                tables[-1].append(_row(number, columns, cells, remarks))
    return [rows for rows in tables if rows], remarks


def _header_columns(line: str) -> list[str | None] | None:
    """The column of each cell if `line` is the header of such a table."""
    for cells in _cell_splits(line):
        columns = [column_of(cell) for cell in cells]
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


def _row(
    line: int, columns: Sequence[str | None], cells: Sequence[str], remarks: list[Remark]
) -> Row:
    values: dict[str, Pair] = {}
    operation, same = "", False
    for column, cell in zip(columns, cells, strict=True):
        if column == "operation":
            operation = cell
        elif column == "padding" and cell.lower() == "same":
            same = True
        elif column is not None and (value := read_value(column, cell)) is not None:
            values = value | values
        elif column is not None and cell.lower() not in _EMPTY:
            remarks.append(Remark(line=line, text=f"{cell!r} is not a number or size"))
    return Row(line, operation, operation, values, same=same)
