"""An audit finds the contradictions in the published pages, and none in correct ones."""

import csv
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchinfo import summary as torchinfo_summary

from smidgen.profiling import profile
from smidgen.report.audit import Finding, audit

PAGES = Path(__file__).parents[1] / "golden" / "pages"
REFERENCE = Path(__file__).parents[1] / "golden" / "reference"
SOUND = ["gap-6k", "squeeze-7k", "flatten-18k", "linear-19k"]


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def findings(text: str) -> tuple[Finding, ...]:
    return audit(text).findings


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.split("\n"), start=1) if part in line)


def published(name: str) -> str:
    return "\n".join(line for line in page(name).split("\n") if line[-1:].isdigit())


@pytest.mark.parametrize("name", [*SOUND, "gap-11k"])
def test_the_pages_hold_the_published_tables(name: str) -> None:
    with (REFERENCE / f"{name}.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        shape = "[" + row["output_shape"].replace(",", ", ") + "]"
        cells = [row["layer"], *shape.split(), f"{int(row['params']):,}"]
        assert any(line.split() == cells for line in page(name).split("\n")), row


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_page_has_no_findings(name: str) -> None:
    assert findings(page(name)) == ()


def test_both_contradictions_in_the_published_gap_11k_are_found_and_nothing_else() -> None:
    text = page("gap-11k")
    total, field = findings(text)
    assert total.line == line_of(text, "Total params")
    assert "13,808" in total.stated
    assert "11,312" in total.follows
    assert field.line == line_of(text, "| 8 |")
    assert "20" in field.stated
    assert "22 (18 + 2 * 2)" in field.follows
    assert str(total).startswith(f"line {total.line}: the stated total is 13,808 parameters, but")


def test_a_total_that_is_stated_twice_is_one_finding() -> None:
    text = page("gap-11k").replace("# gap-11k\n", "# gap-11k\n\n**Total parameters:** 13,808\n")
    total = findings(text)[0]
    assert (total.line, total.related) == (3, (line_of(text, "Total params:"),))


def test_a_second_total_from_another_network_is_found() -> None:
    text = page("squeeze-7k") + "\nTotal params: 593,200\nTrainable params: 593,200\n"
    (finding,) = findings(text)
    assert finding.line == line_of(text, "593,200")
    assert "7,904" in finding.follows


def test_two_networks_on_one_page_are_two_tables() -> None:
    text = page("gap-6k") + page("squeeze-7k")
    assert findings(text) == ()
    assert len(findings(text.replace("Total params: 7,904", "Total params: 6,850"))) >= 1


def test_padding_that_does_not_fit_its_sizes_is_found() -> None:
    header = "| layer type | kernel size | stride | padding | input size | output size |\n"
    rule = "|" + "---|" * 6 + "\n"
    rows = "| MaxPool2d | 2x2 | 2 | 0 | 24x24 | 12x12 |\n| Conv2d | 1x1 | 1 | 1 | 12x12 | 12x12 |\n"
    last = "| Conv2d | 5x5 | 1 | 0 | 12x12 | 8x8 |\n"
    (finding,) = findings(header + rule + rows + last)
    assert finding.line == 4
    assert "an output of 12x12" in finding.stated
    assert "gives 14x14; padding 0 would" in finding.follows


def test_a_table_in_markdown_is_read_as_one_in_a_code_block() -> None:
    rows = published("gap-6k").split("\n")
    cells = [row.replace(" [", " | [").replace("]", "] | ") for row in rows if "[" in row]
    table = "\n".join(f"| {row} |" for row in cells)
    text = (
        f"| Layer | Output Shape | Param # |\n|---|---|---|\n{table}\n| **Total** | | **6,850** |\n"
    )
    assert findings(text) == ()
    (finding,) = findings(text.replace("6,850", "6,851"))
    assert finding.line == 30


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("900\n", "901\n"),
        ("[-1, 10, 24, 24]             900", "[-1, 10, 25, 25]             900"),
        (
            "BatchNorm2d-7          [-1, 10, 24, 24]              20",
            "BatchNorm2d-7 [-1, 10, 24, 24] 10",
        ),
        ("ReLU-6          [-1, 10, 24, 24]", "ReLU-6          [-1, 10, 22, 22]"),
        ("Dropout-25            [-1, 30, 4, 4]               0", "Dropout-25 [-1, 30, 4, 4] 7"),
        ("MaxPool2d-9          [-1, 10, 12, 12]", "MaxPool2d-9          [-1, 12, 12, 12]"),
        ("AvgPool2d-26            [-1, 30, 1, 1]", "AvgPool2d-26            [-1, 30, 9, 9]"),
        ("Non-trainable params: 0", "Non-trainable params: 12"),
    ],
)
def test_one_wrong_cell_of_a_layer_table_is_found_in_its_row(old: str, new: str) -> None:
    text = page("gap-6k")
    assert old in text
    changed = text.replace(old, new, 1)
    wrong = next(
        n
        for n, (a, b) in enumerate(zip(text.split("\n"), changed.split("\n"), strict=True), 1)
        if a != b
    )
    (finding,) = findings(changed)
    assert wrong in (finding.line, *finding.related)


