"""The network as exporters see it: a graph of a few kinds of layers with their weights in numpy.

Batch norm is folded into the convolutions before it, dropout is gone, and so is the division by the
standard deviation of the pixels: the graph reads pixels in [0, 1] minus their mean.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Shape = tuple[int, int, int]
PIXELS = -1
"""Stands for the raw pixels among the inputs of a layer."""
UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layer:
    """A layer of the graph."""

    name: str
    """Of the module that it comes from, or of the operator."""
    inputs: tuple[int, ...]
    """Places in the graph of the layers whose outputs it reads; PIXELS for the image."""
    shape: Shape
    """Of its output: channels, height, width."""
    bounds: tuple[float, float] = UNBOUNDED
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
