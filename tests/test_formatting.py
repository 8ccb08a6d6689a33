import pytest

from smidgen.formatting import html_table, markdown_table, percent, ruled_table, seconds


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10.0, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3725, "62 min 5 s"),
    ],
)
def test_durations(value: float, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0.00 %"), (0.9946, "99.46 %"), (1 / 3, "33.33 %"), (1, "100.00 %")]
)
def test_percentages(share: float, shown: str) -> None:
    assert percent(share) == shown


def test_markdown_table_escapes_bars() -> None:
    table = markdown_table(["a|b", "c"], [["1", "two\nlines"]])
    assert table.splitlines() == [
        "| a\\|b | c         |",
        "|------|-----------|",
        "| 1    | two lines |",
    ]


def test_an_html_table_escapes_its_cells() -> None:
    table = html_table(["<b>"], [["a & b"], ["c"]])
    assert "<th>&lt;b&gt;</th>" in table
    assert "<tr><td>a &amp; b</td></tr>\n<tr><td>c</td></tr>" in table


def test_a_wide_ruled_table_has_narrower_gaps() -> None:
    assert ruled_table(["a", "b"], [["1", "2"]]).splitlines()[1] == "a  b"
    assert ruled_table(["a" * 60, "b" * 40], []).splitlines()[1] == "a" * 60 + " " + "b" * 40
