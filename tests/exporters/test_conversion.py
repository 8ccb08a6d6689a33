"""The integer network of a calibrated one gives its scores, up to rounding."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from exported_networks import MEAN, NETWORKS, SHAPE, STD, trained
from torch import nn

from smidgen.exporters.conversion import to_integers
from smidgen.exporters.integer import IntegerConvolution, IntegerNetwork
from smidgen.exporters.quantization import GraphNetwork, fine_tune
from smidgen.exporters.tracing import graph_of


def calibrated(network: nn.Module, bits: int) -> tuple[GraphNetwork, torch.Tensor]:
    """A calibrated network and the pixels that it was calibrated with."""
    graph = graph_of(trained(network), SHAPE, MEAN, STD)
    made = GraphNetwork(graph, bits)
    pixels = torch.randint(0, 256, (40, *SHAPE), generator=torch.Generator().manual_seed(2))
    made.calibrate(made.centered(pixels))
    return made, pixels


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_integers_give_the_scores_of_the_rounded_network(name: str, bits: int) -> None:
    network, pixels = calibrated(NETWORKS[name](), bits)
    with torch.no_grad():
        rounded = network(network.centered(pixels)).numpy()
    integers = to_integers(network)
    scores = integers.scores(pixels.numpy().astype(np.uint8))
    last = integers.layers[-1]
    real = last.scale * (scores.astype(np.float64) - last.zero_point)
    steps = np.abs(real - rounded) / last.scale
    assert steps.max() < 6.5
    assert np.mean(steps <= 1.01) >= 0.9


def test_all_integers_fit_their_types() -> None:
    integers = to_integers(calibrated(NETWORKS["residual"](), 4)[0])
    for layer in integers.layers:
        if isinstance(layer, IntegerConvolution):
            assert abs(layer.weight).max() <= 7
            assert worst_t(integers, layer) < 1 << 15


def worst_t(integers: IntegerNetwork, layer: IntegerConvolution) -> int:
    """The largest |t| that any int8 input can cause."""
    sums = 128 * np.abs(layer.weight.astype(np.int64)).sum((1, 2, 3))
    t = (sums >> layer.requantize.pre_shift) + 1 + np.abs(layer.requantize.bias.astype(np.int64))
    return int(t.max())


def test_fine_tuning_with_two_bit_weights_learns_the_labels() -> None:
    network, pixels = calibrated(NETWORKS["residual"](), 2)
    images = network.centered(pixels)
    labels = torch.arange(len(images)) % 5
    with torch.no_grad():
        before = F.cross_entropy(network(images), labels)
    fine_tune(network, ((images, labels) for _ in range(60)), 60)
    with torch.no_grad():
        after = F.cross_entropy(network(images), labels)
    assert after < 0.97 * before
