"""A graph as a torch module that rounds as the integer network will, and can be trained so.

Training follows "Learned Step Size Quantization" (Esser et al., 2020): weights are rounded in the
forward pass, gradients pass the rounding unchanged, the step of each output channel is learned.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from smidgen.exporters.graph import PIXELS, Convolution, Graph, Layer, Pool

_CLIPS = tuple(np.linspace(0.3, 1.0, 29))
"""Fractions of the largest magnitude that are tried as the largest value of a quantized tensor."""

_SAMPLED = 100_000
"""Values of a tensor whose squared error is minimized."""


class GraphNetwork(nn.Module):
    """A graph as a torch module: in floating point until `calibrate`, then with rounding."""

    def __init__(self, graph: Graph, bits: Sequence[int] | int = 8) -> None:
        """`bits`: of a weight, 8, 4 or 2, for all convolutions or one by one in their order."""
        super().__init__()
        self.graph = graph
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        self.gains, self.shifts, self.steps = (nn.ParameterDict() for _ in range(3))
        self.bits: dict[int, int] = {}
        self.ranges: dict[int, tuple[float, int]] = {}
        """Scale and zero point of the output of each layer, from `calibrate`."""
        places = [n for n, layer in enumerate(graph.layers) if isinstance(layer, Convolution)]
        each = [bits] * len(places) if isinstance(bits, int) else list(bits)
        for place, width in zip(places, each, strict=True):
            layer = graph.layers[place]
            assert isinstance(layer, Convolution)
            self._add(place, layer, width)

    def _add(self, place: int, layer: Convolution, bits: int) -> None:
        key = str(place)
        self.weights[key] = _parameter(layer.weight)
        self.biases[key] = _parameter(layer.bias)
        if layer.has_affine:
            self.gains[key], self.shifts[key] = _parameter(layer.scale), _parameter(layer.shift)
        self.bits[place] = bits
        self.steps[key] = _parameter(best_steps(layer.weight, largest_weight(bits)))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (batch, classes) of images (batch, channels, height, width).

        The images are pixels in [0, 1] minus the graph's mean.
        """
        return self.outputs(images)[-1].flatten(1)

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Outputs of all layers."""
        done: list[Tensor] = []
        for place, layer in enumerate(self.graph.layers):
            given = [images if source == PIXELS else done[source] for source in layer.inputs]
            output = self._output(place, layer, given)
            if place in self.ranges:
                output = _rounded(output, *self.ranges[place])
            done.append(output)
        return done

    def _output(self, place: int, layer: Layer, given: list[Tensor]) -> Tensor:
        key = str(place)
        if isinstance(layer, Convolution):
            weight = self.weights[key]
            if self.ranges:
                weight = _rounded_weight(weight, self.steps[key], largest_weight(self.bits[place]))
            output = F.conv2d(
                given[0],
                weight,
                self.biases[key],
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
            )
        elif isinstance(layer, Pool) and layer.kind == "max":
            output = F.max_pool2d(given[0], layer.kernel, layer.stride, layer.padding)
        elif isinstance(layer, Pool):
            output = F.avg_pool2d(given[0], layer.kernel, layer.stride, layer.padding)
        else:
            output = given[0] + given[1]
        if layer.bounds != (-math.inf, math.inf):
            output = output.clamp(*layer.bounds)
        if key in self.gains:
            output = output * _by_channel(self.gains[key]) + _by_channel(self.shifts[key])
        return output

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Choose scale and zero point of every layer's output, from training images."""
        self.ranges = {}
        ranges: dict[int, tuple[float, int]] = {}
        for place, (layer, output) in enumerate(
            zip(self.graph.layers, self.outputs(images), strict=True)
        ):
            if isinstance(layer, Pool) and layer.kind == "max" and layer.inputs[0] != PIXELS:
                ranges[place] = ranges[layer.inputs[0]]  # the same numbers, unchanged
            else:
                ranges[place] = best_range(output)
        self.ranges = ranges

    def centered(self, pixels: Tensor) -> Tensor:
        """The images of raw pixels from 0 to 255, both (batch, channels, height, width)."""
        return pixels.float() / 255 - torch.tensor(self.graph.mean)[:, None, None]


