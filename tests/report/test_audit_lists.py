"""Layers that a page describes one by one, each with a heading and a list, are compared."""

from pathlib import Path

import pytest

from smidgen.report.audit import audit

PAGE = Path(__file__).parents[1] / "golden" / "pages" / "linear-19k-layers.md"
PUBLISHED = PAGE.read_text(encoding="utf-8")
SOUND = PUBLISHED.replace("* **Padding**: 1", "* **Padding**: 0")
TABLE = (PAGE.parent / "linear-19k.md").read_text(encoding="utf-8")


def line_of(text: str, layer: int, key: str) -> int:
    lines = text.split("\n")
    start = next(n for n, line in enumerate(lines) if f"Layer {layer}" in line)
    return next(n for n, line in enumerate(lines, start=1) if n > start and key in line)


def test_the_published_padding_of_the_fourth_layer_is_the_only_finding() -> None:
    found = audit(PUBLISHED + TABLE)
    (finding,) = found.findings
    assert finding.line == line_of(PUBLISHED, 4, "Output dimension")
    assert line_of(PUBLISHED, 4, "Padding") in finding.related
    assert finding.text.startswith(
        "layer 4 (1x1 Conv2d -> BatchNorm) states an output of 12x12, but an input of 12x12 with "
        "kernel 1, padding 1 gives 14x14 at stride 1, and no stride gives 12x12; padding 0 would"
    )
    assert found.not_checked == ()
    assert [remark.text.split(" in ")[0] for remark in found.read] == [
        "a list of layers",
        "a layer table",
    ]


def test_the_corrected_list_has_no_findings() -> None:
    assert audit(SOUND + TABLE).findings == ()


@pytest.mark.parametrize(
    ("layer", "old", "new", "said"),
    [
        (
            2,
            "**Input dimension**: 26x26",
            "**Input dimension**: 28x28",
            "layer 1 above gives 26x26",
        ),
        (5, "**Input Channel size**: 8", "**Input Channel size**: 16", "layer 4 above gives 8"),
        (3, "**Output Channel size**: 32", "**Output Channel size**: 64", "a pool keeps the 32"),
        (5, "**Kernel**: 5x5", "**Kernel**: 4x4", "an input of 12x12 with kernel 4"),
        (8, "**Input Channel size**: 256", "**Input Channel size**: 512", "layer 7 above gives 16"),
    ],
)
def test_a_wrong_value_is_found_in_its_layer(layer: int, old: str, new: str, said: str) -> None:
    before, heading, after = SOUND.partition(f"### Layer {layer}")
    text = before + heading + after.replace(old, new, 1)
    (finding,) = audit(text).findings
    key = old.partition(":")[0]
    assert line_of(text, layer, key) in (finding.line, *finding.related)
    assert said in finding.follows


def test_a_stated_total_is_compared_with_the_table_of_the_page() -> None:
    text = f"{SOUND}\nThe network has 19,802 parameters.\n{TABLE}"
    (finding,) = audit(text).findings
    assert "19,802" in finding.stated
    assert "19,602" in finding.follows


@pytest.mark.parametrize(
    ("value", "remark"),
    [
        ("Kernel: as above", "Kernel 'as above' is not a number or size"),
        ("Network: Conv2d 3x3 -> Conv2d 3x3", "is more than one convolution or pool"),
        ("Padding: depends on the input", "Padding 'depends on the input' is not a number or size"),
    ],
)
def test_what_cannot_be_read_is_not_checked(value: str, remark: str) -> None:
    key = value.partition(":")[0]
    stated = {
        "Network": "Conv2d",
        "Kernel": "3x3",
        "Padding": "0",
        "Input dimension": "28x28",
        "Output dimension": "26x26",
    }
    lines = [f"- {name}: {item}" for name, item in stated.items() if name != key]
    found = audit("\n".join(["## Layer 1", f"- {value}", *lines]))
    assert found.findings == ()
    assert any(remark in note.text for note in found.not_checked)


@pytest.mark.parametrize(
    "text",
    [
        "Layer 4 is too wide: kernel 3, padding 0, and 12 channels of output.",
        "In layer 2 we use kernel: 3x3 and padding: 1.\n- Input size: 28\n- Output size: 3\n",
        "# Layers\n\n- Kernel: 3x3\n- Padding: 0\n- Input size: 28x28\n- Output size: 28x28\n",
        "Layer 1\n\nA convolution.\n\n# Next\n- Input size: 28\n- Kernel: 3\n- Output size: 28\n",
        "## Layer 1\n\nA convolution.\n\n## Results\n\n- Input size: 28x28\n- Output size: 3x3\n",
    ],
)
def test_other_prose_and_lists_are_not_read(text: str) -> None:
    found = audit(text)
    assert (found.findings, found.not_checked, found.read) == ((), (), ())


def test_a_layer_of_two_steps_is_not_checked() -> None:
    lines = ["## Layer 1", "- Kernel: 3x3", "- Padding: 0", "- Input size: 28x28"]
    steps = ["- Max pooling: 2x2", "- Kernel: 2x2"]
    for step in steps:
        found = audit("\n".join([*lines, step, "- Output size: 13x13"]))
        assert found.findings == ()
        assert found.not_checked


def test_a_second_network_begins_anew() -> None:
    assert audit(SOUND + SOUND).findings == ()
    assert len(audit(SOUND + SOUND).read) == 2


def test_layers_that_are_left_out_are_not_compared() -> None:
    before, _, after = SOUND.partition("### Layer 3")
    assert audit(before + "### Layer 4" + after.partition("### Layer 4")[2]).findings == ()


def test_number_of_parameters_is_compared_with_kernel_and_channels() -> None:
    text = SOUND.replace("* **Padding**: 0\n", "* **Padding**: 0\n* **Parameters**: 320\n", 1)
    assert audit(text).findings == ()
    (finding,) = audit(text.replace("320", "325")).findings
    assert "a 3x3 convolution from 1 to 32 channels has 288, or 320 with biases" in finding.follows
