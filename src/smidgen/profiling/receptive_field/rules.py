"""For each operator, what its output sees, given what its inputs see."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from smidgen import record
from smidgen.profiling.receptive_field.arithmetic import Window, crop, slide
from smidgen.profiling.receptive_field.axes import Sight, UnknownError, merged, places, plain, tidy
from smidgen.profiling.trace import Operator, Value

Sights = Mapping[int, Sight]
"""By the key of the value; a value that is not there sees nothing of the image."""
Rule = Callable[[Operator, Sights], Sight]


def window_of(operator: Operator) -> record.Window | None:
    """What the operator slides over its input, (vertical, horizontal); None where nothing.

    A window along one dimension is one row high. Transposed and three-dimensional windows are none.
    """
    arguments = operator.arguments
    if operator.name == "convolution" and not arguments["transposed"]:
        kernel = list(arguments["weight"].shape[2:])
    elif operator.name in _POOLS:
        kernel = list(arguments["kernel_size"])
    else:
        return None
    if len(kernel) > 2:
        return None
    if operator.name in _POOLS:
        kernel = kernel * (_POOLS[operator.name] // len(kernel))
    return record.Window(
        kernel=_pair(kernel, len(kernel), 1),
        stride=_pair(arguments["stride"] or kernel, len(kernel), 1),
        padding=_pair(arguments["padding"], len(kernel), 0),
        dilation=_pair(arguments.get("dilation", 1), len(kernel), 1),
    )


_POOLS = {"avg_pool1d": 1, "avg_pool2d": 2, "max_pool2d_with_indices": 2}


def _pair(value: Any, sides: int, neutral: int) -> record.Pair:
    each = [value] if isinstance(value, int) else list(value)
    each = each * sides if len(each) == 1 else each
    vertical, horizontal = each if sides == 2 else (neutral, each[0])
    return vertical, horizontal


def _window(operator: Operator, sights: Sights) -> Sight:
    value, window = _first(operator), window_of(operator)
    if window is None:
        raise UnknownError("only plain windows of one or two dimensions are known")
    sight = sights[value.key]
    if operator.name == "convolution":
        sight = _across_channels(operator, sight, sights)
    sides = _POOLS.get(operator.name) or len(operator.arguments["weight"].shape) - 2
    fields, dimensions = list(sight.fields), list(sight.dimensions)
    for place in range(-sides, 0):
        side = 2 + place
        one = Window(
            window.kernel[side], window.stride[side], window.dilation[side], window.padding[side]
        )
        size = operator.outputs[0].shape[place]
        dimension = dimensions[place]
        axes = [axis for axis, _ in dimension if axis is not None]
        if not axes:
            if sides == 2 and places(dimension) == 1:  # a map of one place
                fields[side] = slide(fields[side], one)
            dimensions[place] = plain(size)
        elif len(dimension) == 1:
            fields[axes[0]] = slide(fields[axes[0]], one)
            dimensions[place] = tidy([(axes[0], size)])
        elif (one.kernel, one.stride, one.padding) != (1, 1, 0):
            raise UnknownError("its window runs along a flattened map")
    return Sight((fields[0], fields[1]), tuple(dimensions))


def _across_channels(operator: Operator, sight: Sight, sights: Sights) -> Sight:
    """A convolution looks along all channels of its group, which is mostly no axis of the image."""
    weight, bias = operator.arguments["weight"], operator.arguments["bias"]
    if weight.key in sights or (bias is not None and bias.key in sights):
        raise UnknownError("its weights depend on the image")
    if sight.has_axis([1]):
        if operator.arguments["groups"] != 1:
            raise UnknownError("its channels lie on the image")
        sight = sight.swept([1])
    dimensions = list(sight.dimensions)
    dimensions[1] = plain(operator.outputs[0].shape[1])
    return replace(sight, dimensions=tuple(dimensions))


def _pointwise(operator: Operator, sights: Sights) -> Sight:
    shape = operator.outputs[0].shape
    seen = [sights[v.key] for v in operator.inputs if v.key in sights]
    return merged([sight.broadcast(shape) for sight in seen])


def _same(operator: Operator, sights: Sights) -> Sight:
    return sights[_first(operator).key]


def _reduce(operator: Operator, sights: Sights) -> Sight:
    sight = _same(operator, sights)
    rank = len(sight.dimensions)
    dims = _places(operator.arguments.get("dim"), rank)
    sight = sight.swept(dims)
    if operator.arguments.get("keepdim", False):
        kept = [() if i in dims else d for i, d in enumerate(sight.dimensions)]
    else:
        kept = [d for i, d in enumerate(sight.dimensions) if i not in dims]
    return replace(sight, dimensions=tuple(kept))


def _along(operator: Operator, sights: Sights) -> Sight:
    sight = _same(operator, sights)
    return sight.swept(_places(operator.arguments["dim"], len(sight.dimensions)))


def _batch_norm(operator: Operator, sights: Sights) -> Sight:
    """With stored statistics each element stands alone; with the input's own, it sees its map."""
    sight = _same(operator, sights)
    if not operator.arguments.get("training", False):
        return sight
    return sight.swept(i for i in range(len(sight.dimensions)) if i != 1)


