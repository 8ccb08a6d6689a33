"""Reads the graph of a torch network from the operators that torch.export finds in it."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from smidgen.errors import ModelError
from smidgen.exporters.graph import PIXELS, Convolution, Floats, Graph, Layer, Shape
from smidgen.exporters.operators import RULES, input_shape, label, new_convolution


def graph_of(
    network: nn.Module, input_shape: Shape, mean: Sequence[float], std: Sequence[float]
) -> Graph:
    """The graph of a trained network that takes images normalized with `mean` and `std`.

    A softmax or log-softmax at the end is left out: the scores before it have the same order.

    Raises:
        ModelError: the network has a layer that cannot be exported; names it.
    """
    program = _exported(network, input_shape)
    reader = Reader(program)
    for node in program.graph.nodes:
        reader.read(node)
    layers = [_without_std(layer, np.array(std)) for layer in reader.finish()]
    return Graph(tuple(layers), input_shape, tuple(mean))


def _without_std(layer: Layer, std: Floats) -> Layer:
    """A layer that reads the pixels, with the division by `std` in its weights."""
    if layer.inputs != (PIXELS,):
        return layer
    assert isinstance(layer, Convolution)
    by_group = std.reshape(layer.groups, -1)  # (groups, inputs / groups)
    divisors = by_group.repeat(len(layer.weight) // layer.groups, axis=0)
    return replace(layer, weight=layer.weight / divisors[:, :, None, None])


def _exported(network: nn.Module, input_shape: Shape) -> torch.export.ExportedProgram:
    images = torch.zeros(2, *input_shape)
    was_training = network.training
    logger = logging.getLogger("torch.export")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about torch
            program = torch.export.export(network.eval(), (images,))
            functional: torch.export.ExportedProgram = program.run_decompositions({})
        return functional  # in-place operators are gone
    except Exception as error:  # a user's forward may raise anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"torch.export cannot read the network: {first}") from None
    finally:
        logger.setLevel(level)
        network.train(was_training)


@dataclass(slots=True)
class Reader:
    """Reads the operators of an exported program one after the other."""

    program: torch.export.ExportedProgram
    layers: list[Layer] = field(default_factory=list)
    places: dict[torch.fx.Node, int] = field(default_factory=dict)
    """The layer that computes the value of each node."""
    values: dict[torch.fx.Node, Floats] = field(default_factory=dict)
    """Weights and buffers."""
    scores: torch.fx.Node | None = None
    ended_by: str | None = None
    """The softmax after which nothing may follow."""

    def read(self, node: torch.fx.Node) -> None:
        """Add what the node computes; a ModelError names what cannot be exported."""
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "output":
            (outputs,) = node.args
            if not isinstance(outputs, tuple | list) or len(outputs) != 1:
                raise ModelError("the network has more than one output, which cannot be exported.")
            self.scores = outputs[0] if isinstance(outputs[0], torch.fx.Node) else None
        elif node.op == "call_function":
            self._call(node)
        else:
            raise ModelError(f"{label(node)} cannot be exported.")

    def finish(self) -> list[Layer]:
        """All layers; a ModelError says why the last one does not give scores."""
        if self.scores is None or self.scores not in self.places:
            raise ModelError("the network's output does not depend on the images.")
        last = self.places[self.scores]
        if last != len(self.layers) - 1:
            raise ModelError("the network computes something after its scores.")
        if self.layers[last].shape[1:] != (1, 1):
            raise ModelError("the network's output is not (batch, classes).")
        return self.layers

    def _placeholder(self, node: torch.fx.Node) -> None:
        signature = self.program.graph_signature
        name = node.name
        stored = signature.inputs_to_parameters.get(name) or signature.inputs_to_buffers.get(name)
        constant = signature.inputs_to_lifted_tensor_constants.get(name)
        if stored is not None:
            tensor = self.program.state_dict.get(stored)
            tensor = self.program.constants[stored] if tensor is None else tensor
        elif constant is not None:
            tensor = self.program.constants[constant]
        else:
            self.places[node] = PIXELS
            return
        self.values[node] = tensor.detach().double().numpy()

    def _call(self, node: torch.fx.Node) -> None:
        target: Any = node.target
        name = getattr(target, "__name__", str(target)).split(".")[0]
        if self.ended_by is not None:
            raise ModelError(f"{label(node)} follows {self.ended_by}, which cannot be exported.")
        rule = RULES.get(name)
        if rule is None:
            raise ModelError(
                f"{label(node)} ({name}) cannot be exported; what can be is convolution, "
                "batch norm, ReLU, ReLU6, max and average pooling, linear layers, sums, flatten."
            )
        rule(self, node)

    def source(self, node: torch.fx.Node, index: int = 0) -> int:
        """The layer that computes an argument of the node."""
        argument = node.args[index]
        if not isinstance(argument, torch.fx.Node) or argument not in self.places:
            raise ModelError(f"{label(node)} does not read the output of a layer.")
        return self.places[argument]

    def source_layer(self, node: torch.fx.Node) -> int:
        """The layer that computes the first argument; pixels pass an identity convolution."""
        place = self.source(node)
        if place == PIXELS:
            channels = input_shape(self, PIXELS)[0]
            identity = np.ones((channels, 1, 1, 1))
            given, shape = {"groups": channels}, input_shape(self, PIXELS)
            self.layers.append(new_convolution(self, node, identity, given, shape))
            place = len(self.layers) - 1
        return place

    def value(self, node: torch.fx.Node, argument: Any) -> Floats:
        """A weight or buffer."""
        if not isinstance(argument, torch.fx.Node) or argument not in self.values:
            raise ModelError(f"{label(node)} has computed weights, which cannot be exported.")
        return self.values[argument]

    def same(self, node: torch.fx.Node) -> None:
        """The node passes on its input."""
        self.places[node] = self.source(node)

    def add(self, node: torch.fx.Node, layer: Layer) -> None:
        """The node is the output of a new layer."""
        self.layers.append(layer)
        self.places[node] = len(self.layers) - 1

    def free(self, node: torch.fx.Node) -> Layer | None:
        """The last layer, if it computes the node's input and nothing else reads it."""
        source = node.args[0]
        assert isinstance(source, torch.fx.Node)
        users = list(source.users)
        passed = source
        while len(users) == 1 and self.places.get(passed) == len(self.layers) - 1:
            inner = passed.args[0] if passed.op == "call_function" else None
            if (
                not isinstance(inner, torch.fx.Node)
                or self.places.get(inner) != self.places[source]
            ):
                return self.layers[-1]
            passed, users = inner, list(inner.users)
        return None
