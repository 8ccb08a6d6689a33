"""A network as C99: one header and one source file, for microcontrollers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import numpy as np

from smidgen._version import __version__
from smidgen.exporters.integer import (
    Int8,
    IntegerAddition,
    IntegerAveragePool,
    IntegerConvolution,
    IntegerMaxPool,
    IntegerNetwork,
    Requantization,
)
from smidgen.exporters.plan import Plan, Step, Tensor, plan

HEADER, SOURCE = "smidgen_model.h", "smidgen_model.c"
_NO_WEIGHTS = 1  # in the place of the bits: an average
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("smidgen.exporters"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)


def c_code(
    network: IntegerNetwork, *, title: str, origin: str, classes: Sequence[str]
) -> dict[str, str]:
    """The texts of the header and the source file by their names.

    `title` and `origin` (of the run) stand in the comments at the top.

    Raises:
        ModelError: the network is too large for the code; says which limit.
    """
    planned = plan(network)
    tables = _Tables(planned)
    channels, height, width = network.input_shape
    context = tables.context() | {
        "title": _comment(title),
        "origin": _comment(origin),
        "classes": _comment(", ".join(classes)),
        "version": __version__,
        "header": HEADER,
        "height": height,
        "width": width,
        "channels": channels,
        "num_classes": len(classes),
        "memory_bytes": planned.memory_bytes,
    }
    return {
        HEADER: _TEMPLATES.get_template("model.h.jinja").render(context),
        SOURCE: _TEMPLATES.get_template("model.c.jinja").render(context),
    }


def _comment(text: str) -> str:
    """Text that cannot end a comment, on one line."""
    return " ".join(text.replace("*/", "* /").replace("/*", "/ *").split())


@dataclass(slots=True)
class _Tables:
    """The constants of the code."""

    plan: Plan
    weights: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    bits: set[int] = field(default_factory=set)

    def context(self) -> dict[str, Any]:
        planned = self.plan
        steps = [self._step(step) for step in planned.steps]
        kinds = [type(step.layer) for step in planned.steps]
        zeros = planned.network.input_zero_points
        requantized = [
            step.layer.requantize
            for step in planned.steps
            if isinstance(step.layer, IntegerConvolution | IntegerAveragePool)
        ]
        return {
            "steps": steps,
            "tensors": [self._tensor(n, tensor) for n, tensor in enumerate(planned.tensors)],
            "layer_lines": [step["comment"] for step in steps],
            "weights": self.weights or [0],
            "weight_lines": _lines(self.weights or [0]),
            "weights_comment": "Weights in the order of their use: outputs, rows, columns, inputs.",
            "channel_values": self.values or [0],
            "channel_lines": _lines(self.values or [0]),
            "bits": sorted(self.bits),
            "has_maximum": IntegerMaxPool in kinds,
            "has_additions": IntegerAddition in kinds,
            "has_rectified": any(r.rectified for r in requantized),
            "has_offsets": any(_varies(r) for r in requantized),
            "has_groups": any(_is_grouped(step.layer) for step in planned.steps),
            "pixel_zeros": zeros if len(set(zeros)) > 1 and any(planned.tensors[0].padding) else (),
            "max_rows": self._max_rows(),
            "num_sums": planned.num_sums,
            "counters": planned.state_bytes,
            "counters_address": planned.ring_bytes + 3,
            "scores_address": planned.tensors[-1].address,
            "data_bytes": len(self.weights)
            + 2 * len(self.values)
            + len(steps) * (38 if IntegerAddition in kinds else 36)
            + len(planned.tensors) * 10,
        }

    def _max_rows(self) -> int:
        rows = [1 if s.accumulates else s.window.kernel[0] for s in self.plan.steps]
        return max([*rows, 2 if self.plan.has_additions else 1])

    def _tensor(self, place: int, tensor: Tensor) -> list[int]:
        zero = self.plan.network.zero_points(place - 1)[0]
        readers = [step.layer for step in self.plan.steps if place in step.inputs]
        if any(isinstance(layer, IntegerMaxPool) for layer in readers) and any(tensor.padding):
            zero = -128
        rows, columns = tensor.padding
        return [
            tensor.address,
            tensor.row_bytes,
            tensor.ring_rows,
            tensor.num_rows,
            rows,
            columns * tensor.shape[0],
            zero,
        ]

    def _step(self, step: Step) -> dict[str, Any]:
        layer, window = step.layer, step.window
        tensor = self.plan.tensors[step.inputs[0]]
        channels = tensor.shape[0]
        bits, length, runs, run_step = 8, channels, window.kernel[1], window.dilation[1] * channels
        group, group_inputs, weights = layer.shape[0], 0, len(self.weights)
        requantize: Requantization | None = None
        channel = len(self.values)
        if isinstance(layer, IntegerConvolution):
            group, group_inputs = layer.shape[0] // layer.groups, channels // layer.groups
            length = group_inputs
            if layer.groups == 1 and window.dilation[1] == 1:
                length, runs = runs * channels, 1
            bits = layer.bits if length >= 8 // layer.bits else 8
            self.weights += _packed(layer.weight, length, bits)
            requantize = layer.requantize
        elif isinstance(layer, IntegerAveragePool):
            bits, length, group, group_inputs = _NO_WEIGHTS, 1, 1, 1
            requantize = layer.requantize
        per_channel, offset = self._add_values(layer, requantize)
        if requantize is not None:
            self.bits.add(bits)
        fields = [
            weights,
            channel,
            length,
            run_step,
            window.stride[1] * channels,
            (tensor.padding[1] - window.padding[1]) * channels,
            step.sums_address,
            offset,
            _kind(layer),
            step.inputs[0],
            self._first_row(step, 0),
            window.kernel[0],
            int(step.accumulates),
            window.stride[0],
            window.dilation[0],
            runs,
            bits,
            layer.shape[2],
            layer.shape[0],
            group,
            group_inputs,
            per_channel,
            *_limits(layer, requantize),
        ]
        if self.plan.has_additions:
            fields += self._second(step)
        return {"values": fields, "comment": self._describe(step)}

    def _first_row(self, step: Step, which: int) -> int:
        return self.plan.tensors[step.inputs[which]].padding[0] - step.window.padding[0]

    def _second(self, step: Step) -> list[int]:
        if len(step.inputs) == 1:
            return [0, 0, 0]
        tensor = self.plan.tensors[step.inputs[1]]
        return [step.inputs[1], self._first_row(step, 1), tensor.padding[1] * tensor.shape[0]]

    def _add_values(self, layer: Any, requantize: Requantization | None) -> tuple[int, int]:
        """Add a step's values; how many there are for each channel, and the common offset."""
        if isinstance(layer, IntegerAddition):
            for source, multiplier in zip(layer.inputs, layer.multiplier, strict=True):
                self.values += [self.plan.network.zero_points(source)[0], multiplier]
            return 0, layer.zero_point
        if requantize is None:
            return 0, 0
        columns = [requantize.bias, requantize.multiplier]
        columns += [requantize.offset] if _varies(requantize) else []
        self.values += np.stack(columns, axis=1).ravel().tolist()
        return len(columns) if len(requantize.bias) > 1 else 0, int(requantize.offset[0])

    def _describe(self, step: Step) -> str:
        layer, window = step.layer, step.window
        kernel = "x".join(map(str, window.kernel))
        kind = {
            IntegerConvolution: f"convolution {kernel}",
            IntegerAveragePool: f"average pool {kernel}",
            IntegerMaxPool: f"max pool {kernel}",
            IntegerAddition: "addition",
        }[type(layer)]
        source, output = (
            "x".join(map(str, shape))
            for shape in (self.plan.tensors[step.inputs[0]].shape, layer.shape)
        )
        text = f"{layer.name}: {kind}, {source} to {output}"
        if isinstance(layer, IntegerConvolution):
            text += f", {layer.weight.size} weights of {layer.bits} bits"
        return _comment(text)