def _group_norm(operator: Operator, sights: Sights) -> Sight:
    sight = _same(operator, sights)
    return sight.swept(range(1, len(sight.dimensions)))


def _layer_norm(operator: Operator, sights: Sights) -> Sight:
    sight = _same(operator, sights)
    return sight.swept(range(-len(operator.arguments["normalized_shape"]), 0))


def _adaptive_pool(operator: Operator, sights: Sights) -> Sight:
    """One output sees the whole map; a number that divides it makes windows side by side."""
    sight = _same(operator, sights)
    shape, out = _first(operator).shape, operator.outputs[0].shape
    fields, dimensions = list(sight.fields), list(sight.dimensions)
    for place in (-2, -1):
        dimension, before, after = dimensions[place], shape[place], out[place]
        axes = [axis for axis, _ in dimension if axis is not None]
        if after == 1:
            sight = replace(sight, fields=(fields[0], fields[1])).swept([place])
            fields = list(sight.fields)
        elif axes and (before % after or len(dimension) > 1):
            raise UnknownError(f"{before} places do not divide into {after} alike")
        elif axes:
            each = before // after
            fields[axes[0]] = slide(fields[axes[0]], Window(each, stride=each))
        dimensions[place] = tidy([(axes[0] if axes else None, after)])
    return Sight((fields[0], fields[1]), tuple(dimensions))


def _product(left: str, right: str, bias: str | None = None) -> Rule:
    """(..., m, k) times (..., k, n): looks along k of both."""

    def rule(operator: Operator, sights: Sights) -> Sight:
        shape = operator.outputs[0].shape
        a, b = operator.arguments[left], operator.arguments[right]
        seen = []
        rows = columns = None
        if a.key in sights:
            rows = sights[a.key].swept([-1])
            seen.append(replace(rows, dimensions=(*rows.dimensions[:-1], plain(shape[-1]))))
        if b.key in sights:
            columns = sights[b.key].swept([-2])
            before = (*columns.dimensions[:-2], plain(shape[-2]))
            seen.append(replace(columns, dimensions=(*before, columns.dimensions[-1])))
        if rows is not None and columns is not None:
            both = _axes(rows, -2) & _axes(columns, -1)
            if both:  # an output for each pair of places: it sees two squares, taken as all
                seen = [_fixed(sight) for sight in seen]
        if bias is not None and operator.arguments[bias].key in sights:
            seen.append(sights[operator.arguments[bias].key].broadcast(shape))
        return merged(seen)

    return rule


def _axes(sight: Sight, place: int) -> set[int]:
    return {axis for axis, _ in sight.dimensions[place] if axis is not None}


def _fixed(sight: Sight) -> Sight:
    return sight.swept(range(len(sight.dimensions)))


def _attention(operator: Operator, sights: Sights) -> Sight:
    shape = operator.outputs[0].shape
    query, key, value = (operator.arguments[name] for name in ("query", "key", "value"))
    seen = []
    if query.key in sights:
        sight = sights[query.key].swept([-1])
        seen.append(replace(sight, dimensions=(*sight.dimensions[:-1], plain(shape[-1]))))
    for one, looked in ((key, [-2, -1]), (value, [-2])):
        if one.key in sights:
            sight = sights[one.key].swept(looked)
            tail = plain(shape[-1]) if one is key else sight.dimensions[-1]
            heads = (*sight.dimensions[:-2], plain(shape[-2]), tail)
            seen.append(replace(sight, dimensions=heads))
    return merged(seen)


def _reshape(operator: Operator, sights: Sights) -> Sight:
    return _same(operator, sights).reshaped(operator.outputs[0].shape)


def _permute(operator: Operator, sights: Sights) -> Sight:
    sight = _same(operator, sights)
    order = list(range(len(sight.dimensions)))
    if operator.name == "permute":
        order = [order[place] for place in operator.arguments["dims"]]
    elif len(order) > 1:
        a = operator.arguments.get("dim0", 0)
        b = operator.arguments.get("dim1", 1)
        order[a], order[b] = order[b], order[a]
    return replace(sight, dimensions=tuple(sight.dimensions[i] for i in order))


def _expand(operator: Operator, sights: Sights) -> Sight:
    return _same(operator, sights).broadcast(operator.outputs[0].shape)


def _select(operator: Operator, sights: Sights) -> Sight:
    sight = _same(operator, sights)
    place = operator.arguments["dim"] % len(sight.dimensions)
    start = int(operator.arguments["index"]) % _first(operator).shape[place]
    sight = _cropped(sight, place, start, 1, 1)
    kept = [d for i, d in enumerate(sight.dimensions) if i != place]
    return replace(sight, dimensions=tuple(kept))


