"""Find contradictions in a page: layer tables and lists, their totals, receptive field tables.

It reads text only, so it works on any README: tables as torchsummary, torchinfo, Keras and smidgen
print them, in code blocks, as Markdown or HTML tables, or pasted without either; receptive field
tables with columns such as Kernel Size, Stride, Padding, RF In and RF Out; and layers described one
by one, each below a heading "Layer 4" with a list. What it cannot read it says, and never reports
as a contradiction. docs/audit.md describes all that.
"""

import re

from smidgen.report.audit.finding import Audit, Finding, Remark, span
from smidgen.report.audit.layer_lists import read_layer_lists
from smidgen.report.audit.layer_tables import read_layer_tables
from smidgen.report.audit.layers import check_layers
from smidgen.report.audit.page import LONGEST, plain_lines
from smidgen.report.audit.receptive_field_tables import read_receptive_field_tables
from smidgen.report.audit.receptive_fields import Context, check_receptive_fields
from smidgen.report.audit.totals import check_totals

__all__ = ["Audit", "Finding", "Remark", "audit"]


_READERS = {
    "a table of kernels and sizes": read_receptive_field_tables,
    "a list of layers": read_layer_lists,
}


def audit(text: str) -> Audit:
    r"""Find the contradictions in the page `text` (Markdown or HTML).

    A wrong value is reported in its own row, not again in the rows that follow from it. Each row is
    fed by the one above; in a table with blocks of unknown type, by any above. A number of
    parameters in the text counts as a claim only near a table, and not if it is a bound ("under
    8,000"), a comparison or round.

    >>> page = "Conv2d-1 [-1, 8, 26, 26] 72\nTotal params: 80"
    >>> print(*audit(page).findings)
    line 2: the stated total is 80 parameters, but the rows in line 1 add up to 72
    """
    lines = plain_lines(text)
    tables, claims, not_checked = read_layer_tables(lines)
    not_checked += [
        Remark(line=number, text=f"a line of {len(line):,} characters")
        for number, line in enumerate(text.split("\n"), start=1)
        if len(line) >= LONGEST and re.search("layer|param", line, re.IGNORECASE)
    ]
    results = [check_layers(table) for table in tables]
    findings = [finding for result, _ in results for finding in result]
    findings += check_totals(tables, claims, [sums for _, sums in results])
    read = [
        Remark(line=table.rows[0].line, text=f"a layer table in {table.span}") for table in tables
    ]
    context = Context(
        # layers of unknown type, which may pad or crop, are often left out of the other tables
        resized=frozenset(
            row.shape[-2:]
            for table in tables
            for row in table.rows
            if row.role is None and row.shape is not None and len(row.shape) == 3
        ),
        rounds_up="ceil" in text.lower(),
        joins=re.search("concat|skip|residual|shortcut|dense ?block", text, re.I) is not None,
    )
    found = {finding.line for finding in findings}
    for kind, reader in _READERS.items():
        groups, unread = reader(lines)
        not_checked += unread
        for rows in groups:
            more, unchecked = check_receptive_fields(rows, context)
            findings += [finding for finding in more if finding.line not in found]
            not_checked += unchecked
            last = max(number for row in rows for number in (row.line, *row.lines.values()))
            text = f"{kind} in {span(rows[0].line, last)}"
            read.append(Remark(line=rows[0].line, text=text))
    return Audit(
        findings=tuple(sorted(findings, key=lambda finding: finding.line)),
        not_checked=tuple(sorted(not_checked, key=lambda remark: remark.line)),
        read=tuple(sorted(read, key=lambda remark: remark.line)),
    )
