"""The network as exporters see it: a graph of a few kinds of layers with their weights in numpy.

Batch norm is folded into the convolutions before it, dropout is gone, and so is the division by the
standard deviation of the pixels: the graph reads pixels in [0, 1] minus their mean.
"""

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from smidgen.errors import ModelError

Floats = NDArray[np.float64]
Shape = tuple[int, int, int]
PIXELS = -1
"""Stands for the raw pixels among the inputs of a layer."""
_FREE = (-math.inf, math.inf)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layer:
    """A layer of the graph."""

    name: str
    """Of the module that it comes from, or of the operator."""
    inputs: tuple[int, ...]
    """Places in the graph of the layers whose outputs it reads; PIXELS for the image."""
    shape: Shape
    """Of its output: channels, height, width."""
    bounds: tuple[float, float] = _FREE
    """What the output is clamped to, by a ReLU for example."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Convolution(Layer):
    """A convolution; a linear layer is one whose kernel is as large as its input.

    The output is `scale * clamp(convolution + bias, bounds) + shift`.
    """

    weight: Floats
    """(outputs, inputs / groups, height, width)."""
    bias: Floats
    scale: Floats
    """By channel; not 1 where a batch norm follows the activation."""
    shift: Floats
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def has_affine(self) -> bool:
        """Whether a batch norm follows the activation."""
        return bool((self.scale != 1).any() or (self.shift != 0).any())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pool(Layer):
    """A max-pool or an average pool, whose padding counts as zeros in the average."""

    kind: str
    """max or average."""
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Addition(Layer):
    """The sum of two outputs of the same shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Layers in the order of computation; the last one computes the scores."""

    layers: tuple[Layer, ...]
    input_shape: Shape
    """Channels, height, width."""
    mean: tuple[float, ...]
    """By channel, of pixels in [0, 1]; subtracted from them, so that a padded pixel is 0."""

    def shape_of(self, place: int) -> Shape:
        """Shape of the output of a layer, or of the pixels."""
        return self.input_shape if place == PIXELS else self.layers[place].shape

    @property
    def num_classes(self) -> int:
        """Number of scores."""
        return self.layers[-1].shape[0]


def graph_of(
    network: nn.Module, input_shape: Shape, mean: Sequence[float], std: Sequence[float]
) -> Graph:
    """The graph of a trained network that takes images normalized with `mean` and `std`.

    A softmax or log-softmax at the end is left out: the scores before it have the same order.

    Raises:
        ModelError: the network has a layer that cannot be exported; names it.
    """
    program = _exported(network, input_shape)
    reader = _Reader(program)
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
class _Reader:
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
            raise ModelError(f"{_label(node)} cannot be exported.")

    def finish(self) -> list[Layer]:
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
            raise ModelError(f"{_label(node)} follows {self.ended_by}, which cannot be exported.")
        rule = _RULES.get(name)
        if rule is None:
            raise ModelError(
                f"{_label(node)} ({name}) cannot be exported; what can be is convolution, "
                "batch norm, ReLU, ReLU6, max and average pooling, linear layers, sums, flatten."
            )
        rule(self, node)

    # what rules use

    def source(self, node: torch.fx.Node, index: int = 0) -> int:
        """The layer that computes an argument of the node."""
        argument = node.args[index]
        if not isinstance(argument, torch.fx.Node) or argument not in self.places:
            raise ModelError(f"{_label(node)} does not read the output of a layer.")
        return self.places[argument]

    def source_layer(self, node: torch.fx.Node) -> int:
        """The layer that computes the first argument; pixels pass an identity convolution."""
        place = self.source(node)
        if place == PIXELS:
            channels = _input_shape(self, PIXELS)[0]
            identity = np.ones((channels, 1, 1, 1))
            given, shape = {"groups": channels}, _input_shape(self, PIXELS)
            self.layers.append(_new_convolution(self, node, identity, given, shape))
            place = len(self.layers) - 1
        return place

    def value(self, node: torch.fx.Node, argument: Any) -> Floats:
        """A weight or buffer."""
        if not isinstance(argument, torch.fx.Node) or argument not in self.values:
            raise ModelError(f"{_label(node)} has computed weights, which cannot be exported.")
        return self.values[argument]

    def same(self, node: torch.fx.Node) -> None:
        """The node passes on its input."""
        self.places[node] = self.source(node)

    def add(self, node: torch.fx.Node, layer: Layer) -> None:
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


def _label(node: torch.fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else kind.__name__
    return f"{kind.split('.')[-1]} {path}" if path else node.name


def _name(node: torch.fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return (stack[-1][0] if stack else "") or node.name


def _arguments(node: torch.fx.Node) -> dict[str, Any]:
    """The arguments by the names in the operator's schema, with their defaults."""
    target: Any = node.target
    schema = target._schema.arguments
    given = dict(zip((a.name for a in schema), node.args, strict=False)) | dict(node.kwargs)
    return {a.name: given.get(a.name, a.default_value) for a in schema}


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])