def test_a_linear_layer_is_compared_with_its_input_features() -> None:
    text = page("linear-19k").replace("2,570", "2,571").replace("19,602", "19,603")
    (finding,) = findings(text)
    assert "2,560, or 2,570 with biases" in finding.follows


STEPS = (
    (REFERENCE / "e_receptive_field.tsv").read_text(encoding="utf-8").replace("18\t20", "18\t22")
)


@pytest.mark.parametrize("row", range(1, 11))
@pytest.mark.parametrize("column", range(2, 11))
def test_one_wrong_cell_of_a_receptive_field_table_is_one_finding(row: int, column: int) -> None:
    sound = STEPS.replace(
        "\n9\tAvgPool\t6x6\t1\t0\t6x6\t1x1\t20", "\n9\tAvgPool\t6x6\t1\t0\t6x6\t1x1\t22"
    )
    assert findings(sound) == ()
    lines = [line.split("\t") for line in sound.rstrip().split("\n")]
    number = int(lines[row][column].split("x")[0])
    lines[row][column] = str(number + 7)
    (finding,) = findings("\n".join("\t".join(line) for line in lines))
    assert finding.line == row + 1


def test_columns_may_be_missing_and_in_any_order() -> None:
    text = "| RF | k | s | op |\n|---|---|---|---|\n| 3 | 3 | 1 | conv |\n| 4 | 2 | 2 | pool |\n"
    assert findings(text + "| 8 | 3 | 1 | conv |\n") == ()  # the strides tell the jump
    assert len(findings(text + "| 6 | 3 | 1 | conv |\n")) == 1
    header = "| jump out | rf | k | s | op |\n|---|---|---|---|---|\n"
    rows = "| 1 | 3 | 3 | 1 | conv |\n| 2 | 4 | 2 | 2 | pool |\n| 2 | 8 | 3 | 1 | conv |\n"
    assert findings(header + rows) == ()
    (finding,) = findings(header + rows.replace("| 8 |", "| 6 |"))
    assert "8 (4 + 2 * 2)" in finding.follows


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("The network has 6,851 parameters.", True),
        ("Parameter count: 6851", True),
        ("It has 6,850 parameters.", False),
        ("It must stay under 6,999 parameters.", False),
        ("The budget is 7,999 parameters.", False),
        ("It has < 7,999 parameters.", False),
        ("About 6,900 parameters.", False),
        ("It has 6.9k parameters, or 7,000 parameters.", False),
        ("Before, it had 16,558 parameters.", False),
        ("The last convolution layer has 2,700 parameters.", False),
        ("Total parameters: 7,999 at most", False),
    ],
)
def test_a_number_in_the_text_is_a_claim_unless_it_is_a_bound(sentence: str, found: bool) -> None:
    assert bool(findings(page("gap-6k") + f"\n{sentence}\n")) == found


def test_a_table_with_a_gap_is_not_summed() -> None:
    lines = page("gap-6k").split("\n")
    cut = [*lines[:12], "...", *lines[13:]]
    assert findings("\n".join(cut)) == ()


class Branching(nn.Module):
    """A residual block with a convolution in its shortcut, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.narrow = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.wide = nn.Conv2d(8, 6, 3, stride=2, bias=False)
        self.pad = nn.ZeroPad2d(1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.last = nn.Linear(6, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.first(images)
        x = torch.cat([x, self.narrow(x)], dim=1)
        x = self.pool(self.pad(self.wide(x)))
        return self.last(x.flatten(1))  # type: ignore[no-any-return]


class Twice(nn.Module):
    """A convolution that is called twice, a module that is not, and features."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4 * 26 * 26, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.again(self.again(self.first(images)))
        return self.last(x.flatten(1))  # type: ignore[no-any-return]


