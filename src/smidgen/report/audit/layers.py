"""The rows of a layer table against each other: parameters, channels and sizes."""

import math
from collections.abc import Iterator, Sequence
from functools import cache

from smidgen.report.audit.finding import Finding
from smidgen.report.audit.page import LayerTable, Row, Shape

_MOST_SOURCES = 32  # earlier shapes that a row of a branching network is tried against
_KERNELS = (*((k, k) for k in range(1, 16)), *((1, k) for k in range(3, 12, 2)))
_STRIDES = range(1, 9)
_DILATIONS = range(1, 5)


def check_layers(table: LayerTable) -> list[Finding]:
    """What cannot be in the rows, each fed by the one above, or by any above where it branches."""
    findings: list[Finding] = []
    above: Shape | None = None
    earlier: list[Shape] = []
    for row in table.rows:
        sources: list[Shape] = []
        if above is not None and not row.apart:
            sources = [above, *(reversed(earlier[-_MOST_SOURCES:]) if table.branches else ())]
        fault = _fault(row, sources, earlier)
        if fault is not None:
            findings.append(Finding(lines=(row.line,), stated=fault[0], follows=fault[1]))
        # The row below is not held against a shape that is wrong itself.
        above = None if fault is not None and fault[2] else row.shape
        if row.shape is not None and row.shape not in earlier[-_MOST_SOURCES:]:
            earlier.append(row.shape)
    return findings


Fault = tuple[str, str, bool]
"""What is stated, what follows, and whether the shape may be wrong."""


def _fault(row: Row, sources: Sequence[Shape], earlier: Sequence[Shape]) -> Fault | None:
    if row.shape is None:
        return None
    if row.params == 0 and row.role in ("conv", "linear"):
        return None  # called again: its parameters stand in another row
    match row.role:
        case "conv":
            return _conv_fault(row, row.shape, sources, earlier)
        case "linear":
            return _linear_fault(row, row.shape, sources)
        case "norm":
            return _params_fault(row, row.shape, 2) or _moved(row, row.shape, sources)
        case "keep" | "flatten" | "pool" | "adaptive":
            return _params_fault(row, row.shape, 0) or _moved(row, row.shape, sources)
        case None:
            return None


def _params_fault(row: Row, shape: Shape, each: int) -> Fault | None:
    right = each * shape[0]
    if row.params in (0, right):
        return None
    has = f"{right:,} for {shape[0]} channels" if each else "none"
    return f"{row.name} has {row.params:,} parameters", f"its type has {has}", False


def _moved(row: Row, shape: Shape, sources: Sequence[Shape]) -> Fault | None:
    """Whether a layer without a kernel of its own could give this shape."""
    if not sources or any(_may_become(row, source, shape) for source in sources):
        return None
    rule = {
        "pool": "a pool keeps the channels and makes no map larger",
        "adaptive": "an adaptive pool keeps the channels",
        "flatten": f"flattening it gives {math.prod(sources[0])}",
    }.get(row.role or "", "its type keeps the shape")
    return f"{row.name} goes from {_show(sources[0])} to {_show(shape)}", rule, True


def _may_become(row: Row, source: Shape, shape: Shape) -> bool:
    if row.role == "flatten":
        return math.prod(source) == math.prod(shape)
    if row.role not in ("pool", "adaptive"):
        return source == shape
    if len(source) != 3 or len(shape) != 3 or source[0] != shape[0]:
        return False
    # A padded 2x2 window with a stride of 1 makes a map larger by one.
    return row.role == "adaptive" or all(b <= a + 1 for a, b in zip(source, shape, strict=True))


