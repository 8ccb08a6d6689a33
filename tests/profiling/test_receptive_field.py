"""Receptive fields against an independent probe: one line of the image at a time is NaN."""

import math
from typing import Any

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from small_nets import NETS, SHAPE, Function
from torch import Tensor, nn

from smidgen.models import REFERENCE
from smidgen.profiling import profile
from smidgen.profiling.receptive_field.propagation import FieldPropagation
from smidgen.profiling.receptive_field.span import Span
from smidgen.profiling.trace import Operator, trace


def depends_on(net: nn.Module, shape: tuple[int, ...], axis: int) -> Tensor:
    """Which lines of the image each output depends on: (lines, *output shape) of bool."""
    lines = shape[1 + axis]
    images = torch.rand(lines, *shape, dtype=torch.float64)
    for i in range(lines):
        images[i].select(1 + axis, i).fill_(math.nan)
    with torch.no_grad():
        out: Tensor = net.eval().double()(images)
    return out.isnan()


def output_spans(net: nn.Module, shape: tuple[int, ...]) -> tuple[Span, Span]:
    traced = trace(net, shape)
    propagation = FieldPropagation(traced.image)
    for step in traced.events:
        if isinstance(step, Operator):
            propagation.apply(step)
    assert propagation.notes == []
    spans = propagation.spans(traced.output)
    assert spans is not None
    return spans


def assert_equals_probe(net: nn.Module, shape: tuple[int, ...], dilated: bool = False) -> int:
    """Each output's span, clipped to the image, is what the probe finds; how many were compared.

    A dilated window can skip the lines at the border, so there the probe may find less.
    """
    compared = 0
    for axis, span in enumerate(output_spans(net, shape)):
        seen = depends_on(net, shape, axis)
        if seen.ndim == 4:  # one channel alone may see less, and a column in padding nothing
            seen = seen.any(1).any(2 - axis)  # (lines, outputs along the axis)
            ends = [t.expand(span.shape)[0, 0].amax(1 - axis) for t in (span.first, span.last)]
        else:
            seen = seen.flatten(1).any(1)[:, None]
            ends = [span.first.flatten()[:1], span.last.flatten()[:1]]
        for line, start, end in zip(seen.T, *(t.tolist() for t in ends), strict=True):
            found = line.nonzero().flatten().tolist()
            clipped = (max(start, 0), min(end, shape[1 + axis] - 1))
            if not dilated or clipped == (start, end):
                assert (found[0], found[-1]) == clipped
                compared += 1
            else:
                assert not found or (found[0] >= clipped[0] and found[-1] <= clipped[1])
    return compared


@pytest.mark.parametrize("name", NETS)
def test_equals_the_probe(name: str) -> None:
    assert assert_equals_probe(NETS[name](), SHAPE, dilated=name == "dilated")


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_networks_equal_the_probe(name: str) -> None:
    assert assert_equals_probe(REFERENCE[name](), (1, 28, 28))


@st.composite
def stacks(draw: st.DrawFn) -> nn.Sequential:
    """A few convolutions and pools with random windows."""
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        if draw(st.booleans()):
            padding, dilation = draw(st.integers(0, 1)), draw(st.integers(1, 2))
            layers.append(nn.Conv2d(1, 1, kernel, stride, padding, dilation))
        else:
            layers.append(draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(kernel, stride))
    return nn.Sequential(*layers)


@given(net=stacks())
@settings(max_examples=25, deadline=None)
def test_random_stacks_equal_the_probe(net: nn.Sequential) -> None:
    event(f"{len(net)} layers")
    # 40 by 41 pixels fit three windows of up to 5 with stride 2, and leave fields off the border
    assert assert_equals_probe(net, (1, 40, 41), dilated=True) >= 2


def test_rows_have_vertical_and_horizontal_fields() -> None:
    [row, pool] = profile(NETS["uneven"](), SHAPE).layers
    assert (row.rf_in, row.rf_out, row.jump_in, row.jump_out) == ((1, 1), (5, 1), (1, 1), (2, 1))
    assert (pool.rf_out, pool.jump_out) == ((5, 3), (2, 3))


@pytest.mark.parametrize(
    ("function", "word", "measured"),
    [
        (lambda m, x: nn.functional.interpolate(x, scale_factor=2), "upsample_nearest2d", (1, 1)),
        (lambda m, x: x.flip(2), "flip", (1, 1)),
        (lambda m, x: x + x.new_zeros(x.shape).copy_(x)[:, :, :, [0]], "index", (1, 20)),
        (lambda m, x: nn.functional.pixel_unshuffle(x, 2), "pixel_unshuffle", (1, 1)),
        (lambda m, x: x.reshape(1, 2, 6, 4, 20), "view", None),  # takes one image only
    ],
)
def test_an_operator_without_a_rule_is_named_and_probed(
    function: Any, word: str, measured: Any
) -> None:
    net = nn.Sequential(Function(function, norm=nn.BatchNorm2d(2)), nn.ReLU())
    made = profile(net, SHAPE)
    assert made.layers[-1].rf_out == measured
    assert made.layers[-1].rf_probed == (measured is not None)
    assert made.layers[-1].jump_out is None
    assert f"from {word} on" in made.notes[0]
    assert (measured is not None) == any("by a probe" in note for note in made.notes)


def test_a_tensor_written_in_pieces_is_unknown() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        out[:, :1] = x[:, 1:]
        return out * 2

    made = profile(Function(forward), SHAPE)
    assert (made.layers[-1].rf_out, made.layers[-1].rf_probed) == ((1, 1), True)
    assert "written in place by copy" in made.notes[0]


def test_inputs_other_than_images_have_no_field() -> None:
    made = profile(nn.Linear(12, 3), (12,))
    assert made.layers[0].rf_out is None
    assert "(channels, height, width)" in made.notes[0]