def _shape(node: torch.fx.Node) -> Shape:
    _, *sizes = node.meta["val"].shape
    if len(sizes) > 3:
        raise ModelError(f"{_label(node)} has an output of {len(sizes)} dimensions.")
    channels, height, width = (*sizes, 1, 1)[:3]
    return int(channels), int(height), int(width)


def _convolution(reader: _Reader, node: torch.fx.Node) -> None:
    given = _arguments(node)
    weight = reader.value(node, given["weight"])
    if isinstance(given["padding"], str):
        raise ModelError(f"{_label(node)} has padding {given['padding']!r}; state it as a number.")
    reader.add(node, _new_convolution(reader, node, weight, given))


def _new_convolution(
    reader: _Reader,
    node: torch.fx.Node,
    weight: Floats,
    given: dict[str, Any],
    shape: Shape | None = None,
) -> Convolution:
    """`shape`: of the output, if it is not that of the node."""
    outputs = len(weight)
    bias = given.get("bias")
    return Convolution(
        name=_name(node),
        inputs=(reader.source(node),),
        shape=shape or _shape(node),
        weight=weight,
        bias=np.zeros(outputs) if bias is None else reader.value(node, bias),
        scale=np.ones(outputs),
        shift=np.zeros(outputs),
        stride=_pair(given.get("stride", 1)),
        padding=_pair(given.get("padding", 0)),
        dilation=_pair(given.get("dilation", 1)),
        groups=given.get("groups", 1),
    )


def _linear(reader: _Reader, node: torch.fx.Node) -> None:
    given = _arguments(node)
    weight = reader.value(node, given["weight"])
    source = reader.source(node)
    channels, height, width = _input_shape(reader, source)
    if weight.shape[1] != channels * height * width:
        raise ModelError(f"{_label(node)} is not applied to the whole flattened image.")
    weight = weight.reshape(-1, channels, height, width)
    reader.add(node, _new_convolution(reader, node, weight, {"bias": given["bias"]}))


def _input_shape(reader: _Reader, place: int) -> Shape:
    if place != PIXELS:
        return reader.layers[place].shape
    return _shape(next(node for node, at in reader.places.items() if at == PIXELS))


def _batch_norm(reader: _Reader, node: torch.fx.Node) -> None:
    given = _arguments(node)
    mean, variance = (reader.value(node, given[f"running_{key}"]) for key in ("mean", "var"))
    scale = 1 / np.sqrt(variance + given["eps"])
    if given["weight"] is not None:
        scale = scale * reader.value(node, given["weight"])
    shift = -mean * scale
    if given["bias"] is not None:
        shift = shift + reader.value(node, given["bias"])
    last = reader.free(node)
    if isinstance(last, Convolution) and not last.has_affine and last.bounds == _FREE:
        folded = last.weight * scale[:, None, None, None]
        reader.layers[-1] = replace(last, weight=folded, bias=last.bias * scale + shift)
        reader.same(node)
    elif isinstance(last, Convolution) and not last.has_affine and last.bounds[1] == math.inf:
        reader.layers[-1] = replace(last, scale=scale, shift=shift)
        reader.same(node)
    else:
        shape = _input_shape(reader, reader.source(node))
        weight, given = scale.reshape(-1, 1, 1, 1), {"groups": len(scale)}
        reader.add(node, replace(_new_convolution(reader, node, weight, given, shape), bias=shift))


def _first_output(reader: _Reader, node: torch.fx.Node) -> None:
    if node.args[1] != 0:
        raise ModelError(f"{_label(node)} cannot be exported.")
    reader.same(node)


def _relu(reader: _Reader, node: torch.fx.Node) -> None:
    _clamp(reader, node, 0.0, math.inf)


def _hardtanh(reader: _Reader, node: torch.fx.Node) -> None:
    given = _arguments(node)
    if given["min_val"] != 0:
        raise ModelError(
            f"{_label(node)} cannot be exported: it clamps below at another value than 0."
        )
    _clamp(reader, node, 0.0, float(given["max_val"]))


def _relu6(reader: _Reader, node: torch.fx.Node) -> None:
    _clamp(reader, node, 0.0, 6.0)


def _clamp(reader: _Reader, node: torch.fx.Node, low: float, high: float) -> None:
    last = reader.free(node)
    if last is not None and not (isinstance(last, Convolution) and last.has_affine):
        bounds = (max(low, last.bounds[0]), min(high, last.bounds[1]))
        reader.layers[-1] = replace(last, bounds=bounds)
        reader.same(node)
        return
    source = reader.source_layer(node)
    layer = Pool(
        name=_name(node),
        inputs=(source,),
        shape=reader.layers[source].shape,
        kind="max",
        kernel=(1, 1),
        stride=(1, 1),
        bounds=(low, high),
    )
    reader.add(node, layer)