def _linear_fault(row: Row, shape: Shape, sources: Sequence[Shape]) -> Fault | None:
    outputs = shape[-1]
    if not sources:
        inputs, rest = divmod(row.params, outputs)
        if rest == 0 and inputs >= 1:
            return None
        follows = f"each of its {outputs} outputs has as many as the others"
        return f"{row.name} has {row.params:,} parameters", follows, False
    for source in sources:
        for inputs in (math.prod(source), source[-1], source[0]):
            if row.params in (inputs * outputs, (inputs + 1) * outputs):
                return None
    inputs = math.prod(sources[0])
    return (
        f"{row.name} has {row.params:,} parameters",
        f"from {inputs:,} to {outputs} features there are {inputs * outputs:,}, or "
        f"{(inputs + 1) * outputs:,} with biases",
        False,
    )


def _conv_fault(
    row: Row, shape: Shape, sources: Sequence[Shape], earlier: Sequence[Shape]
) -> Fault | None:
    if len(shape) != 3:
        return None
    maps = [source for source in sources if len(source) == 3]
    if not maps:
        if row.params >= shape[0] and row.params % shape[0] == 0:
            return None
        follows = f"each of its {shape[0]} channels has as many as the others"
        return f"{row.name} has {row.params:,} parameters", follows, True
    joined = [
        (maps[0][0] + other[0], *maps[0][1:])
        for other in earlier[-_MOST_SOURCES:]
        if other[1:] == maps[0][1:]  # the row above may have been concatenated with another
    ]
    fitting = [(m, k) for m in (*maps, *joined) for k in _kernels(row.params, m[0], shape[0])]
    if not fitting:
        return (
            f"{row.name} has {row.params:,} parameters",
            _nearest(row.params, maps[0][0], shape[0]),
            True,
        )
    if any(_fits(source, shape, kernel) for source, kernel in fitting):
        return None
    source, (high, wide) = fitting[0]
    sizes = [f"{_side(source[1], high, p)}x{_side(source[2], wide, p)}" for p in (0, 1)]
    follows = (
        f"its parameters mean a {high}x{wide} kernel, which gives {sizes[0]}, or {sizes[1]} with a "
        "padding of 1"
    )
    stated = f"{row.name} goes from {_show(source[1:])} to {_show(shape[1:])}"
    return stated, follows, True


def _kernels(params: int, inputs: int, outputs: int) -> Iterator[tuple[int, int]]:
    """Kernels that give so many parameters, with or without biases, grouped too."""
    for biases in (0, outputs):
        each, rest = divmod(params - biases, outputs)
        if rest or each < 1:
            continue
        common = math.gcd(inputs, outputs)
        for high, wide in _KERNELS:
            fan, rest = divmod(each, high * wide)
            if rest == 0 and fan and inputs % fan == 0 and common % (inputs // fan) == 0:
                yield high, wide
                if high != wide:
                    yield wide, high


def _nearest(params: int, inputs: int, outputs: int) -> str:
    """What the square kernel with the number of parameters nearest to this one has."""
    counts = {k: inputs * outputs * k * k for k in range(1, 16)}
    kernel = min(counts, key=lambda k: abs(counts[k] - params))
    count = counts[kernel]
    return (
        f"from {inputs} to {outputs} channels a {kernel}x{kernel} convolution has {count:,}, or "
        f"{count + outputs:,} with biases"
    )


def _fits(source: Shape, shape: Shape, kernel: tuple[int, int]) -> bool:
    axes = zip(source[1:], shape[1:], kernel, strict=True)
    return all(_side_fits(*axis) for axis in axes)


@cache
def _side_fits(before: int, after: int, kernel: int) -> bool:
    """Whether some stride, dilation and usual padding lead from one side to the other."""
    if before == after:  # padding="same"
        return True
    for dilation in _DILATIONS:
        reach = dilation * (kernel - 1) + 1
        for padding in range(reach // 2 + 2):
            room = before + 2 * padding - reach
            if room >= 0 and (
                any(room // stride + 1 == after for stride in _STRIDES)
                or room // max(before, 1) + 1 == after
            ):
                return True
    return False


def _side(before: int, kernel: int, padding: int) -> int:
    return before + 2 * padding - kernel + 1


def _show(shape: Shape) -> str:
    return "x".join(map(str, shape))
