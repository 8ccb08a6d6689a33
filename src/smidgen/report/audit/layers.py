"""Compare the rows of a layer table with each other: parameters, channels and sizes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from smidgen.report.audit.finding import Finding
from smidgen.report.audit.layer_tables import LayerTable, Row, Shape

_MAX_SOURCES = 32  # earlier shapes that may feed a row of a branching network
_KERNELS = (*((k, k) for k in range(1, 16)), *((1, k) for k in range(3, 12, 2)))
_STRIDES = range(1, 9)
_DILATIONS = range(1, 5)


class _Fault(NamedTuple):
    stated: str
    follows: str
    shape_is_doubtful: bool = False
    right_params: tuple[int, ...] | None = ()
    """What the row may have instead; None if nothing is known of it."""


def check_layers(table: LayerTable) -> tuple[list[Finding], set[int] | None]:
    """The rows that no row above can feed: the one directly above, or any in a branching table.

    Shapes may state the channels first or last. Also the sums of the rows with one corrected; None
    if they are not known.
    """
    last = replace(table, rows=[replace(row, shape=_channels_first(row)) for row in table.rows])
    return min(_check(table), _check(last), key=lambda result: len(result[0]))


def _channels_first(row: Row) -> Shape | None:
    shape = row.shape
    return (shape[2], *shape[:2]) if shape is not None and len(shape) == 3 else shape


def _check(table: LayerTable) -> tuple[list[Finding], set[int] | None]:
    findings: list[Finding] = []
    sums: set[int] | None = set()
    above: Shape | None = None
    line_above = 0
    earlier: list[Shape] = []
    for row in table.rows:
        recent = earlier[-_MAX_SOURCES:]
        sources: list[Shape] = []
        if above is not None and not row.after_gap:
            sources = [above, *(reversed(recent) if table.branches else ())]
        fault = _check_row(row, sources, recent)
        if fault is not None:
            related = (line_above,) if sources and not table.branches else ()
            findings.append(
                Finding(line=row.line, related=related, stated=fault.stated, follows=fault.follows)
            )
            if sums is None or fault.right_params is None:
                sums = None
            else:
                sums |= {table.num_params - row.params + right for right in fault.right_params}
        # The row below is not compared with a shape that is wrong itself.
        above = None if fault is not None and fault.shape_is_doubtful else row.shape
        line_above = row.line
        if row.shape is not None and row.shape not in recent:
            earlier.append(row.shape)
    return findings, sums


def _check_row(row: Row, sources: Sequence[Shape], earlier: Sequence[Shape]) -> _Fault | None:
    if row.shape is None or row.role is None:
        return None
    if row.role in ("conv", "linear"):
        if row.params == 0:  # called before: its parameters are in another row
            return None
        if row.role == "linear":
            return _check_linear(row, row.shape, sources)
        return _check_conv(row, row.shape, sources, earlier) if len(row.shape) == 3 else None
    per_channel = (4, 3, 2) if row.is_keras else (2,) if row.role == "norm" else (0,)
    right = tuple(count * row.shape[0] for count in per_channel)
    if fault := _check_shape(row, row.shape, sources):
        return fault
    if row.params not in (0, *right):
        has = f"{right[0]:,} for {row.shape[0]} channels" if right[0] else "none"
        return _wrong_params(row, f"its type has {has}", right)
    return None


def _wrong_params(
    row: Row,
    follows: str,
    right: tuple[int, ...] | None = None,
    shape_is_doubtful: bool = False,
) -> _Fault:
    stated = f"{row.name} states {row.params:,} parameters"
    return _Fault(stated, follows, shape_is_doubtful, right)


def _check_shape(row: Row, shape: Shape, sources: Sequence[Shape]) -> _Fault | None:
    """Whether a layer without a kernel in the table can have this output shape."""
    if not sources or any(_can_become(row, source, shape) for source in sources):
        return None
    rule = {
        "pool": "a pool keeps the channels and makes no map larger",
        "adaptive": "an adaptive pool keeps the channels",
        "global": "a global pool keeps the channels and nothing else",
        "flatten": f"flattening it gives {math.prod(sources[0])}",
    }.get(row.role or "", "its type keeps the shape")
    return _Fault(f"{row.name} goes from {_show(sources[0])} to {_show(shape)}", rule, True)


def _can_become(row: Row, source: Shape, shape: Shape) -> bool:
    if row.role == "flatten":
        return math.prod(source) == math.prod(shape)
    if row.role == "global":
        return math.prod(shape) == shape[0] == source[0]
    if row.role not in ("pool", "adaptive"):
        return source == shape
    if len(source) != 3 or len(shape) != 3 or source[0] != shape[0]:
        return False
    # A padded 2x2 window with a stride of 1 enlarges a map by one.
    return row.role == "adaptive" or all(b <= a + 1 for a, b in zip(source, shape, strict=True))


def _check_linear(row: Row, shape: Shape, sources: Sequence[Shape]) -> _Fault | None:
    outputs = shape[-1]
    if not sources:
        inputs, rest = divmod(row.params, outputs)
        if rest == 0 and inputs >= 1:
            return None
        return _wrong_params(row, f"each of its {outputs} outputs has as many as the others")
    for source in sources:
        for inputs in (math.prod(source), source[-1], source[0]):
            if row.params in (inputs * outputs, (inputs + 1) * outputs):
                return None
    inputs = math.prod(sources[0])
    return _wrong_params(
        row,
        f"from {inputs:,} to {outputs} features there are {inputs * outputs:,}, or "
        f"{(inputs + 1) * outputs:,} with biases",
        (inputs * outputs, (inputs + 1) * outputs),
    )


def _check_conv(
    row: Row, shape: Shape, sources: Sequence[Shape], earlier: Sequence[Shape]
) -> _Fault | None:
    maps = [source for source in sources if len(source) == 3]
    if not maps:
        if row.params >= shape[0] and row.params % shape[0] == 0:
            return None
        follows = f"each of its {shape[0]} channels has as many as the others"
        return _wrong_params(row, follows, shape_is_doubtful=True)
    concatenated = [  # the row above with an earlier one
        (maps[0][0] + other[0], *maps[0][1:]) for other in earlier if other[1:] == maps[0][1:]
    ]
    possible = [
        (source, kernel)
        for source in (*maps, *concatenated)
        for kernel in _possible_kernels(row.params, source[0], shape[0])
    ]
    if not possible:
        follows = _nearest_kernel(row.params, maps[0][0], shape[0])
        weights = [maps[0][0] * shape[0] * k * k for k in range(1, 16)]
        right = (*weights, *(count + shape[0] for count in weights))
        return _wrong_params(row, follows, right, shape_is_doubtful=True)
    if any(_sizes_fit(source, shape, kernel) for source, kernel in possible):
        return None
    source, (high, wide) = possible[0]
    sizes = [f"{_size(source[1], high, p)}x{_size(source[2], wide, p)}" for p in (0, 1)]
    stated = f"{row.name} goes from {_show(source[1:])} to {_show(shape[1:])}"
    follows = (
        f"its parameters mean a {high}x{wide} kernel, which gives {sizes[0]}, or {sizes[1]} with a "
        "padding of 1"
    )
    return _Fault(stated, follows, shape_is_doubtful=True)


def _possible_kernels(params: int, inputs: int, outputs: int) -> Iterator[tuple[int, int]]:
    """Kernels with this number of parameters, with or without biases, grouped ones included."""
    for biases in (0, outputs):
        per_output, rest = divmod(params - biases, outputs)
        if rest or per_output < 1:
            continue
        common = math.gcd(inputs, outputs)
        for high, wide in _KERNELS:
            fan_in, rest = divmod(per_output, high * wide)
            if rest == 0 and fan_in and inputs % fan_in == 0 and common % (inputs // fan_in) == 0:
                yield high, wide
                if high != wide:
                    yield wide, high


def _nearest_kernel(params: int, inputs: int, outputs: int) -> str:
    """Describe the square kernel whose number of parameters is nearest to `params`."""
    counts = {k: inputs * outputs * k * k for k in range(1, 16)}
    kernel = min(counts, key=lambda k: abs(counts[k] - params))
    count = counts[kernel]
    return (
        f"from {inputs} to {outputs} channels a {kernel}x{kernel} convolution has {count:,}, or "
        f"{count + outputs:,} with biases"
    )


def _sizes_fit(source: Shape, shape: Shape, kernel: tuple[int, int]) -> bool:
    return all(_size_fits(*axis) for axis in zip(source[1:], shape[1:], kernel, strict=True))


@cache
def _size_fits(before: int, after: int, kernel: int) -> bool:
    """Whether some stride, dilation and usual padding lead from one size to the other."""
    if before == after:  # padding="same"
        return True
    for dilation in _DILATIONS:
        extent = dilation * (kernel - 1) + 1
        for padding in range(extent // 2 + 2):
            room = before + 2 * padding - extent
            if room >= 0 and any(room // s + 1 == after for s in (*_STRIDES, max(before, 1))):
                return True
    return False


def _size(before: int, kernel: int, padding: int) -> int:
    return before + 2 * padding - kernel + 1


def _show(shape: Shape) -> str:
    return "x".join(map(str, shape))
