"""Correct pages of every layout have no findings; a page with one wrong number has one."""

import csv
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_pages import TABLES, WINDOWS, Layer, Module, change, lists, modules, networks, unmarked
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from smidgen.report.audit import Finding, audit


def render(layout: Callable[..., str], layers: list[Layer]) -> str:
    return layout(modules(layers) if layout in TABLES else layers)


@pytest.mark.parametrize("layout", [*TABLES, *WINDOWS], ids=lambda layout: layout.__name__)
@settings(max_examples=40, deadline=None)
@given(layers=networks())
def test_a_correct_table_has_no_findings(layout: Callable[..., str], layers: list[Layer]) -> None:
    page = unmarked(render(layout, layers))
    note(page)
    assert audit(page).findings == ()
    assert audit(page).not_checked == ()
    assert len(audit(page).read) == 1


@settings(max_examples=150, deadline=None)
@given(data=st.data(), layers=networks())
def test_a_correct_list_has_no_findings(data: st.DataObject, layers: list[Layer]) -> None:
    page = unmarked(data.draw(lists(layers)))
    note(page)
    assert audit(page).findings == ()
    assert audit(page).not_checked == ()
    assert len(audit(page).read) == 1


REFERENCE = Path(__file__).parents[1] / "golden" / "reference"


def published(name: str) -> list[Module]:
    with (REFERENCE / f"{name}.tsv").open(encoding="utf-8") as file:
        return [
            (
                row["layer"].partition("-")[0],
                tuple(map(int, row["output_shape"].split(",")[1:])),
                int(row["params"]),
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]


@pytest.mark.parametrize("layout", TABLES, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("name", ["gap-6k", "squeeze-7k", "flatten-18k", "linear-19k", "gap-11k"])
def test_a_published_network_adds_up_in_every_layout(
    name: str, layout: Callable[[list[Module]], str]
) -> None:
    marked = layout(published(name))
    page = unmarked(marked)
    assert audit(page).findings == ()
    assert audit(page).not_checked == ()
    (read,) = audit(page).read
    total = re.findall("Total[^\u27e6]*\u27e6([0-9,]*)", marked)[0]
    (finding,) = audit(
        page.replace(f" {total}", " 13,808")
        .replace(f"{total}*", "13,808*")
        .replace(f">{total}<", ">13,808<")
    ).findings
    assert "13,808" in finding.stated
    assert total.replace(",", "") in finding.follows.replace(",", "")
    assert read.text in f"a layer table{finding.follows.removeprefix('the rows')}"


def named(finding: Finding) -> set[int]:
    """The lines that a finding names, those between the first and last row of a sum too."""
    lines = {finding.line, *finding.related}
    for first, last in re.findall(r"lines (\d+) to (\d+)", finding.follows):
        lines |= set(range(int(first), int(last) + 1))
    return lines


# Not found are numbers that make sense together: a map of 24x28 may come of an input of that size,
# a first convolution with one more channel in its kernel, and where a list states no stride, there
# may be one that fits.
@pytest.mark.parametrize(
    ("layout", "least"),
    [*((layout, 0.85) for layout in TABLES), *((layout, 1.0) for layout in WINDOWS), (None, 0.8)],
    ids=lambda layout: getattr(layout, "__name__", None),
)
def test_a_wrong_number_is_one_finding_that_names_its_line(
    layout: Callable[..., str] | None, least: float
) -> None:
    count = Counter[bool]()

    @settings(
        max_examples=150,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(networks(), st.data(), st.integers(0, 10_000), st.integers(1, 9))
    def plant(layers: list[Layer], data: st.DataObject, index: int, by: int) -> None:
        marked = data.draw(lists(layers)) if layout is None else render(layout, layers)
        page, line = change(marked, index, by)
        note(page)
        found = audit(page).findings
        assert len(found) <= 1
        assert all(line in named(finding) for finding in found)
        count[bool(found)] += 1

    plant()
    assert count[True] >= least * count.total(), count
