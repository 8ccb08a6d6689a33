"""Networks in integer arithmetic, in numpy: the reference for the C and the int8 ONNX file.

docs/int8.md defines the arithmetic. All activations are int8 with one scale and zero point for each
layer; weights are int8, or have 4 or 2 bits, with a scale for each output channel; sums are int32.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from smidgen._storage.cores import usable_cores
from smidgen.exporters.graph import PIXELS, Shape

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Requantization:
    """How a sum becomes an int8: clamp((t * multiplier + offset * 2^(shift - 6) + half) >> shift).

    t is `(sum >> pre_shift) + bias`, which fits 16 bits, and so do multiplier and offset; half is
    2^(shift - 1), and no intermediate result exceeds 32 bits. Arrays have a value for each channel.
    """

    pre_shift: int
    bias: Int16
    rectified: bool
    """Whether max(t, 0) takes the place of t: a ReLU, after which a batch norm follows."""
    multiplier: Int16
    shift: int
    """From 6 to 21."""
    offset: Int16
    """In 64ths, below 2^14 in magnitude."""
    low: int
    high: int

    def __call__(self, sums: Int64) -> Int8:
        """Int8 values of sums (images, channels, height, width)."""
        t = (sums >> self.pre_shift) + _by_channel(self.bias)
        if self.rectified:
            t = np.maximum(t, 0)
        added = (_by_channel(self.offset) << (self.shift - 6)) + (1 << (self.shift - 1))
        scaled = (t * _by_channel(self.multiplier) + added) >> self.shift
        return _clamped(scaled, self.low, self.high)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IntegerLayer:
    """A layer in integer arithmetic. An output q stands for the number scale * (q - zero_point)."""

    name: str
    inputs: tuple[int, ...]
    """Places of the layers whose outputs it reads; PIXELS for the image."""
    shape: Shape
    """Of its output: channels, height, width."""
    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Window:
    """Where the outputs of a layer look in its input."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns from the first to the last one under the kernel."""
        (height, width), (down, across) = self.kernel, self.dilation
        return (height - 1) * down + 1, (width - 1) * across + 1

    def patches(self, values: NDArray[Any]) -> NDArray[Any]:
        """View of padded values (images, channels, height, width), one window for each output.

        It is (images, channels, output height, output width, kernel height, kernel width).
        """
        every = sliding_window_view(values, self.extent, axis=(2, 3))
        (down, across), (rows, columns) = self.stride, self.dilation
        view: NDArray[Any] = every[:, :, ::down, ::across, ::rows, ::columns]
        return view


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IntegerConvolution(IntegerLayer):
    """A convolution or linear layer."""

    window: Window
    groups: int
    weight: Int8
    """(outputs, inputs / groups, height, width)."""
    bits: int
    """Of a weight: 8, 4 or 2."""
    requantize: Requantization


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IntegerMaxPool(IntegerLayer):
    """A max-pool, clamped from below by `low` and from above by `high`."""

    window: Window
    low: int
    high: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IntegerAveragePool(IntegerLayer):
    """An average pool: the sums of windows, requantized."""

    window: Window
    requantize: Requantization


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IntegerAddition(IntegerLayer):
    """clamp(((a * multiplier[0] + b * multiplier[1] + bias) >> shift) + zero_point)."""

    multiplier: tuple[int, int]
    """16 bits each."""
    bias: int
    """Includes the zero points of the inputs and half of 2^shift, for rounding."""
    shift: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, eq=False)
