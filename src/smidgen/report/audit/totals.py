"""Compare stated numbers of parameters with the rows of the tables."""

from collections.abc import Sequence

from smidgen.report.audit.finding import Finding
from smidgen.report.audit.layer_tables import LayerTable, Total


def check_totals(tables: Sequence[LayerTable], claims: Sequence[Total]) -> list[Finding]:
    """Compare each stated total with the rows, and trainable and other parameters with the total.

    The total of a table must be the sum of its rows; a claim elsewhere must be the sum of some
    table. The same wrong number is one finding, however often it is repeated.
    """
    complete = [table for table in tables if table.complete]
    wrong: dict[int, tuple[list[int], str]] = {}
    for table in complete:
        for total in table.totals:
            if total.kind == "total" and total.count != table.num_params:
                follows = f"{_place(table)} add up to {table.num_params:,}"
                wrong.setdefault(total.count, ([], follows))[0].append(total.line)
    sums = {table.num_params for table in complete}
    comparable = complete and len(complete) == len(tables)
    for claim in claims if comparable else ():
        if claim.kind != "total":
            continue
        if claim.count in wrong:
            wrong[claim.count][0].append(claim.line)
        elif claim.count not in sums:
            follows = "; ".join(f"{_place(t)} add up to {t.num_params:,}" for t in complete[:3])
            wrong[claim.count] = ([claim.line], follows)
    findings = [
        Finding(
            lines=tuple(sorted(lines)),
            stated=f"the stated total is {count:,} parameters",
            follows=follows,
        )
        for count, (lines, follows) in wrong.items()
    ]
    for totals in (*(table.totals for table in tables), claims):
        findings += _check_trainable(totals)
    return findings


def _check_trainable(totals: Sequence[Total]) -> list[Finding]:
    """Compare trainable and other parameters, within a few lines of a total, with that total."""
    findings = []
    for total in (total for total in totals if total.kind == "total"):
        near = [other for other in totals if 0 < other.line - total.line <= 4]
        trainable, fixed = (
            next((other for other in near if other.kind == kind), None)
            for kind in ("trainable", "non-trainable")
        )
        if trainable and fixed and trainable.count + fixed.count != total.count:
            findings.append(
                Finding(
                    lines=(total.line, trainable.line, fixed.line),
                    stated=f"{total.count:,} parameters in all are stated",
                    follows=f"{trainable.count:,} trainable and {fixed.count:,} others are "
                    f"{trainable.count + fixed.count:,}",
                )
            )
    return findings


def _place(table: LayerTable) -> str:
    return f"the rows in lines {table.rows[0].line} to {table.rows[-1].line}"
