"""The graph of a network computes what the network computes, or is refused by name."""

from collections.abc import Callable

import pytest
import torch
from exported_networks import MEAN, STD, Functional, PooledPixels, trained
from torch import Tensor, nn

from smidgen.errors import ModelError
from smidgen.exporters.graph import Convolution, Graph
from smidgen.exporters.quantization import GraphNetwork
from smidgen.exporters.tracing import graph_of
from smidgen.models.chain import build_chain


def graph_network(network: nn.Module, shape: tuple[int, int, int]) -> tuple[Graph, Tensor, Tensor]:
    """The graph, the network's scores and the graph's for the same random pixels."""
    channels = shape[0]
    graph = graph_of(network, shape, MEAN[:channels], STD[:channels])
    pixels = torch.randint(0, 256, (7, *shape), generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v[:channels])[:, None, None] for v in (MEAN, STD))
    with torch.no_grad():
        expected = network((pixels / 255 - mean) / std)
        executed = GraphNetwork(graph)
        return graph, expected, executed(executed.centered(pixels))


@pytest.mark.parametrize(
    "chain",
    [
        "6 6 M 8,p1 8,p1,r G",
        "4,s2,p1 8,d,p1,s2 6,k1 A 5,k2 F",
        "5,k5,p2 5,k3,p1,r M3 7,k2 G",
        "3 G",
    ],
)
def test_graphs_of_chains_give_the_same_scores(chain: str) -> None:
    shape = (1, 20, 17)
    _, expected, scores = graph_network(trained(build_chain(chain, shape, 10)), shape)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [Functional, PooledPixels])
def test_graphs_of_modules_give_the_same_scores(make: Callable[[], nn.Module]) -> None:
    graph, expected, scores = graph_network(trained(make()), (3, 12, 16))
    if make is Functional:
        scores = scores.log_softmax(1)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    assert graph.num_classes == expected.shape[1]


def test_norms_after_an_activation_become_scale_and_shift_of_the_layer() -> None:
    norm_first = trained(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    relu_first = trained(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)))
    for network, has_affine in ((norm_first, False), (relu_first, True)):
        network.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])  # type: ignore[operator]
        graph = graph_of(network, (1, 9, 9), (0.5,), (0.5,))
        first, _ = graph.layers
        assert isinstance(first, Convolution)
        assert first.has_affine is has_affine


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2d(1, 2, 3), nn.GELU(), nn.Flatten()], "GELU 1 .*cannot be exported"),
        ([nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, ceil_mode=True)], "MaxPool2d 1 .*ceil_mode"),
        ([nn.AvgPool2d(3, padding=1, count_include_pad=False)], "AvgPool2d 0 .*count_include_pad"),
        ([nn.Conv2d(1, 2, 3, padding="same")], "Conv2d 0 has padding 'same'"),
        ([nn.Conv2d(1, 2, 3)], r"output is not \(batch, classes\)"),
        ([nn.Flatten(), nn.Linear(81, 3), nn.Softmax(1), nn.Linear(3, 3)], "follows Softmax 2"),
        ([nn.Flatten(0), nn.Linear(162, 3)], "reshapes"),
    ],
)
def test_what_cannot_be_exported_is_named(layers: list[nn.Module], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        graph_of(nn.Sequential(*layers), (1, 9, 9), (0.5,), (0.5,))