def _parameter(values: NDArray[np.float64]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(values)).float())


def _by_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def packed_bytes(graph: Graph, bits: Sequence[int]) -> int:
    """Bytes of weights with these bits, and of what each output channel has, as in the C code.

    Weights are packed in runs, each of whole bytes: what an output reads from one row of the input,
    or from one pixel if the convolution has groups or dilated columns.
    """
    layers = [layer for layer in graph.layers if isinstance(layer, Convolution)]
    total = 0
    for layer, width in zip(layers, bits, strict=True):
        joined = layer.groups == 1 and layer.dilation[1] == 1
        run = layer.weight.shape[1] * (layer.kernel[1] if joined else 1)
        packed = width if run >= 8 // width else 8
        total += layer.weight.size // run * math.ceil(run * packed / 8)
        total += len(layer.weight) * (6 if layer.has_affine else 4)
    return total


def largest_weight(bits: int) -> int:
    """The largest magnitude of a weight with 8, 4 or 2 bits: 127, 7 or 1."""
    return (1 << (bits - 1)) - 1


def best_steps(weight: NDArray[np.float64], largest: int) -> NDArray[np.float64]:
    """The step of each output channel with the smallest squared error of rounded weights."""
    rows = weight.reshape(len(weight), -1)
    top = np.maximum(np.abs(rows).max(1), 1e-8)
    steps = top[:, None] * np.array(_CLIPS) / largest  # (channels, candidates)
    scaled = rows[:, None, :] / steps[:, :, None]
    rounded = np.clip(np.round(scaled), -largest, largest) * steps[:, :, None]
    errors = np.square(rounded - rows[:, None, :]).sum(2)
    best: NDArray[np.float64] = np.take_along_axis(steps, errors.argmin(1)[:, None], 1)[:, 0]
    return best


def best_range(values: Tensor) -> tuple[float, int]:
    """Scale and zero point of the int8 range with the smallest squared error.

    0 is among the numbers that int8 represents exactly, as padding needs it. The
    error is that of about 100,000 of the values.
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    values = values.flatten()[:: max(1, values.numel() // _SAMPLED) | 1]
    best = (math.inf, 1.0, 0)
    for clip in _CLIPS:
        scale = max((high - low) * clip / 255, 1e-8)
        zero_point = round(-128 - low * clip / scale)
        error = float((_rounded(values, scale, zero_point) - values).square().mean())
        best = min(best, (error, scale, zero_point))
    return best[1:]


def _rounded(values: Tensor, scale: float, zero_point: int) -> Tensor:
    """Values as int8 represents them; gradients pass where they are within its range.

    Halves are rounded up, as the integer network does.
    """
    inside = (values / scale).clamp(-128 - zero_point, 127 - zero_point)
    return (inside + ((inside + 0.5).floor() - inside).detach()) * scale


def _rounded_weight(weight: Tensor, step: Tensor, largest: int) -> Tensor:
    share = 1 / math.sqrt(weight[0].numel() * largest)  # of the step's gradient, by the paper
    slow = (step * share + (step - step * share).detach()).abs()[:, None, None, None]
    inside = (weight / slow).clamp(-largest, largest)
    return (inside + (inside.round() - inside).detach()) * slow


def fine_tune(
    network: GraphNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_batches: int,
    lr: float = 1e-3,
) -> None:
    """Train weights, biases and steps with rounding, at a learning rate that falls to 0.

    `batches` are images with labels. The loss is the mean of the cross-entropy with the
    labels and that with the probabilities of the network in floating point.
    """
    teacher = GraphNetwork(network.graph).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for number, (images, labels) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * number / num_batches))
        scores = network(images)
        soft = F.cross_entropy(scores, teacher(images).softmax(1))
        loss = (F.cross_entropy(scores, labels) + soft) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
