"""What each operator of a traced network adds to the graph."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smidgen.errors import ModelError
from smidgen.exporters.graph import PIXELS, UNBOUNDED, Addition, Convolution, Floats, Pool, Shape

if TYPE_CHECKING:
    from smidgen.exporters.tracing import Reader


def label(node: torch.fx.Node) -> str:
    """The node in words: the module that it comes from, if it is known."""
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
        raise ModelError(f"{label(node)} has an output of {len(sizes)} dimensions.")
    channels, height, width = (*sizes, 1, 1)[:3]
    return int(channels), int(height), int(width)


def _convolution(reader: "Reader", node: torch.fx.Node) -> None:
    given = _arguments(node)
    weight = reader.value(node, given["weight"])
    if isinstance(given["padding"], str):
        raise ModelError(f"{label(node)} has padding {given['padding']!r}; state it as a number.")
    reader.add(node, new_convolution(reader, node, weight, given))


def new_convolution(
    reader: "Reader",
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


def _linear(reader: "Reader", node: torch.fx.Node) -> None:
    given = _arguments(node)
    weight = reader.value(node, given["weight"])
    source = reader.source(node)
    channels, height, width = input_shape(reader, source)
    if weight.shape[1] != channels * height * width:
        raise ModelError(f"{label(node)} is not applied to the whole flattened image.")
    weight = weight.reshape(-1, channels, height, width)
    reader.add(node, new_convolution(reader, node, weight, {"bias": given["bias"]}))


def input_shape(reader: "Reader", place: int) -> Shape:
    """Shape of the output of a layer, or of the pixels."""
    if place != PIXELS:
        return reader.layers[place].shape
    return _shape(next(node for node, at in reader.places.items() if at == PIXELS))


def _batch_norm(reader: "Reader", node: torch.fx.Node) -> None:
    given = _arguments(node)
    mean, variance = (reader.value(node, given[f"running_{key}"]) for key in ("mean", "var"))
    scale = 1 / np.sqrt(variance + given["eps"])
    if given["weight"] is not None:
        scale = scale * reader.value(node, given["weight"])
    shift = -mean * scale
    if given["bias"] is not None:
        shift = shift + reader.value(node, given["bias"])
    last = reader.free(node)
    if isinstance(last, Convolution) and not last.has_affine and last.bounds == UNBOUNDED:
        folded = last.weight * scale[:, None, None, None]
        reader.layers[-1] = replace(last, weight=folded, bias=last.bias * scale + shift)
        reader.same(node)
    elif isinstance(last, Convolution) and not last.has_affine and last.bounds[1] == math.inf:
        reader.layers[-1] = replace(last, scale=scale, shift=shift)
        reader.same(node)
    else:
        shape = input_shape(reader, reader.source(node))
        weight, given = scale.reshape(-1, 1, 1, 1), {"groups": len(scale)}
        reader.add(node, replace(new_convolution(reader, node, weight, given, shape), bias=shift))


def _first_output(reader: "Reader", node: torch.fx.Node) -> None:
    if node.args[1] != 0:
        raise ModelError(f"{label(node)} cannot be exported.")
    reader.same(node)


def _relu(reader: "Reader", node: torch.fx.Node) -> None:
    _clamp(reader, node, 0.0, math.inf)


def _hardtanh(reader: "Reader", node: torch.fx.Node) -> None:
    given = _arguments(node)
    if given["min_val"] != 0:
        raise ModelError(
            f"{label(node)} cannot be exported: it clamps below at another value than 0."
        )
    _clamp(reader, node, 0.0, float(given["max_val"]))


def _relu6(reader: "Reader", node: torch.fx.Node) -> None:
    _clamp(reader, node, 0.0, 6.0)


def _clamp(reader: "Reader", node: torch.fx.Node, low: float, high: float) -> None:
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


def _max_pool(reader: "Reader", node: torch.fx.Node) -> None:
    given = _arguments(node)
    if _pair(given["dilation"]) != (1, 1):
        raise ModelError(f"{label(node)} cannot be exported: it is dilated.")
    _pool(reader, node, given, "max")


def _average_pool(reader: "Reader", node: torch.fx.Node) -> None:
    given = _arguments(node)
    if any(_pair(given["padding"])) and not given["count_include_pad"]:
        raise ModelError(f"{label(node)} cannot be exported: set count_include_pad=True.")
    if given["divisor_override"] is not None:
        raise ModelError(f"{label(node)} cannot be exported: it has a divisor_override.")
    _pool(reader, node, given, "average")


def _pool(reader: "Reader", node: torch.fx.Node, given: dict[str, Any], kind: str) -> None:
    if given["ceil_mode"]:
        raise ModelError(f"{label(node)} cannot be exported: it has ceil_mode=True.")
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


def _adaptive_pool(reader: "Reader", node: torch.fx.Node) -> None:
    source = reader.source_layer(node)
    shape = input_shape(reader, source)
    output = _shape(node)
    if any(side % out for side, out in zip(shape[1:], output[1:], strict=True)):
        raise ModelError(f"{label(node)} cannot be exported: its windows differ in size.")
    kernel = (shape[1] // output[1], shape[2] // output[2])
    _add_average(reader, node, source, kernel, output)


def _mean(reader: "Reader", node: torch.fx.Node) -> None:
    source = reader.source_layer(node)
    shape = input_shape(reader, source)
    dims = _arguments(node)["dim"]
    if dims is None or sorted(dim % 4 for dim in dims) != [2, 3]:
        raise ModelError(f"{label(node)} is not a mean over height and width.")
    _add_average(reader, node, source, shape[1:], (shape[0], 1, 1))


def _add_average(
    reader: "Reader", node: torch.fx.Node, source: int, kernel: tuple[int, int], shape: Shape
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


def _same(reader: "Reader", node: torch.fx.Node) -> None:
    reader.same(node)


def _addition(reader: "Reader", node: torch.fx.Node) -> None:
    places = (reader.source(node, 0), reader.source(node, 1))
    if node.kwargs.get("alpha", 1) != 1 or PIXELS in places:
        raise ModelError(f"{label(node)} cannot be exported: it is not a sum of two layers.")
    first, second = (input_shape(reader, place) for place in places)
    if first != second:
        raise ModelError(f"{label(node)} adds tensors of different shapes.")
    reader.add(node, Addition(name=_name(node), inputs=places, shape=first))


def _reshape(reader: "Reader", node: torch.fx.Node) -> None:
    value = node.meta["val"]
    channels, height, width = input_shape(reader, reader.source(node))
    if list(value.shape) not in (
        [2, channels * height * width],
        [2, channels, height, width],
        [2, channels * height * width, 1, 1],
    ):
        raise ModelError(f"{label(node)} reshapes its input to something else than a flat vector.")
    reader.same(node)


def _end(reader: "Reader", node: torch.fx.Node) -> None:
    if _arguments(node)["dim"] not in (1, -1):
        raise ModelError(f"{label(node)} is not over the classes.")
    reader.same(node)
    reader.ended_by = label(node)


RULES: dict[str, Callable[["Reader", torch.fx.Node], None]] = {
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
    "clone": _same,
    "dropout": _same,
    "feature_dropout": _same,
    "contiguous": _same,
    "alias": _same,
    "detach": _same,
    "log_softmax": _end,
    "_log_softmax": _end,
    "softmax": _end,
    "_softmax": _end,
}
