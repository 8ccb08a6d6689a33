"""What a person reads when shapes do not fit."""

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
        "Conv2d-3 (2.0) got (10, 6, 6); it wants 16 channels.",
        "Before it ran:",
        "  Conv2d-1 (0) gave (10, 6, 6)",
        "  ReLU-2 (1) gave (10, 6, 6)",
    ]


@pytest.mark.parametrize(
    ("layer", "wants"),
    [
        (
            nn.Conv2d(2, 4, 11, padding=1),
            "its window of 11x11 does not fit into 10x10 with its padd",
        ),
        (nn.Conv2d(2, 4, 5, dilation=2), "its window of 9x9 does not fit into 8x8."),
        (nn.Conv2d(3, 4, 3, padding="same"), "it wants 3 channels."),
        (nn.MaxPool2d(9), "its window of 9x9 does not fit into 8x8."),
        (nn.Linear(72, 10), "it wants 72 features in the last place."),
        (nn.BatchNorm2d(3), "it wants 3 channels."),
        (nn.GroupNorm(2, 4), "it wants 4 channels."),
        (nn.LayerNorm(7), "it wants (7,) in the last places."),
        (nn.Unflatten(1, (3, 3)), "it fails: "),
        (nn.Conv1d(2, 2, 1), "it wants (channels, length)."),
    ],
)
def test_what_it_wants(layer: nn.Module, wants: str) -> None:
    first, rest = message(layer)
    assert first.startswith(f"{type(layer).__name__}-1 got (2, 8, 8); {wants}")
    assert rest == "No layer ran before it."


def test_a_flattened_map_where_a_map_is_wanted() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm2d(2))
    assert message(net)[0].startswith("BatchNorm2d-2 (1) got (128,); it wants")


def test_a_function_that_fails() -> None:
    net = Function(lambda m, x: m.conv(x) + torch.zeros(5), conv=nn.Conv2d(2, 2, 3))
    assert message(net) == [
        "The forward of Function fails at add, which got (1, 2, 6, 6) and (5,): The size of tensor "
        "a (6) must match the size of tensor b (5) at non-singleton dimension 3.",
        "Before it ran:",
        "  Conv2d-1 (conv) gave (2, 6, 6)",
    ]
