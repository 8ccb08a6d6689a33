"""Compare stated numbers of parameters with the rows of the tables."""

from collections.abc import Sequence

from smidgen.report.audit.claims import Total
from smidgen.report.audit.finding import Finding
from smidgen.report.audit.layer_tables import LayerTable


def check_totals(
    tables: Sequence[LayerTable], claims: Sequence[Total], corrected: Sequence[set[int] | None]
) -> list[Finding]:
    """Compare each stated total with the rows, and trainable and other parameters with the total.

    The total of a table must be the sum of its rows, or one of its sums with a row `corrected`
    (None: a row is wrong in an unknown way, and there is nothing to compare); a claim elsewhere
    must be that of some table. The same wrong number is one finding, however often it is repeated.
    """
    complete = [
        (table, {table.num_params, *sums})
        for table, sums in zip(tables, corrected, strict=True)
        if not table.gap and sums is not None
    ]
    wrong: dict[int, tuple[list[int], str]] = {}
    for table, sums in complete:
        for total in table.totals:
            if total.kind == "total" and total.count not in sums:
                wrong.setdefault(total.count, ([], _sum(table)))[0].append(total.line)
    comparable = complete and len(complete) == len(tables)
    for claim in claims if comparable else ():
        if claim.kind != "total":
            continue
        if claim.count in wrong:
            wrong[claim.count][0].append(claim.line)
        elif not any(claim.count in sums for _, sums in complete):
            follows = "; ".join(_sum(table) for table, _ in complete[:3])
            wrong[claim.count] = ([claim.line], follows)
    findings = []
    for count, (lines, follows) in wrong.items():
        first, *others = sorted(lines)
        stated = f"the stated total is {count:,} parameters"
        findings.append(Finding(line=first, related=tuple(others), stated=stated, follows=follows))
    for totals in (*(table.totals for table in tables), claims):
        findings += _check_trainable([total for total in totals if total.count not in wrong])
    return findings


def _check_trainable(totals: Sequence[Total]) -> list[Finding]:
    """Compare trainable and other parameters, within a few lines of a total, with that total."""
    findings = []
    for total in (total for total in totals if total.kind == "total"):
        near = [other for other in totals if 0 < other.line - total.line <= 4]
        kinds = {other.kind: other for other in reversed(near) if other.kind != "total"}
        count = sum(other.count for other in kinds.values())
        if {"trainable", "non-trainable"} <= kinds.keys() and count != total.count:
            named = " and ".join(
                f"{other.count:,} {kind}"
                for kind, other in sorted(kinds.items(), key=lambda item: item[1].line)
            )
            findings.append(
                Finding(
                    line=total.line,
                    related=tuple(sorted(other.line for other in kinds.values())),
                    stated=f"the stated total is {total.count:,} parameters",
                    follows=f"{named} ones are {count:,}",
                )
            )
    return findings


def _sum(table: LayerTable) -> str:
    return f"the rows in {table.span} add up to {table.num_params:,}"