class IntegerNetwork:
    """Layers in the order of computation; the last one computes the scores."""

    layers: tuple[IntegerLayer, ...]
    input_shape: Shape
    """Channels, height, width."""
    input_zero_points: tuple[int, ...]
    """By channel: the value of a padded pixel, after 128 was subtracted."""

    def scores(self, images: NDArray[np.uint8]) -> Int8:
        """Scores (images, classes) of raw pixels (images, channels, height, width)."""
        # BLAS would start threads for each small product, which wait for each other busily
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(usable_cores()) as threads:
            return np.concatenate([*threads.map(self._scores, _batches(images))])

    def _scores(self, images: NDArray[np.uint8]) -> Int8:
        return self.outputs(images)[-1].reshape(len(images), -1)

    def outputs(self, images: NDArray[np.uint8]) -> list[Int8]:
        """The outputs of all layers, each (images, channels, height, width)."""
        pixels = (images.astype(np.int16) - 128).astype(np.int8)
        done: list[Int8] = []
        for layer in self.layers:
            given = [pixels if place == PIXELS else done[place] for place in layer.inputs]
            done.append(self._output(layer, given))
        return done

    def shape_of(self, place: int) -> Shape:
        """Shape of the output of a layer, or of the pixels."""
        return self.input_shape if place == PIXELS else self.layers[place].shape

    def scale(self, place: int) -> float:
        """The step of the output of a layer, or of the pixels."""
        return 1 / 255 if place == PIXELS else self.layers[place].scale

    def zero_points(self, place: int) -> tuple[int, ...]:
        """The value that stands for 0 in the output of a layer, or in the pixels, by channel."""
        if place == PIXELS:
            return self.input_zero_points
        layer = self.layers[place]
        return (layer.zero_point,) * layer.shape[0]

    def _output(self, layer: IntegerLayer, given: list[Int8]) -> Int8:
        if isinstance(layer, IntegerAddition):
            first, second = (values.astype(np.int64) for values in given)
            sums = first * layer.multiplier[0] + second * layer.multiplier[1] + layer.bias
            result = (sums >> layer.shift) + layer.zero_point
            return _clamped(result, layer.low, layer.high)
        assert isinstance(layer, IntegerConvolution | IntegerMaxPool | IntegerAveragePool)
        fill = self.zero_points(layer.inputs[0])
        if isinstance(layer, IntegerMaxPool):
            fill = (-128,) * len(fill)
        padded = _padded(given[0], layer.window.padding, fill)
        if isinstance(layer, IntegerConvolution):
            return layer.requantize(_convolve(padded, layer))
        patches = layer.window.patches(padded)
        if isinstance(layer, IntegerMaxPool):
            return _clamped(patches.max((4, 5)), layer.low, layer.high)
        return layer.requantize(patches.sum((4, 5), dtype=np.int64))


def _convolve(padded: Int8, layer: IntegerConvolution) -> Int64:
    """Sums (images, outputs, height, width), in floating point, which is exact and fast."""
    outputs, inputs, *kernel = layer.weight.shape
    taps, groups = inputs * kernel[0] * kernel[1], layer.groups
    exact: type[Any] = np.float32 if 128 * 127 * taps < 1 << 24 else np.float64
    patches = layer.window.patches(padded.astype(exact)).transpose(0, 1, 4, 5, 2, 3)
    images, *_, height, width = patches.shape
    columns = patches.reshape(images, groups, taps, height * width)
    rows = layer.weight.reshape(groups, outputs // groups, taps).astype(exact)
    sums: Int64 = (rows @ columns).astype(np.int64)
    return sums.reshape(images, outputs, height, width)


def _clamped(values: NDArray[Any], low: int, high: int) -> Int8:
    clamped: Int8 = np.clip(values, low, high).astype(np.int8)
    return clamped


def _padded(values: Int8, padding: tuple[int, int], fill: tuple[int, ...]) -> Int8:
    rows, columns = padding
    if not rows and not columns:
        return values
    images, channels, height, width = values.shape
    size = (images, channels, height + 2 * rows, width + 2 * columns)
    padded = np.broadcast_to(np.array(fill, np.int8)[:, None, None], size).copy()
    padded[:, :, rows : rows + height, columns : columns + width] = values
    return padded


def _batches(images: NDArray[np.uint8], size: int = 32) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, max(1, len(images)), size):
        yield images[start : start + size]


def _by_channel(values: Int16) -> Int64:
    return values.astype(np.int64)[:, None, None]
