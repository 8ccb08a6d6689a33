from collections.abc import Callable
from dataclasses import replace

import pytest
from torch import nn

from smidgen.models import REFERENCE
from smidgen.profiling import profile
from smidgen.record.profile import layer_table, receptive_field_table, totals


def numbers(text: str) -> list[int]:
    return [int(word.replace(",", "")) for word in text.split() if word.replace(",", "").isdigit()]


@pytest.mark.parametrize("name", REFERENCE)
def test_printed_columns_add_up_to_the_printed_totals(name: str) -> None:
    made = profile(REFERENCE[name](), (1, 28, 28))
    rows = [line.rpartition("]")[2] for line in layer_table(made).splitlines() if "]" in line]
    params, macs, _ = zip(*(numbers(row) for row in rows), strict=True)
    lines = dict(line.split("  ", 1) for line in totals(made).splitlines())
    assert numbers(lines["Total params"]) == [sum(params)]
    assert numbers(lines["MACs (one image)"]) == [sum(macs)]
    trainable, fixed = lines["Trainable params"], lines["Non-trainable params"]
    assert numbers(trainable)[0] + numbers(fixed)[0] == sum(params)


@pytest.mark.parametrize("name", REFERENCE)
def test_fits_a_terminal(name: str) -> None:
    lines = str(profile(REFERENCE[name](), (1, 28, 28))).splitlines()
    assert max(map(len, lines)) < 100
    assert all(line.isascii() for line in lines)


def test_golden_summary(golden: Callable[[str, str], None]) -> None:
    golden("summary-gap-6k.txt", str(profile(REFERENCE["gap-6k"](), (1, 28, 28))))


def test_unknown_values_are_question_marks() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, (3, 5)), nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3))
    made = profile(net, (1, 9, 9))
    table = receptive_field_table(made).splitlines()
    assert table[3].split()[7:9] == ["1", "3x5"]
    assert table[4].split()[1:] == [
        *("Conv2d", "3x3", "1", "0", "14x10", "12x8"),
        *("?", "4x6*", "?", "?"),
    ]
    assert "Note: The receptive field is not known from upsample_nearest2d on" in totals(made)
    assert "marked * are measured by a probe" in " ".join(totals(made).split())


def test_a_notebook_shows_the_same_numbers_as_tables() -> None:
    made = profile(REFERENCE["gap-6k"](), (1, 28, 28))
    html = made._repr_html_()
    assert html.count("<table>") == 3
    for layer in made.layers:
        assert f"<td>{layer.name}</td>" in html
        assert f"<td>{layer.params:,}</td>" in html
    assert f"<td>{made.num_params:,}</td>" in html
    noted = replace(made, notes=("a < b",))._repr_html_()
    assert "<td>a &lt; b</td>" in noted