def _slice(operator: Operator, sights: Sights) -> Sight:
    sight = _same(operator, sights)
    place = operator.arguments["dim"] % len(sight.dimensions)
    size = _first(operator).shape[place]
    start = operator.arguments["start"] or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    length = operator.outputs[0].shape[place]
    return _cropped(sight, place, start, operator.arguments["step"], length)


def _cropped(sight: Sight, place: int, start: int, step: int, length: int) -> Sight:
    dimension = sight.dimensions[place]
    fields, dimensions = list(sight.fields), list(sight.dimensions)
    axes = [axis for axis, _ in dimension if axis is not None]
    if not axes or places(dimension) == length:
        dimensions[place] = dimension if axes else plain(length)
    elif len(dimension) > 1:
        raise UnknownError("it takes a part of a flattened map")
    else:
        fields[axes[0]] = crop(fields[axes[0]], start, step)
        dimensions[place] = tidy([(axes[0], length)])
    return Sight((fields[0], fields[1]), tuple(dimensions))


def _split(operator: Operator, sights: Sights) -> Sight:
    sight = _same(operator, sights)
    place = operator.arguments["dim"]
    if sight.has_axis([place]):
        raise UnknownError("it takes the map apart")
    dimensions = list(sight.dimensions)
    if operator.name == "unbind":
        del dimensions[place]
    else:
        dimensions[place] = plain(operator.outputs[0].shape[place])
    return replace(sight, dimensions=tuple(dimensions))


def _pad(operator: Operator, sights: Sights) -> Sight:
    """Padding moves the square; a mirrored or repeated border lies within the square as it is."""
    sight = _same(operator, sights)
    widths = operator.arguments.get("pad", operator.arguments.get("padding"))
    assert widths is not None
    for i in range(len(widths) // 2):
        place = len(sight.dimensions) - 1 - i
        length = operator.outputs[0].shape[place]
        sight = _cropped(sight, place, -int(widths[2 * i]), 1, length)
    return sight


def _cat(operator: Operator, sights: Sights) -> Sight:
    values = [v for v in operator.arguments["tensors"] if isinstance(v, Value)]
    shape = operator.outputs[0].shape
    place = operator.arguments["dim"] % len(shape)
    seen = []
    for value in values:
        if value.key in sights:
            sight = sights[value.key]
            before = list(sight.dimensions)
            if operator.name == "stack":
                before.insert(place, ())
            elif sight.has_axis([place]) and len(values) > 1:
                raise UnknownError("it joins maps side by side")
            before[place] = plain(shape[place])
            seen.append(replace(sight, dimensions=tuple(before)))
    return merged(seen)


def _first(operator: Operator) -> Value:
    """The tensor that the operator is about: the first of its schema."""
    return next(v for v in operator.arguments.values() if isinstance(v, Value))


def _places(dim: Any, rank: int) -> list[int]:
    dims: Iterable[int] = [dim] if isinstance(dim, int) else dim or range(rank)
    return [place % rank for place in dims]


def _each(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_each("convolution avg_pool1d avg_pool2d max_pool2d_with_indices", _window),
    **_each("_adaptive_avg_pool2d adaptive_max_pool2d", _adaptive_pool),
    **_each("mean sum amax amin max min argmax argmin var std var_mean std_mean prod", _reduce),
    **_each("logsumexp linalg_vector_norm norm any all", _reduce),
    **_each("_softmax _log_softmax cumsum sort", _along),
    **_each("native_batch_norm _native_batch_norm_legit", _batch_norm),
    **_each("_native_batch_norm_legit_no_training", _same),
    **_each("native_group_norm", _group_norm),
    **_each("native_layer_norm", _layer_norm),
    **_each("mm bmm", _product("self", "mat2")),
    **_each("addmm", _product("mat1", "mat2", "self")),
    **_each("baddbmm", _product("batch1", "batch2", "self")),
    **_each("_scaled_dot_product_flash_attention_for_cpu", _attention),
    **_each("view _unsafe_view reshape unsqueeze squeeze", _reshape),
    **_each("permute transpose t", _permute),
    **_each("expand", _expand),
    **_each("select", _select),
    **_each("slice", _slice),
    **_each("split split_with_sizes unsafe_split unsafe_chunk unbind", _split),
    **_each("constant_pad_nd reflection_pad1d reflection_pad2d", _pad),
    **_each("replication_pad1d replication_pad2d", _pad),
    **_each("cat stack", _cat),
    **_each("alias detach clone contiguous _to_copy lift_fresh channel_shuffle", _same),
}


def rule_for(operator: Operator) -> Rule | None:
    """The rule for an operator; None where there is none."""
    if operator.name in RULES:
        return RULES[operator.name]
    return _pointwise if operator.pointwise else None