def _kind(layer: object) -> str:
    return {
        IntegerConvolution: "CONVOLUTION",
        IntegerAveragePool: "AVERAGE",
        IntegerMaxPool: "MAXIMUM",
        IntegerAddition: "ADDITION",
    }[type(layer)]


def _varies(requantize: Requantization) -> bool:
    """Whether the channels have different offsets."""
    return len(set(requantize.offset.tolist())) > 1


def _is_grouped(layer: object) -> bool:
    """Whether outputs have different inputs."""
    if isinstance(layer, IntegerConvolution):
        return layer.groups > 1
    return isinstance(layer, IntegerAveragePool)


def _limits(layer: Any, requantize: Requantization | None) -> list[int]:
    """Rectified, pre-shift, shift, low, high."""
    if requantize is None:
        return [0, 0, getattr(layer, "shift", 1), layer.low, layer.high]
    return [
        int(requantize.rectified),
        requantize.pre_shift,
        requantize.shift,
        requantize.low,
        requantize.high,
    ]


def _packed(weight: Int8, length: int, bits: int) -> list[int]:
    """Bytes of weights, run by run; the first weight is in the lowest bits of a byte."""
    runs = weight.transpose(0, 2, 3, 1).reshape(-1, length).astype(np.int64)
    each = 8 // bits
    padded = np.pad(runs, ((0, 0), (0, -length % each))).reshape(-1, each)
    fields = (padded & ((1 << bits) - 1)) << (bits * np.arange(each))
    packed: list[int] = fields.sum(1).tolist()
    return packed


def _lines(values: Sequence[int], per_line: int = 20) -> Iterator[str]:
    for start in range(0, len(values), per_line):
        yield ", ".join(map(str, values[start : start + per_line])) + ","
