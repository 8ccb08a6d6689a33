"""One rule for each operator: the spans of its outputs, given those of its inputs.

A rule works along one axis of the image (0 vertical, 1 horizontal) and is called for both.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

from torch import Tensor

from smidgen import record
from smidgen.profiling.receptive_field.span import Span, UnknownError, combine
from smidgen.profiling.trace import Operator, Value

Spans = Mapping[int, Span]
"""By the key of the value; a value that is not in it does not depend on the image."""
Rule = Callable[[Operator, Spans, int], Span | list[Span]]

_POOLS = {"avg_pool1d": 1, "avg_pool2d": 2, "max_pool2d_with_indices": 2}


def window_of(operator: Operator) -> record.Window | None:
    """The window that a convolution or pool slides over its input; None for any other operator.

    A window along one dimension is one row high. Transposed and three-dimensional ones are None.
    """
    arguments = operator.arguments
    if operator.name == "convolution" and not arguments["transposed"]:
        kernel = arguments["weight"].shape[2:]
        sides = len(kernel)
    elif operator.name in _POOLS:
        kernel, sides = arguments["kernel_size"], _POOLS[operator.name]
    else:
        return None
    if sides > 2:
        return None

    def pair(value: Any, missing: int) -> record.Pair:
        each = [value] if isinstance(value, int) else [*value]
        return (each[0], each[-1]) if sides == 2 else (missing, each[0])

    return record.Window(
        kernel=pair(kernel, 1),
        stride=pair(arguments["stride"] or kernel, 1),
        padding=pair(arguments["padding"], 0),
        dilation=pair(arguments.get("dilation", 1), 1),
    )


def _first(operator: Operator) -> Value:
    """The tensor that comes first in the operator's schema."""
    return next(v for v in operator.arguments.values() if isinstance(v, Value))


def _unchanged(operator: Operator, spans: Spans, axis: int) -> Span:
    return spans[_first(operator).key]


def _pointwise(operator: Operator, spans: Spans, axis: int) -> Span:
    inputs = [spans[value.key] for value in operator.inputs if value.key in spans]
    return combine(inputs, operator.outputs[0].shape)


# ------------------------------------------------------------------------------------- windows


def _window(operator: Operator, spans: Spans, axis: int) -> Span:
    window, span = window_of(operator), _unchanged(operator, spans, axis)
    if window is None:
        raise UnknownError("only plain windows of one or two dimensions are known")
    convolution = operator.name == "convolution"
    if convolution:
        span = _over_channels(operator, span, spans)
    shape = operator.outputs[0].shape
    sides = len(operator.arguments["weight"].shape) - 2 if convolution else _POOLS[operator.name]
    for side in range(2 - sides, 2):
        dim = len(shape) - 2 + side
        kernel, stride, padding = window.kernel[side], window.stride[side], window.padding[side]
        still = sides == 2 and side == axis and not span.moving  # a map of one element, or shared
        slides = still and (span.shared or span.shape[dim] == 1)
        if slides or span.moves_along(dim):
            if (kernel, stride, padding) != (1, 1, 0):
                span = span.slide(dim, shape[dim], kernel, stride, window.dilation[side], padding)
        else:
            span = span.resize(dim, shape[dim])
    return span.resize(1, shape[1]) if convolution else span


def _over_channels(operator: Operator, span: Span, spans: Spans) -> Span:
    """Of what depends on all channels of a group; an axis of the image rarely runs along them."""
    weights = (operator.arguments["weight"], operator.arguments["bias"])
    if any(value is not None and value.key in spans for value in weights):
        raise UnknownError("its weights depend on the image")
    if span.moves_along(1) and operator.arguments["groups"] != 1:
        raise UnknownError("an axis of the image runs along its channels")
    return span.over([1])


