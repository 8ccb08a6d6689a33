"""Stated numbers of parameters against the rows of the tables."""

from collections.abc import Sequence

from smidgen.report.audit.finding import Finding
from smidgen.report.audit.page import LayerTable, Page, Total


def check_totals(page: Page) -> list[Finding]:
    """Every stated total against the rows, and the parts of a total against it.

    A table's own total must be the sum of its rows; any other number must be the sum of some table
    of the page. The same wrong number is one finding, wherever it is repeated.
    """
    findings = []
    whole = [table for table in page.tables if table.whole]
    wrong: dict[int, tuple[list[int], str]] = {}
    for table in whole:
        for total in table.footer:
            if total.kind == "total" and total.count != table.num_params:
                follows = f"{_place(table)} add up to {table.num_params:,}"
                wrong.setdefault(total.count, ([], follows))[0].append(total.line)
    sums = {table.num_params for table in whole}
    for total in page.loose:
        if total.kind != "total" or len(whole) < len(page.tables) or not whole:
            continue
        if total.count in wrong:
            wrong[total.count][0].append(total.line)
        elif total.count not in sums:
            follows = "; ".join(f"{_place(t)} add up to {t.num_params:,}" for t in whole[:3])
            wrong[total.count] = ([total.line], follows)
    for count, (lines, follows) in wrong.items():
        stated = f"the stated total is {count:,} parameters"
        findings.append(Finding(lines=tuple(sorted(lines)), stated=stated, follows=follows))
    for totals in (*(table.footer for table in page.tables), page.loose):
        findings += _check_parts(totals)
    return findings


def _check_parts(totals: Sequence[Total]) -> list[Finding]:
    """Trainable and not, which follow a total within a few lines, against it."""
    findings = []
    for whole in (total for total in totals if total.kind == "total"):
        near = [part for part in totals if 0 < part.line - whole.line <= 4]
        parts = [
            next((p for p in near if p.kind == k), None) for k in ("trainable", "non-trainable")
        ]
        trainable, fixed = parts
        if trainable and fixed and trainable.count + fixed.count != whole.count:
            findings.append(
                Finding(
                    lines=(whole.line, trainable.line, fixed.line),
                    stated=f"{whole.count:,} parameters in all are stated",
                    follows=f"{trainable.count:,} trainable and {fixed.count:,} others are "
                    f"{trainable.count + fixed.count:,}",
                )
            )
    return findings


def _place(table: LayerTable) -> str:
    return f"the rows in lines {table.rows[0].line} to {table.rows[-1].line}"
