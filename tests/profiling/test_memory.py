"""Activation memory: small networks by hand, reference networks against recorded tensors."""

from itertools import pairwise

import pytest
import torch
from small_nets import NETS, SHAPE, Function
from torch import nn

from smidgen.models import REFERENCE
from smidgen.profiling import profile


def bytes_of(net: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    made = profile(net, shape)
    return made.peak_activation_bytes, made.largest_buffer_bytes


def test_input_and_output_of_a_convolution_are_alive_together() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 1, 1))
    assert bytes_of(net, (2, 5, 5)) == (25 * 4 * (4 + 8), 25 * 4 * 8)


def test_a_pointwise_operator_overwrites_its_input() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout())
    assert bytes_of(net, (2, 5, 5)) == (25 * 4 * 6, 25 * 4 * 4)


def test_the_input_of_a_skip_connection_is_alive_until_it_is_added() -> None:
    net = Function(
        lambda m, x: m.b(torch.relu(m.a(x))) + x, a=nn.Conv2d(2, 6, 1), b=nn.Conv2d(6, 2, 1)
    )
    assert bytes_of(net, (2, 5, 5)) == (25 * 4 * (2 + 6 + 2), 25 * 4 * 6)


def test_a_pointwise_operator_does_not_overwrite_an_input_that_is_read_later() -> None:
    net = Function(lambda m, x: m.a(torch.relu(x)) + x, a=nn.Conv2d(2, 2, 1))
    assert bytes_of(net, (2, 5, 5)) == (25 * 4 * 6, 25 * 4 * 2)


def test_indices_of_a_max_pool_and_views_take_no_memory() -> None:
    net = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
    assert bytes_of(net, (2, 4, 4)) == (4 * (32 + 8), 4 * 32)


def test_a_map_added_to_its_transpose_is_not_overwritten() -> None:
    net = Function(lambda m, x: x + x.transpose(2, 3))
    assert bytes_of(net, (1, 4, 4)) == (4 * 32, 4 * 16)


def test_a_network_without_operators_has_the_image() -> None:
    assert bytes_of(nn.Identity(), (1, 4, 4)) == (64, 64)


def test_double_precision_takes_twice_the_memory() -> None:
    net = Function(lambda m, x: x.double())
    assert bytes_of(net, (1, 4, 4)) == (64 + 128, 128)


def sequence_peak(net: nn.Module, shape: tuple[int, ...]) -> int:
    """The largest sum of two successive maps; for chains of layers only."""
    in_place = (nn.ReLU, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d)
    sizes: list[int] = [torch.Size(shape).numel()]

    def note(module: nn.Module, args: object, output: torch.Tensor) -> None:
        if not isinstance(module, in_place):
            sizes.append(output.numel())

    leaves = [part for part in net.modules() if not list(part.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    net.eval()(torch.rand(1, *shape))
    for hook in hooks:
        hook.remove()
    return 4 * max(a + b for a, b in pairwise(sizes))


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_networks_equal_the_sum_of_neighbors(name: str) -> None:
    net = REFERENCE[name]()
    assert profile(net, (1, 28, 28)).peak_activation_bytes == sequence_peak(net, (1, 28, 28))


@pytest.mark.parametrize("name", NETS)
def test_the_largest_buffer_is_between_the_image_and_the_peak(name: str) -> None:
    peak, largest = bytes_of(NETS[name](), SHAPE)
    assert 4 * 2 * 24 * 20 <= largest <= peak
