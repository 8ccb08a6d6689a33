"""From a calibrated network to integers: weights, biases, multipliers and shifts."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from smidgen.exporters.graph import PIXELS, Addition, Convolution, Layer, Pool
from smidgen.exporters.integer import (
    IntegerAddition,
    IntegerAveragePool,
    IntegerConvolution,
    IntegerLayer,
    IntegerMaxPool,
    IntegerNetwork,
    Requantization,
    Window,
)
from smidgen.exporters.quantization import GraphNetwork, largest_weight

_LIMIT = 1 << 15  # of a 16-bit integer


def to_integers(network: GraphNetwork) -> IntegerNetwork:
    """The integer network of a calibrated one."""
    graph = network.graph
    zero_points = tuple(round(255 * mean) - 128 for mean in graph.mean)
    layers = [_integer_layer(network, place) for place in range(len(graph.layers))]
    return IntegerNetwork(tuple(layers), graph.input_shape, zero_points)


def _integer_layer(network: GraphNetwork, place: int) -> IntegerLayer:
    layer = network.graph.layers[place]
    scale, zero_point = network.ranges[place]
    common: dict[str, Any] = {
        "name": layer.name,
        "inputs": layer.inputs,
        "shape": layer.shape,
        "scale": scale,
        "zero_point": zero_point,
    }
    low, high = _clamp(layer, scale, zero_point)
    if isinstance(layer, Convolution):
        return _integer_convolution(network, place, layer, common)
    if isinstance(layer, Addition):
        (s1, z1), (s2, z2) = (network.ranges[source] for source in layer.inputs)
        shift = _shift(max(s1, s2) / scale, 1, 21)  # 9 bits times 15 bits, twice
        first, second = (round(s / scale * 2**shift) for s in (s1, s2))
        bias = -z1 * first - z2 * second + (1 << (shift - 1))
        return IntegerAddition(
            **common, multiplier=(first, second), bias=bias, shift=shift, low=low, high=high
        )
    assert isinstance(layer, Pool)
    window = Window(kernel=layer.kernel, stride=layer.stride, padding=layer.padding)
    if layer.kind == "max":
        return IntegerMaxPool(**common, window=window, low=low, high=high)
    (source,) = layer.inputs
    in_scale, in_zero = network.ranges[source]
    number = layer.kernel[0] * layer.kernel[1]
    requantize = _requantization(
        bound=np.array([128.0 * number]),
        bias=np.array([-float(in_zero * number)]),
        factor=np.array([in_scale / number / scale]),
        offset=np.array([float(zero_point)]),
        clamp=(low, high),
        rectified=False,
    )
    return IntegerAveragePool(**common, window=window, requantize=requantize)


def _clamp(layer: Layer, scale: float, zero_point: int) -> tuple[int, int]:
    """Bounds of the int8 output."""
    if isinstance(layer, Convolution) and layer.has_affine:
        return -128, 127
    low, high = layer.bounds
    return (
        -128 if low == -math.inf else max(-128, round(low / scale) + zero_point),
        127 if high == math.inf else min(127, round(high / scale) + zero_point),
    )


def _integer_convolution(
    network: GraphNetwork, place: int, layer: Convolution, common: dict[str, Any]
) -> IntegerConvolution:
    key, bits = str(place), network.bits[place]
    scale, zero_point = network.ranges[place]
    weight, bias = (_numpy(p[key]) for p in (network.weights, network.biases))
    steps = np.abs(_numpy(network.steps[key]))
    largest = largest_weight(bits)
    q = np.clip(np.round(weight / steps[:, None, None, None]), -largest, largest)
    (source,) = layer.inputs
    if source == PIXELS:
        in_scale, channels = 1 / 255, network.graph.input_shape[0]
        in_zeros = 255 * np.array(network.graph.mean) - 128  # exact, though padding rounds it
    else:
        in_scale, in_zero = network.ranges[source]
        channels = network.graph.shape_of(source)[0]
        in_zeros = np.full(channels, float(in_zero))
    by_output = in_zeros.reshape(layer.groups, -1).repeat(len(q) // layer.groups, axis=0)
    gain = _numpy(network.gains[key]) if key in network.gains else np.ones(len(q))
    shift = _numpy(network.shifts[key]) if key in network.shifts else np.zeros(len(q))
    requantize = _requantization(
        bound=128 * np.abs(q).sum((1, 2, 3)),
        bias=bias / (steps * in_scale) - (q.sum((2, 3)) * by_output).sum(1),
        factor=gain * steps * in_scale / scale,
        offset=zero_point + shift / scale,
        clamp=_clamp(layer, scale, zero_point),
        rectified=layer.has_affine and layer.bounds[0] == 0,
    )
    window = Window(
        kernel=layer.kernel, stride=layer.stride, padding=layer.padding, dilation=layer.dilation
    )
    return IntegerConvolution(
        **common,
        window=window,
        groups=layer.groups,
        weight=q.astype(np.int8),
        bits=bits,
        requantize=requantize,
    )


def _requantization(
    *,
    bound: NDArray[np.float64],
    bias: NDArray[np.float64],
    factor: NDArray[np.float64],
    offset: NDArray[np.float64],
    clamp: tuple[int, int],
    rectified: bool,
) -> Requantization:
    """Integers for (sum + bias) * factor + offset, where no |sum| exceeds `bound`."""
    pre_shift = 0
    while float((bound + np.abs(bias)).max()) / 2**pre_shift >= _LIMIT - 2:
        pre_shift += 1
    dropped = (2**pre_shift - 1) / 2  # the mean of what the pre-shift cuts off
    factor = factor * 2.0**pre_shift
    shift = _shift(float(np.abs(factor).max()), 6, 21)
    return Requantization(
        pre_shift=pre_shift,
        bias=np.round((bias + dropped) / 2**pre_shift).astype(np.int16),
        rectified=rectified,
        multiplier=np.round(factor * 2**shift).clip(1 - _LIMIT, _LIMIT - 1).astype(np.int16),
        shift=shift,
        offset=np.round(offset * 64).clip(1 - (1 << 14), (1 << 14) - 1).astype(np.int16),
        low=clamp[0],
        high=clamp[1],
    )


def _shift(factor: float, low: int, high: int) -> int:
    """The largest shift from `low` to `high` with which `factor` fits 16 bits."""
    shift = high
    while shift > low and round(factor * 2**shift) >= _LIMIT:
        shift -= 1
    return shift


def _numpy(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().numpy()
