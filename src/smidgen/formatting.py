"""Numbers and tables as people read them: percentages, durations; plain, Markdown and HTML tables.

A table is a header and rows of cells, all of them strings.
"""

import html
from collections.abc import Sequence


def percent(fraction: float) -> str:
    """A fraction as a percentage with two decimals.

    >>> percent(0.9946)
    '99.46 %'
    """
    return f"{100 * fraction:.2f} %"


def seconds(value: float) -> str:
    """A duration, rounded to seconds from ten seconds on.

    >>> seconds(4.21), seconds(83.4)
    ('4.2 s', '1 min 23 s')
    """
    if value < 10:
        return f"{value:.1f} s"
    rounded = round(value)
    return f"{rounded} s" if rounded < 60 else f"{rounded // 60} min {rounded % 60} s"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "image"), counted(50_000, "image")
    ('1 image', '50,000 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def capitalized(text: str) -> str:
    """The text with a capital first letter, the rest as it is.

    >>> capitalized("NOT inside the budget")
    'NOT inside the budget'
    """
    return text[:1].upper() + text[1:]


def plain_table(rows: Sequence[Sequence[str]], alignment: str) -> str:
    """Rows in aligned columns, two spaces apart.

    `alignment` has one character for each column: < for left, > for right.

    >>> print(plain_table([["conv", "90"], ["linear", "1,010"]], "<>"))
    conv       90
    linear  1,010
    """
    widths = _widths(rows)
    return "\n".join(
        "  ".join(f"{text:{a}{w}}" for text, a, w in zip(row, alignment, widths, strict=True))
        for row in rows
    )


def narrowed(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    max_width: int | None,
    optional: Sequence[str],
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The table without as many `optional` columns, the first ones first, as make it fit.

    >>> narrowed(["layer", "MACs", "params"], [["Conv2d-1", "60,840", "90"]], 16, ["MACs"])
    (['layer', 'params'], [['Conv2d-1', '90']])
    """
    for name in optional:
        if max_width is None or sum(_widths([header, *rows])) + 2 * len(header) - 2 <= max_width:
            break
        keep = [column for column, title in enumerate(header) if title != name]
        header, rows = [header[i] for i in keep], [[row[i] for i in keep] for row in rows]
    return header, rows


def ruled_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], min_widths: Sequence[int] = ()
) -> str:
    """Right-aligned columns with a rule above and below, and one of equals signs under the header.

    Columns are two spaces apart, or one if the table is wider than 100 characters otherwise.
    """
    widths = [
        max(pair)
        for pair in zip(_widths([header, *rows]), min_widths or [0] * len(header), strict=True)
    ]
    gap = 2 if sum(widths) + 2 * len(widths) <= 100 else 1
    lines = [
        (" " * gap).join(text.rjust(width) for text, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    ]
    length = sum(widths) + gap * (len(widths) - 1)
    return "\n".join(["-" * length, lines[0], "=" * length, *lines[1:], "-" * length])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned in the source too; bars in cells are escaped.

    >>> print(markdown_table(["layer", "params"], [["Conv2d-1", "90"]]))
    | layer    | params |
    |----------|--------|
    | Conv2d-1 | 90     |
    """
    cells = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in rows]
    head = [text.replace("|", "\\|") for text in header]
    widths = [max(3, width) for width in _widths([head, *cells])]
    lines = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |"
        for row in (head, *cells)
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table element; the text of the cells is escaped.

    >>> print(html_table(["layer"], [["a < b"]]))
    <table>
    <thead><tr><th>layer</th></tr></thead>
    <tbody>
    <tr><td>a &lt; b</td></tr>
    </tbody>
    </table>
    """
    head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>\n"
        for row in rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
