"""Find contradictions in a page: layer tables, their totals, receptive field tables.

It reads text only, so it works on any README: tables as torchsummary, torchinfo and smidgen print
them, in code blocks, as Markdown tables or pasted without either; receptive field tables with
columns such as Kernel Size, Stride, Padding, RF In and RF Out. What it cannot read it ignores, and
a missing column only skips the checks that need it.
"""

from smidgen.report.audit.finding import Finding
from smidgen.report.audit.layer_tables import read_layer_tables
from smidgen.report.audit.layers import check_layers
from smidgen.report.audit.receptive_field_tables import read_receptive_field_tables
from smidgen.report.audit.receptive_fields import check_receptive_fields
from smidgen.report.audit.totals import check_totals

__all__ = ["Finding", "audit"]


def audit(text: str) -> tuple[Finding, ...]:
    r"""The contradictions in the page `text` (Markdown), in the order of its lines.

    A wrong value is reported in its own row, not again in the rows that follow from it. Each row is
    fed by the one above; in a table with blocks of unknown type, by any above. A number of
    parameters in the text counts as a claim only near a table, and not if it is a bound ("under
    8,000"), a comparison or round.

    >>> page = "Conv2d-1 [-1, 8, 26, 26] 72\nTotal params: 80"
    >>> print(*audit(page))
    line 2: the stated total is 80 parameters, but the rows in lines 1 to 1 add up to 72.
    """
    lines = text.split("\n")
    tables, claims = read_layer_tables(lines)
    findings = [finding for table in tables for finding in check_layers(table)]
    findings += check_totals(tables, claims)
    # Layers of unknown type, which may pad or crop, are often left out of receptive field tables.
    resized: set[tuple[int, ...]] = {
        row.shape[-2:]
        for table in tables
        for row in table.rows
        if row.role is None and row.shape is not None and len(row.shape) == 3
    }
    rounds_up = "ceil" in text.lower()
    for rows in read_receptive_field_tables(lines):
        findings += check_receptive_fields(rows, resized, rounds_up)
    return tuple(sorted(findings, key=lambda finding: finding.lines))
