"""Flash and RAM of the C code, estimated before training and without a compiler."""

import copy
import json
from functools import cache
from importlib import resources

import torch
from torch import nn

from smidgen.exporters.c import code_summary
from smidgen.exporters.conversion import to_integers
from smidgen.exporters.graph import Shape
from smidgen.exporters.integer import IntegerNetwork
from smidgen.exporters.quantization import GraphNetwork
from smidgen.exporters.tracing import graph_of

_NUM_IMAGES = 4  # of noise, for a calibration whose result does not matter


def estimate(network: nn.Module, input_shape: Shape, target: str, bits: int) -> tuple[int, int]:
    """Bytes of flash and of RAM that the C code of an untrained network would need.

    Weights and tables are counted, and so is the working memory. The size of the code and the
    stack depend on what the code must be able to do: they were measured on other networks
    (benchmarks/code_sizes.py). `bits` are those of a weight: 8, 4 or 2.

    Raises:
        ModelError: the network has a layer that cannot be exported; names it.
    """
    return estimate_integers(untrained_integers(network, input_shape, bits), target)


def estimate_integers(network: IntegerNetwork, target: str) -> tuple[int, int]:
    """The same of an integer network."""
    summary = code_summary(network)
    sizes = _code_sizes()[target]
    code, stack = (
        sum(sizes[kind][name] for name in ("", *summary.features)) for kind in ("code", "stack")
    )
    return summary.data_bytes + round(code), summary.memory_bytes + round(stack)


@cache
def _code_sizes() -> dict[str, dict[str, dict[str, float]]]:
    """By target: bytes of code and of stack, of every network ("") and for each feature."""
    text = resources.files(__package__).joinpath("code_sizes.json").read_text(encoding="utf-8")
    sizes: dict[str, dict[str, dict[str, float]]] = json.loads(text)
    return sizes


def untrained_integers(network: nn.Module, input_shape: Shape, bits: int) -> IntegerNetwork:
    """An integer network of the shape that the trained one will have.

    Raises:
        ModelError: the network has a layer that cannot be exported; names it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = copy.deepcopy(network).cpu()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after training: no two channels are equal
                for values in (module.running_mean, module.bias):
                    if values is not None:
                        nn.init.normal_(values)
        means = [0.4 + 0.01 * channel for channel in range(input_shape[0])]
        graph = graph_of(network, input_shape, means, [0.5] * len(means))
        made = GraphNetwork(graph, bits)
        made.calibrate(made.centered(torch.randint(0, 256, (_NUM_IMAGES, *input_shape))))
    return to_integers(made)