def _max_pool(reader: _Reader, node: torch.fx.Node) -> None:
    given = _arguments(node)
    if _pair(given["dilation"]) != (1, 1):
        raise ModelError(f"{_label(node)} cannot be exported: it is dilated.")
    _pool(reader, node, given, "max")


def _average_pool(reader: _Reader, node: torch.fx.Node) -> None:
    given = _arguments(node)
    if any(_pair(given["padding"])) and not given["count_include_pad"]:
        raise ModelError(f"{_label(node)} cannot be exported: set count_include_pad=True.")
    if given["divisor_override"] is not None:
        raise ModelError(f"{_label(node)} cannot be exported: it has a divisor_override.")
    _pool(reader, node, given, "average")


def _pool(reader: _Reader, node: torch.fx.Node, given: dict[str, Any], kind: str) -> None:
    if given["ceil_mode"]:
        raise ModelError(f"{_label(node)} cannot be exported: it has ceil_mode=True.")
    kernel = _pair(given["kernel_size"])
    layer = Pool(
        name=_name(node),
        inputs=(reader.source_layer(node),),
        shape=_shape(node),
        kind=kind,
        kernel=kernel,
        stride=_pair(given["stride"]) if given["stride"] else kernel,
        padding=_pair(given["padding"]),
    )
    reader.add(node, layer)


def _adaptive_pool(reader: _Reader, node: torch.fx.Node) -> None:
    source = reader.source_layer(node)
    shape = _input_shape(reader, source)
    output = _shape(node)
    if any(side % out for side, out in zip(shape[1:], output[1:], strict=True)):
        raise ModelError(f"{_label(node)} cannot be exported: its windows differ in size.")
    kernel = (shape[1] // output[1], shape[2] // output[2])
    _add_average(reader, node, source, kernel, output)


def _mean(reader: _Reader, node: torch.fx.Node) -> None:
    source = reader.source_layer(node)
    shape = _input_shape(reader, source)
    dims = _arguments(node)["dim"]
    if dims is None or sorted(dim % 4 for dim in dims) != [2, 3]:
        raise ModelError(f"{_label(node)} is not a mean over height and width.")
    _add_average(reader, node, source, shape[1:], (shape[0], 1, 1))


def _add_average(
    reader: _Reader, node: torch.fx.Node, source: int, kernel: tuple[int, int], shape: Shape
) -> None:
    layer = Pool(
        name=_name(node),
        inputs=(source,),
        shape=shape,
        kind="average",
        kernel=kernel,
        stride=kernel,
    )
    reader.add(node, layer)


def _addition(reader: _Reader, node: torch.fx.Node) -> None:
    places = (reader.source(node, 0), reader.source(node, 1))
    if node.kwargs.get("alpha", 1) != 1 or PIXELS in places:
        raise ModelError(f"{_label(node)} cannot be exported: it is not a sum of two layers.")
    first, second = (_input_shape(reader, place) for place in places)
    if first != second:
        raise ModelError(f"{_label(node)} adds tensors of different shapes.")
    reader.add(node, Addition(name=_name(node), inputs=places, shape=first))


def _reshape(reader: _Reader, node: torch.fx.Node) -> None:
    value = node.meta["val"]
    channels, height, width = _input_shape(reader, reader.source(node))
    if list(value.shape) not in (
        [2, channels * height * width],
        [2, channels, height, width],
        [2, channels * height * width, 1, 1],
    ):
        raise ModelError(f"{_label(node)} reshapes its input to something else than a flat vector.")
    reader.same(node)


def _end(reader: _Reader, node: torch.fx.Node) -> None:
    if _arguments(node)["dim"] not in (1, -1):
        raise ModelError(f"{_label(node)} is not over the classes.")
    reader.same(node)
    reader.ended_by = _label(node)


_RULES: dict[str, Callable[[_Reader, torch.fx.Node], None]] = {
    "conv2d": _convolution,
    "linear": _linear,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "batch_norm": _batch_norm,
    "getitem": _first_output,
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _adaptive_pool,
    "mean": _mean,
    "add": _addition,
    "view": _reshape,
    "reshape": _reshape,
    "_unsafe_view": _reshape,
    "flatten": _reshape,
    "squeeze": _reshape,
    "clone": _Reader.same,
    "dropout": _Reader.same,
    "feature_dropout": _Reader.same,
    "contiguous": _Reader.same,
    "alias": _Reader.same,
    "detach": _Reader.same,
    "log_softmax": _end,
    "_log_softmax": _end,
    "softmax": _end,
    "_softmax": _end,
}
