"""Reduce the HTML in a page to Markdown, line by line."""

import re
from html import unescape

LONGEST = 5_000  # characters in a line
_ROW = re.compile(r"<tr\b.{0,4000}?</tr>", re.IGNORECASE | re.DOTALL)
_CELL = re.compile(r"<t[dh]\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([a-z!][a-z0-9]*)[^<>\n]*>", re.IGNORECASE)


def plain_lines(text: str) -> list[str]:
    r"""The lines of a page, with the tags of HTML replaced by what Markdown has for them.

    A row of an HTML table becomes a row with bars, on its first line; items of lists are separated
    by semicolons. The number of lines stays; a line that is too long for a table becomes empty.

    >>> plain_lines("<tr>\n<td>Conv2d</td>\n<td>80</td>\n</tr>\n<li><b>Kernel</b>: 3x3</li>")
    ['| Conv2d | 80 |', '', '', '', '; Kernel: 3x3;']
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _TAG.sub(_markdown, _ROW.sub(_bars, text))
    return [unescape(line).rstrip() if len(line) < LONGEST else "" for line in text.split("\n")]


def _bars(row: re.Match[str]) -> str:
    cells = [_TAG.sub(" ", cell).split() for cell in _CELL.split(row[0])[1:]]
    return f"| {' | '.join(map(' '.join, cells))} |" + "\n" * row[0].count("\n")


def _markdown(tag: re.Match[str]) -> str:
    closing, name = tag[1], tag[2].lower()
    if re.fullmatch("h[1-6]", name) and not closing:
        return "#" * int(name[1]) + " "
    return "; " if name in ("li", "br") or re.fullmatch("h[1-6]", name) else ""