def _adaptive_pool(operator: Operator, spans: Spans, axis: int) -> Span:
    """One output depends on the whole map; n that divide it, on windows next to each other."""
    span, shape = _unchanged(operator, spans, axis), operator.outputs[0].shape
    for dim in (len(shape) - 2, len(shape) - 1):
        size, outputs = span.shape[dim], shape[dim]
        if outputs == 1:
            span = span.over([dim])
        elif not span.moves_along(dim):
            span = span.resize(dim, outputs)
        elif size % outputs:
            raise UnknownError(f"{outputs} does not divide the {size} elements of the map")
        else:
            span = span.slide(dim, outputs, size // outputs, stride=size // outputs)
    return span


def _pad(operator: Operator, spans: Spans, axis: int) -> Span:
    """Padding continues the map; reflected and repeated pixels lie within that."""
    span, shape = _unchanged(operator, spans, axis), operator.outputs[0].shape
    widths = operator.arguments.get("pad", operator.arguments.get("padding"))
    assert widths is not None
    for i in range(len(widths) // 2):
        dim = len(shape) - 1 - i
        if span.moves_along(dim):
            span = span.slide(dim, shape[dim], kernel=1, padding=int(widths[2 * i]))
        else:
            span = span.resize(dim, shape[dim])
    return span


# ----------------------------------------------------------------------- sums, norms, products


def _over(dims_of: Callable[[Operator, int], Iterable[int]]) -> Rule:
    """Every output depends on all elements along the dimensions that `dims_of` gives."""

    def rule(operator: Operator, spans: Spans, axis: int) -> Span:
        span, shape = _unchanged(operator, spans, axis), operator.outputs[0].shape
        span = span.over(dims_of(operator, len(span.shape)))
        reduced = prod(span.shape) == prod(shape)  # otherwise a norm, with the shape of its input
        return span.map(lambda t: t.reshape(shape) if reduced else t.expand(shape))

    return rule


def _reduced(operator: Operator, rank: int) -> Iterable[int]:
    dim = operator.arguments.get("dim")
    return [dim] if isinstance(dim, int) else dim or range(rank)


def _batch_normed(operator: Operator, rank: int) -> Iterable[int]:
    """None with stored statistics; with those of the input, all but the channels."""
    return [dim for dim in range(rank) if dim != 1] if operator.arguments.get("training") else []


def _product(left: str, right: str, bias: str | None = None) -> Rule:
    """(..., m, k) times (..., k, n) depends on all k of both."""

    def rule(operator: Operator, spans: Spans, axis: int) -> Span:
        names = ((left, -1), (right, -2))
        keys = [(operator.arguments[name].key, dim) for name, dim in names]
        inputs = [spans[key].over([dim]) for key, dim in keys if key in spans]
        if len(inputs) == 2 and inputs[0].moving and inputs[1].moving:
            inputs = [span.over() for span in inputs]  # each output has a pair of spans
        if bias is not None and operator.arguments[bias].key in spans:
            inputs.append(spans[operator.arguments[bias].key])
        return combine(inputs, operator.outputs[0].shape)

    return rule


def _attention(operator: Operator, spans: Spans, axis: int) -> Span:
    """A query's output depends on that query and on all keys and values."""
    dims = {"query": [-1], "key": [-2, -1], "value": [-2]}
    keys = [(operator.arguments[name].key, dims[name]) for name in dims]
    inputs = [spans[key].over(over) for key, over in keys if key in spans]
    return combine(inputs, operator.outputs[0].shape)


# --------------------------------------------------------------------------------------- views


def _reshape(operator: Operator, spans: Spans, axis: int) -> Span:
    return _unchanged(operator, spans, axis).reshape(operator.outputs[0].shape)


def _view(operator: Operator, spans: Spans, axis: int) -> list[Span]:
    """The operator moves the spans as it moves the elements."""
    value, span = _first(operator), _unchanged(operator, spans, axis)

    def output(rank: int, tensor: Tensor) -> Tensor:
        arguments = {k: tensor if v is value else v for k, v in operator.arguments.items()}
        result: Any = operator.overload(**arguments)
        moved: Tensor = result if isinstance(result, Tensor) else result[rank]
        return moved

    return [span.map(partial(output, rank)) for rank in range(len(operator.outputs))]


def _slice(operator: Operator, spans: Spans, axis: int) -> list[Span]:
    span, step = _unchanged(operator, spans, axis), operator.arguments["step"]
    if step == 1 or not span.moves_along(operator.arguments["dim"]):
        return _view(operator, spans, axis)
    span.require_even(operator.arguments["dim"])
    return [replace(cut, jump=span.jump * step) for cut in _view(operator, spans, axis)]


def _cat(operator: Operator, spans: Spans, axis: int) -> Span:
    shape, values = operator.outputs[0].shape, operator.arguments["tensors"]
    dim = operator.arguments["dim"] % len(shape)
    inputs = [spans[value.key] for value in values if value.key in spans]
    if operator.name == "stack":
        inputs = [span.map(lambda t: t.unsqueeze(dim)) for span in inputs]
    elif len(values) > 1 and any(span.moves_along(dim) for span in inputs):
        raise UnknownError("it joins maps side by side")
    elif len(values) > 1:
        inputs = [span.resize(dim, 1) for span in inputs]
    return combine(inputs, shape)


def _each(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_each("convolution avg_pool1d avg_pool2d max_pool2d_with_indices", _window),
    **_each("_adaptive_avg_pool2d adaptive_max_pool2d", _adaptive_pool),
    **_each("constant_pad_nd reflection_pad1d reflection_pad2d", _pad),
    **_each("replication_pad1d replication_pad2d", _pad),
    **_each("mean sum amax amin max min argmax argmin var std var_mean std_mean", _over(_reduced)),
    **_each("prod logsumexp linalg_vector_norm norm any all", _over(_reduced)),
    **_each("_softmax _log_softmax cumsum sort", _over(_reduced)),
    **_each("native_batch_norm _native_batch_norm_legit", _over(_batch_normed)),
    **_each("native_group_norm", _over(lambda operator, rank: range(1, rank))),
    **_each(
        "native_layer_norm",
        _over(lambda operator, rank: range(-len(operator.arguments["normalized_shape"]), 0)),
    ),
    **_each("mm bmm", _product("self", "mat2")),
    **_each("addmm", _product("mat1", "mat2", "self")),
    **_each("baddbmm", _product("batch1", "batch2", "self")),
    **_each("_scaled_dot_product_flash_attention_for_cpu", _attention),
    **_each("view _unsafe_view reshape unsqueeze squeeze", _reshape),
    **_each("permute transpose t expand select split split_with_sizes", _view),
    **_each("unsafe_split unsafe_chunk unbind", _view),
    **_each("slice", _slice),
    **_each("cat stack", _cat),
    **_each("alias detach clone contiguous _to_copy lift_fresh channel_shuffle", _unchanged),
    **_each("_native_batch_norm_legit_no_training", _unchanged),
}


def rule_for(operator: Operator) -> Rule | None:
    """The rule for an operator, if there is one."""
    return RULES.get(operator.name, _pointwise if operator.pointwise else None)
