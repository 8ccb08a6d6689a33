"""An integer network as an ONNX graph of QuantizeLinear and DequantizeLinear operators (QDQ).

Activations and weights are uint8, 128 more than in the integer network. With int8 weights,
onnxruntime adds pairs of products in 16 bits on x86 processors without VNNI, and the sums saturate.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smidgen.exporters.graph import PIXELS
from smidgen.exporters.integer import (
    IntegerAddition,
    IntegerAveragePool,
    IntegerConvolution,
    IntegerLayer,
    IntegerMaxPool,
    IntegerNetwork,
    Window,
)

OPSET, IR_VERSION = 20, 10
_ZERO = 128
"""What an int8 becomes as uint8 by adding."""
_SMALLEST = 1e-12
"""Scale of a channel whose multiplier is 0, as no scale may be."""


def qdq_model(network: IntegerNetwork, input_name: str, output_name: str) -> Any:
    """A ModelProto from raw pixels, uint8 (batch, channels, height, width), to scores.

    The scores are float32 (batch, classes): the int8 scores, dequantized.
    """
    from onnx import TensorProto, helper

    graph = _Graph(network, {PIXELS: input_name})
    for place, layer in enumerate(network.layers):
        graph.add(place, layer)
    last = graph.dequantized(len(network.layers) - 1)
    graph.node("Flatten", [last], output_name, axis=1)
    classes = network.layers[-1].shape[0]
    pixels = ["batch", *network.input_shape]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "smidgen",
            [helper.make_tensor_value_info(input_name, TensorProto.UINT8, pixels)],
            [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["batch", classes])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    model.ir_version = IR_VERSION
    return model


@dataclass(slots=True)
class _Graph:
    """Nodes and constants, in the order of computation."""

    network: IntegerNetwork
    tensors: dict[int, str]
    """The uint8 output of each layer that has been added, or the pixels."""
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        name = output.replace("/", "_")
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, values: Any, kind: type[np.generic]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def dequantized(self, place: int, reader: str = "scores") -> str:
        """The output of a layer, or the image, in floating point, for the layer `reader`."""
        name = f"{self.tensors[place]}/for/{reader}"
        zeros = np.array(self.network.zero_points(place)) + _ZERO
        alike = len(set(zeros.tolist())) == 1  # those of the image's channels may differ
        scale = np.full(1 if alike else len(zeros), self.network.scale(place))
        inputs = [
            self.tensors[place],
            self.constant(f"{name}/scale", scale[0] if alike else scale, np.float32),
            self.constant(f"{name}/zero", zeros[0] if alike else zeros, np.uint8),
        ]
        return self.node("DequantizeLinear", inputs, name, **({} if alike else {"axis": 1}))

    def by_channel(
        self,
        name: str,
        values: NDArray[Any],
        scales: NDArray[np.float64],
        zero: int,
        kind: type[np.generic],
    ) -> str:
        """Constants with a scale for each output channel, in floating point."""
        inputs = [
            self.constant(name, values, kind),
            self.constant(f"{name}/scale", scales, np.float32),
            self.constant(f"{name}/zero", np.full(len(scales), zero), kind),
        ]
        return self.node("DequantizeLinear", inputs, f"{name}/real", axis=0)

    def quantize(self, place: int, layer: IntegerLayer, source: str) -> None:
        """Make `source`, in floating point, the uint8 output of a layer."""
        name = f"{place}/{layer.name}"
        inputs = [
            source,
            self.constant(f"{name}/scale", layer.scale, np.float32),
            self.constant(f"{name}/zero", layer.zero_point + _ZERO, np.uint8),
        ]
        self.tensors[place] = self.node("QuantizeLinear", inputs, name)

    def add(self, place: int, layer: IntegerLayer) -> None:
        name = f"{place}/{layer.name}"
        if isinstance(layer, IntegerMaxPool):
            window = _window(layer.window)
            output = self.node("MaxPool", [self.tensors[layer.inputs[0]]], f"{name}/max", **window)
            if (layer.low, layer.high) != (-128, 127):
                ends = [("low", layer.low), ("high", layer.high)]
                bounds = [self.constant(f"{name}/{end}", v + _ZERO, np.uint8) for end, v in ends]
                output = self.node("Clip", [output, *bounds], f"{name}/clip")
            self.tensors[place] = output
            return
        given = [self.dequantized(source, f"{name}/{n}") for n, source in enumerate(layer.inputs)]
        if isinstance(layer, IntegerConvolution):
            output = self.convolve(name, layer, given[0])
            low, high = layer.requantize.low, layer.requantize.high
        elif isinstance(layer, IntegerAveragePool):
            window = _window(layer.window)
            output = self.node("AveragePool", given, f"{name}/mean", count_include_pad=1, **window)
            low, high = layer.requantize.low, layer.requantize.high
        else:
            assert isinstance(layer, IntegerAddition)
            output = self.node("Add", given, f"{name}/sum")
            low, high = layer.low, layer.high
        self.quantize(place, layer, self.clip(name, layer, output, low, high))

    def clip(self, name: str, layer: IntegerLayer, source: str, low: int, high: int) -> str:
        """Clamp to bounds that are narrower than the range of int8."""
        if (low, high) == (-128, 127):
            return source
        inputs = [source]
        for end, bound in (("low", low), ("high", high)):
            value = layer.scale * (bound - layer.zero_point)
            inputs.append(self.constant(f"{name}/{end}", value, np.float32))
        return self.node("Clip", inputs, f"{name}/clip")

    def convolve(self, name: str, layer: IntegerConvolution, source: str) -> str:
        given, scale = layer.requantize, layer.scale
        in_scale = self.network.scale(layer.inputs[0])
        unit = 2.0 ** -(given.shift + given.pre_shift) * scale / in_scale
        steps = np.maximum(np.abs(given.multiplier * unit), _SMALLEST)
        weight, bias = layer.weight.astype(np.int16) + _ZERO, _bias(layer, self.network)
        inputs = [
            source,
            self.by_channel(f"{name}/weight", weight, steps, _ZERO, np.uint8),
            self.by_channel(f"{name}/bias", bias, steps * in_scale, 0, np.int32),
        ]
        window = _window(layer.window)
        dilations = list(layer.window.dilation)
        output = self.node(
            "Conv", inputs, f"{name}/conv", group=layer.groups, dilations=dilations, **window
        )
        shift = given.offset / 64 - layer.zero_point
        if given.rectified:
            output = self.node("Relu", [output], f"{name}/relu")
        if (given.multiplier < 0).any():
            signs = self.constant(
                f"{name}/sign", np.sign(given.multiplier).reshape(-1, 1, 1), np.float32
            )
            output = self.node("Mul", [output, signs], f"{name}/signed")
        if shift.any():
            added = self.constant(f"{name}/shift", (shift * scale).reshape(-1, 1, 1), np.float32)
            output = self.node("Add", [output, added], f"{name}/shifted")
        return output


def _bias(layer: IntegerConvolution, network: IntegerNetwork) -> NDArray[np.float64]:
    """The bias of the sums of weight * (activation - zero point), an integer of 32 bits."""
    given = layer.requantize
    zeros = np.array(network.zero_points(layer.inputs[0])).reshape(layer.groups, -1)
    by_output = zeros.repeat(len(layer.weight) // layer.groups, axis=0)
    of_zeros = (layer.weight.astype(np.int64).sum((2, 3)) * by_output).sum(1)
    dropped = (2**given.pre_shift - 1) / 2  # the mean of what the pre-shift cuts off
    bias: NDArray[np.float64] = np.round(given.bias * 2.0**given.pre_shift - dropped) + of_zeros
    return bias


def _window(window: Window) -> dict[str, list[int]]:
    """Attributes of a convolution or pool."""
    rows, columns = window.padding
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "pads": [rows, columns, rows, columns],
    }
