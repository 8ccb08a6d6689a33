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
_NO_WEIGHTS = 1  # written as the bits of an average pool
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("smidgen.exporters"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct in the code."""

    type: str
    name: str
    comment: str
    feature: str = ""
    """It is there only if the network has this."""


_TENSOR_FIELDS = (
    Field("uint16_t", "address", "of its ring, in bytes"),
    Field("uint16_t", "row_bytes", "with the padding on both sides"),
    Field("uint8_t", "ring_rows", "rows that are kept"),
    Field("uint8_t", "rows", "with the padding above and below"),
    Field("uint8_t", "pad_rows", "above, and below", "padding"),
    Field("uint8_t", "pad_bytes", "on the left, and on the right", "padding"),
    Field("int8_t", "zero", "fills the padding", "padding"),
)
_STEP_FIELDS = (
    Field("uint16_t", "weights", "index of its first byte"),
    Field("uint16_t", "channel", "index of the values of its first channel"),
    Field("uint16_t", "run_length", "inputs of a window that are adjacent in memory"),
    Field("uint16_t", "run_step", "from one run to the next in the same row"),
    Field("uint16_t", "column_step", "from one window to the next"),
    Field("uint16_t", "sums", "index of its first sum, if it takes its input row by row"),
    Field("int16_t", "offset", "in 64ths, of all channels"),
    Field("uint16_t", "start", "of the first window in its row", "padding"),
    Field("uint8_t", "first_row", "of the input that is needed", "padding"),
    Field("uint8_t", "kind", "what it computes"),
    Field("uint8_t", "input", "the tensor that it reads"),
    Field("uint8_t", "window_rows", ""),
    Field("uint8_t", "row_by_row", "1: it takes its input row by row, and keeps sums or maxima"),
    Field("uint8_t", "row_step", "from one window to the next"),
    Field("uint8_t", "dilation", "of rows", "dilation"),
    Field("uint8_t", "runs", "in a row of the window"),
    Field("uint8_t", "bits", "of a weight"),
    Field("uint8_t", "width", "of the output"),
    Field("uint8_t", "channels", "of the output"),
    Field("uint8_t", "group", "output channels with the same inputs", "groups"),
    Field("uint8_t", "group_inputs", "from one group to the next", "groups"),
    Field("uint8_t", "values", "of a channel: bias, multiplier, perhaps offset; 0: one for all"),
    Field("uint8_t", "rectified", "1: negative sums become 0", "rectified"),
    Field("uint8_t", "pre_shift", ""),
    Field("uint8_t", "shift", ""),
    Field("int8_t", "low", ""),
    Field("int8_t", "high", ""),
    Field("uint8_t", "second", "the other input of an addition", "additions"),
    Field("uint8_t", "second_row", "its first row that is needed", "additions"),
    Field("uint8_t", "second_start", "where it starts in a row", "additions"),
)
_BYTES = {"uint16_t": 2, "int16_t": 2, "uint8_t": 1, "int8_t": 1}


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
        HEADER: TEMPLATES.get_template("model.h.jinja").render(context),
        SOURCE: TEMPLATES.get_template("model.c.jinja").render(context),
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
        has = _features(planned)
        tensor_fields, step_fields = (
            [each for each in fields if not each.feature or each.feature in has]
            for fields in (_TENSOR_FIELDS, _STEP_FIELDS)
        )
        steps = [self._step(step) for step in planned.steps]
        tensors = [self._tensor(n, tensor) for n, tensor in enumerate(planned.tensors)]
        zeros = planned.network.input_zero_points
        return {
            "has": has,
            "tensor_fields": tensor_fields,
            "step_fields": step_fields,
            "tensors": [[values[each.name] for each in tensor_fields] for values in tensors],
            "steps": [[values[each.name] for each in step_fields] for values in steps],
            "layer_lines": [self._describe(step) for step in planned.steps],
            "weights": self.weights or [0],
            "weight_lines": _lines(self.weights or [0]),
            "channel_values": self.values or [0],
            "channel_lines": _lines(self.values or [0]),
            "bits": sorted(self.bits),
            "pixel_zeros": zeros if len(set(zeros)) > 1 and any(planned.tensors[0].padding) else (),
            "max_rows": self._max_rows(),
            "num_sums": planned.num_sums,
            "counters": planned.state_bytes,
            "counters_address": planned.ring_bytes + 3,
            "scores_address": planned.tensors[-1].address,
            "data_bytes": len(self.weights)
            + 2 * len(self.values)
            + len(steps) * _struct_bytes(step_fields)
            + len(tensors) * _struct_bytes(tensor_fields),
        }

    def _max_rows(self) -> int:
        rows = [1 if s.accumulates else s.window.kernel[0] for s in self.plan.steps]
        return max([*rows, 2 if self.plan.has_additions else 1])

    def _tensor(self, place: int, tensor: Tensor) -> dict[str, int]:
        zero = self.plan.network.zero_points(place - 1)[0]
        readers = [step.layer for step in self.plan.steps if place in step.inputs]
        if any(isinstance(layer, IntegerMaxPool) for layer in readers) and any(tensor.padding):
            zero = -128
        rows, columns = tensor.padding
        return {
            "address": tensor.address,
            "row_bytes": tensor.row_bytes,
            "ring_rows": tensor.ring_rows,
            "rows": tensor.num_rows,
            "pad_rows": rows,
            "pad_bytes": columns * tensor.shape[0],
            "zero": zero,
        }

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
        return {
            "weights": weights,
            "channel": channel,
            "run_length": length,
            "run_step": run_step,
            "column_step": window.stride[1] * channels,
            "sums": step.sums_address,
            "offset": offset,
            "start": (tensor.padding[1] - window.padding[1]) * channels,
            "first_row": step.first_rows[0],
            "kind": _KINDS[type(layer)],
            "input": step.inputs[0],
            "window_rows": window.kernel[0],
            "row_by_row": int(step.accumulates),
            "row_step": window.stride[0],
            "dilation": window.dilation[0],
            "runs": runs,
            "bits": bits,
            "width": layer.shape[2],
            "channels": layer.shape[0],
            "group": group,
            "group_inputs": group_inputs,
            "values": per_channel,
            **_limits(layer, requantize),
            **self._second(step),
        }

    def _second(self, step: Step) -> dict[str, int]:
        if len(step.inputs) == 1:
            return dict.fromkeys(("second", "second_row", "second_start"), 0)
        tensor = self.plan.tensors[step.inputs[1]]
        return {
            "second": step.inputs[1],
            "second_row": step.first_rows[1],
            "second_start": tensor.padding[1] * tensor.shape[0],
        }

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


_KINDS = {
    IntegerConvolution: "CONVOLUTION",
    IntegerAveragePool: "AVERAGE",
    IntegerMaxPool: "MAXIMUM",
    IntegerAddition: "ADDITION",
}


def _features(planned: Plan) -> set[str]:
    """What the code must be able to do."""
    layers = [step.layer for step in planned.steps]
    requantized = [
        layer.requantize
        for layer in layers
        if isinstance(layer, IntegerConvolution | IntegerAveragePool)
    ]
    found = {
        "additions": planned.has_additions,
        "maxima": any(isinstance(layer, IntegerMaxPool) for layer in layers),
        "rectified": any(r.rectified for r in requantized),
        "offsets": any(_varies(r) for r in requantized),
        "groups": any(_is_grouped(layer) for layer in layers),
        "padding": any(any(tensor.padding) for tensor in planned.tensors),
        "dilation": any(step.window.dilation[0] > 1 for step in planned.steps),
    }
    return {name for name, there in found.items() if there}


def _struct_bytes(fields: Sequence[Field]) -> int:
    """Size where 16-bit values are aligned."""
    return (sum(_BYTES[each.type] for each in fields) + 1) // 2 * 2


def _varies(requantize: Requantization) -> bool:
    """Whether the channels have different offsets."""
    return len(set(requantize.offset.tolist())) > 1


def _is_grouped(layer: object) -> bool:
    """Whether outputs have different inputs."""
    if isinstance(layer, IntegerConvolution):
        return layer.groups > 1
    return isinstance(layer, IntegerAveragePool)


def _limits(layer: Any, requantize: Requantization | None) -> dict[str, int]:
    if requantize is None:
        shift = layer.shift if isinstance(layer, IntegerAddition) else 1
        return {
            "rectified": 0,
            "pre_shift": 0,
            "shift": shift,
            "low": layer.low,
            "high": layer.high,
        }
    return {
        "rectified": int(requantize.rectified),
        "pre_shift": requantize.pre_shift,
        "shift": requantize.shift,
        "low": requantize.low,
        "high": requantize.high,
    }


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


@dataclass(frozen=True, slots=True)
class CodeSummary:
    """What decides how much flash and RAM the code needs."""

    data_bytes: int
    """Weights and tables."""
    memory_bytes: int
    """The working memory."""
    features: frozenset[str]
    """What the code must be able to do."""


def code_summary(network: IntegerNetwork) -> CodeSummary:
    """A summary of the code of a network, without writing it; raises as c_code does."""
    planned = plan(network)
    context = _Tables(planned).context()
    features = {*context["has"], *(f"{bits} bits" for bits in context["bits"])}
    features |= {"pixel zeros"} if context["pixel_zeros"] else set()
    return CodeSummary(context["data_bytes"], planned.memory_bytes, frozenset(features))
