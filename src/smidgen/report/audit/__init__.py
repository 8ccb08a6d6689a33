"""What does not add up in a page: layer tables, their totals, receptive field tables.

It reads text only, so it works on anybody's README: tables in the look of torchsummary, torchinfo
and smidgen, in code blocks, in Markdown tables or pasted as they are; receptive field tables with
columns such as Kernel Size, Stride, Padding, RF In and RF Out. What it cannot read it leaves alone,
and a column that is missing skips its checks.
"""

from smidgen.report.audit.finding import Finding
from smidgen.report.audit.layers import check_layers
from smidgen.report.audit.page import read_page
from smidgen.report.audit.receptive import check_steps, read_step_tables
from smidgen.report.audit.totals import check_totals

__all__ = ["Finding", "audit"]


def audit(text: str) -> tuple[Finding, ...]:
    r"""The faults of the page `text` (Markdown), in the order of its lines.

    A wrong value is found where it stands, not again in the rows that follow from it. Rows are
    taken as a sequence, each fed by the one above; in a table with blocks of unknown type, by any
    above. A number of parameters in the text counts as a claim only beside a table, and not where
    it is a bound ("under 8,000"), a comparison or round.

    >>> page = "Conv2d-1 [-1, 8, 26, 26] 72\nTotal params: 80"
    >>> print(*audit(page))
    line 2: the stated total is 80 parameters, but the rows in lines 1 to 1 add up to 72.
    """
    page = read_page(text)
    # What pads or crops in a layer table may have no row of its own in a receptive field table.
    resized: set[tuple[int, ...]] = {
        row.shape[-2:]
        for table in page.tables
        for row in table.rows
        if row.role is None and row.shape is not None and len(row.shape) == 3
    }
    findings = [finding for table in page.tables for finding in check_layers(table)]
    findings += check_totals(page)
    rounds_up = "ceil" in text.lower()
    for steps in read_step_tables(page.lines):
        findings += check_steps(steps, resized, rounds_up)
    return tuple(sorted(findings, key=lambda finding: finding.lines))