class Spare(nn.Sequential):
    """A network with parameters that no layer uses: only smidgen's own table says so."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
        self.scale = nn.Parameter(torch.ones(1234))


CHAIN = nn.Sequential(
    *(
        nn.Conv2d(1, 8, (3, 5), stride=2, padding=1),
        nn.InstanceNorm2d(8),
        nn.PReLU(),
        nn.Dropout2d(),
    ),
    *(nn.Conv2d(8, 12, 3, dilation=2), nn.MaxPool2d(3, 2, 1), nn.Conv2d(12, 12, 3, padding="same")),
    *(nn.Flatten(), nn.LazyLinear(10), nn.LogSoftmax(1)),
)


@pytest.mark.parametrize(
    "network", [Branching(), CHAIN, Twice()], ids=["branching", "chain", "twice"]
)
def test_tables_that_tools_write_add_up(network: nn.Module) -> None:
    network.eval()
    network(torch.zeros(1, 1, 28, 28))
    ours = str(profile(network, (1, 28, 28)))
    assert findings(ours) == ()
    usual = ("output_size", "num_params")
    every = ("input_size", "output_size", "num_params", "kernel_size", "mult_adds")
    for columns in (usual, every, ("kernel_size", *usual)):
        theirs = str(torchinfo_summary(network, (1, 1, 28, 28), verbose=0, col_names=columns))
        assert findings(f"```\n{theirs}\n```\n") == ()
        total = sum(p.numel() for p in network.parameters())
        wrong = theirs.replace(f"Total params: {total:,}", f"Total params: {total + 1:,}")
        (finding,) = findings(wrong)
        assert f"the stated total is {total + 1:,}" in finding.stated


KERAS = """```
 Layer (type)                Output Shape              Param #
=================================================================
 input_1 (InputLayer)        [(None, 28, 28, 1)]       0

 conv2d (Conv2D)             (None, 26, 26, 8)         80

 max_pooling2d (MaxPooling2  (None, 13, 13, 8)         0
 D)

 batch_normalization (BatchN  (None, 13, 13, 8)        32
 ormalization)

 global_average_pooling2d (G  (None, 8)                0
 lobalAveragePooling2D)

 dense (Dense)               (None, 10)                90
=================================================================
Total params: 202 (808.00 B)
Trainable params: 186 (744.00 B)
Non-trainable params: 16 (64.00 B)
```"""


def test_a_table_of_keras_with_names_that_are_cut_off() -> None:
    found = audit(KERAS)
    assert (found.findings, found.not_checked) == ((), ())
    for old, new in [("26, 26, 8", "27, 27, 8"), (" 90\n", " 91\n"), ("(None, 8)", "(None, 9)")]:
        (finding,) = findings(KERAS.replace(old, new))
        place = line_of(KERAS.replace(old, new), new.strip())
        assert place in (finding.line, *finding.related)


def test_what_the_optimizer_of_keras_stores_is_not_in_the_rows() -> None:
    text = KERAS.replace("Total params: 202", "Total params: 576").replace(
        "16 (64.00 B)\n", "16 (64.00 B)\nOptimizer params: 374 (1.46 KB)\n"
    )
    assert findings(text) == ()
    (finding,) = findings(text.replace("374", "375"))
    assert "576" in finding.stated


def test_html_with_a_line_for_each_cell_is_a_table() -> None:
    cells = [("Layer", "Output Shape", "Params"), ("Conv2d", "8x26x26", "72"), ("Total", "", "80")]
    text = "".join("<tr>\n<td>" + "</td>\n<td>".join(row) + "</td>\n</tr>\n" for row in cells)
    (finding,) = findings(f"<table>\n{text}</table>")
    assert finding.line == 12
    assert "add up to 72" in finding.follows


def test_a_note_declares_parameters_that_no_row_has() -> None:
    text = str(profile(Spare().eval(), (1, 28, 28)))
    assert "1,234" in text
    assert findings(text) == ()


PIECES = st.sampled_from(
    [
        *published("gap-11k").split("\n")[:6],
        *page("gap-11k").split("\n")[-8:],
        *(
            "```",
            "Total params: 9",
            "total 7",
            "| Layer | Kernel | Stride | RF | Jump Out |",
            "...",
            "[[",
            "---",
        ),
        *(
            "Conv2d-1 [-1, 0, 0] 0",
            "Linear: 1-1 [[], 1] --",
            "Figure (1, 2) 30",
            "| 1 | 0x0 | 0 | 1 | 2 |",
            "1 parameters",
        ),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES | st.text(max_size=40), max_size=25))
def test_any_text_gives_findings_or_none(lines: list[str]) -> None:
    for finding in findings("\n".join(lines)):
        assert str(finding)
        assert all(
            1 <= number <= len("\n".join(lines).split("\n"))
            for number in (finding.line, *finding.related)
        )


@pytest.mark.parametrize(
    "unit",
    [
        *("[", "Conv2d-1 [", "1,", "| ", "- ", "Conv2d-1 [-1, 8, 9, 9] 72\n", "<tr>", "<li>", "<"),
        *("# Layer 1 ", "Layer 1\n- Kernel: 3\n", "a ", "2x", "; a", "<!--", "Kernel size "),
    ],
)
def test_a_long_page_is_read_quickly(unit: str) -> None:
    begun = time.perf_counter()
    findings(unit * (100_000 // len(unit)))
    assert time.perf_counter() - begun < 5
