"""Error messages for shapes that do not fit."""

import pytest
import torch
from small_nets import Function
from torch import nn

from smidgen.errors import ModelError
from smidgen.profiling import profile


def message(net: nn.Module, shape: tuple[int, ...] = (2, 8, 8)) -> list[str]:
    with pytest.raises(ModelError) as caught:
        profile(net, shape)
    return str(caught.value).splitlines()


def test_the_layer_that_failed_and_those_that_ran() -> None:
    net = nn.Sequential(nn.Conv2d(2, 10, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(16, 8, 3)))
    assert message(net) == [
        "Conv2d-3 (2.0) does not fit its input of (10, 6, 6): expected 16 channels, got 10.",
        "Layers that ran before it:",
        "  Conv2d-1 (0) returned (10, 6, 6)",
        "  ReLU-2 (1) returned (10, 6, 6)",
    ]


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (
            nn.Conv2d(2, 4, 11, padding=1),
            "its window of 11x11 does not fit into 10x10, padding included.",
        ),
        (nn.Conv2d(2, 4, 5, dilation=2), "its window of 9x9 does not fit into 8x8."),
        (nn.Conv2d(3, 4, 3, padding="same"), "expected 3 channels, got 2."),
        (nn.MaxPool2d(9), "its window of 9x9 does not fit into 8x8."),
        (nn.Linear(72, 10), "expected 72 features in the last dimension, got 8."),
        (nn.BatchNorm2d(3), "expected 3 channels, got 2."),
        (nn.GroupNorm(2, 4), "expected 4 channels, got 2."),
        (nn.LayerNorm(7), "expected (7,) as the last dimensions, got (8,)."),
        (nn.Unflatten(1, (3, 3)), "forward raised: "),
        (nn.Conv1d(2, 2, 1), "expected (channels, length)."),
    ],
)
def test_expected_and_given_shape(layer: nn.Module, problem: str) -> None:
    first, rest = message(layer)
    assert first.startswith(
        f"{type(layer).__name__}-1 does not fit its input of (2, 8, 8): {problem}"
    )
    assert rest == "No layer ran."


def test_a_flattened_map_instead_of_a_map() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm2d(2))
    assert message(net)[0].endswith("input of (128,): expected (channels, height, width).")


def test_a_function_that_raises() -> None:
    net = Function(lambda m, x: m.conv(x) + torch.zeros(5), conv=nn.Conv2d(2, 2, 3))
    assert message(net) == [
        "The forward of Function failed at add of (1, 2, 6, 6) and (5,): The size of tensor a "
        "(6) must match the size of tensor b (5) at non-singleton dimension 3.",
        "Layers that ran before it:",
        "  Conv2d-1 (conv) returned (2, 6, 6)",
    ]
