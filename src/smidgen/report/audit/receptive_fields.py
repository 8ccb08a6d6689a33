"""Compare what a page states of layers with their windows and with the layers above them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from smidgen.record import Pair
from smidgen.record.profile import square
from smidgen.report.audit.finding import Finding, Remark
from smidgen.report.audit.windows import Row

Values = tuple[Pair, ...]
"""What a quantity may be, the right value first, then a wrong one that is stated; () is unknown."""

_QUANTITIES = {  # and how a row states them
    "size": ("an input of {}", "an output of {}"),
    "channels": ("{} input channels", "{} output channels"),
    "rf": ("a receptive field of {} before it", "a receptive field of {} after it"),
    "jump": ("a jump of {} before it", "a jump of {} after it"),
}
_STRIDES = tuple((s, s) for s in range(1, 9))
_DILATIONS = range(2, 9)
_MOST = 64  # possible values of a quantity, and paddings that are tried


class _Fault(NamedTuple):
    line: int
    related: tuple[int, ...]
    stated: str
    follows: str


@dataclass(frozen=True, slots=True)
class Context:
    """What the rest of the page says about a table or list."""

    resized: frozenset[tuple[int, ...]] = frozenset()
    """Sizes that a layer without a row may give."""
    rounds_up: bool = False
    """Whether pools may round up."""
    joins: bool = False
    """Whether outputs are concatenated or added."""


def check_receptive_fields(
    rows: Sequence[Row], context: Context
) -> tuple[list[Finding], list[Remark]]:
    """The rows that contradict themselves or the row above, one finding for each at most.

    output = floor((input + 2 padding - kernel) / stride) + 1, rf out = rf in + (kernel - 1) * jump
    in, jump out = jump in * stride; each row's in is the out of the row above. After a wrong value
    both it and the right one are accepted, so that the rows below are right either way. Also the
    sizes of a list that cannot be checked.
    """
    checker = _Checker(context)
    findings = [finding for row in rows if (finding := checker.check(row)) is not None]
    return findings, checker.remarks


@dataclass(slots=True)
class _Checker:
    context: Context
    remarks: list[Remark] = field(default_factory=list)
    above: dict[str, Values] = field(
        default_factory=lambda: {"size": (), "channels": (), "rf": ((1, 1),), "jump": ((1, 1),)}
    )
    row_above: Row | None = None
    outputs: set[tuple[Pair | None, ...]] = field(default_factory=set)
    """Of all rows above."""
    after_global: bool = False
    """Below a layer that sees its whole input, no window adds to the receptive field."""

    def check(self, row: Row) -> Finding | None:
        """Compare the row with those above; remember what it gives to those below."""
        if row.after_gap:
            self.above = dict.fromkeys(_QUANTITIES, ())
        inputs, faults = self._inputs(row)
        outputs, more = self._outputs(row, inputs)
        if more and self._is_dilated(row, inputs):
            outputs, more = {quantity: _stated(row, quantity) for quantity in _QUANTITIES}, []
        if not faults and (fault := _params_fault(row, inputs)):
            more = [*more, fault]
            outputs["channels"] = ()  # one of the numbers is wrong, perhaps this one
        faults += _channel_faults(row)
        if clash := row.values.get("size_out_channels"):
            outputs["channels"] = (*outputs["channels"], clash)
        self._remark(row, inputs)
        self.above, self.row_above = outputs, row
        self.outputs.add(tuple(row.stated(quantity, "out") for quantity in _QUANTITIES))
        self.after_global |= _is_global(row)
        if not (faults := faults + more):
            return None
        line = faults[0].line
        related = {number for fault in faults for number in (fault.line, *fault.related)}
        return Finding(
            line=line,
            related=tuple(sorted(related - {line})),
            stated=f"{_who(row)} states " + " and ".join(fault.stated for fault in faults),
            follows="; ".join(fault.follows for fault in faults),
        )

    def _inputs(self, row: Row) -> tuple[dict[str, Values], list[_Fault]]:
        """Compare a row's input with the output of the row above."""
        stated_inputs = tuple(row.stated(quantity, "in") for quantity in _QUANTITIES)
        inputs: dict[str, Values] = {}
        faults: list[_Fault] = []
        # the first row, or a branch from any row above
        starts = not self.outputs or (stated_inputs in self.outputs and self._is_consistent(row))
        for quantity, stated in zip(_QUANTITIES, stated_inputs, strict=True):
            above = self.above[quantity]
            if stated is None or (stated in above and not starts):
                inputs[quantity] = above
            elif starts or not above or self._may_differ(row, quantity, stated):
                inputs[quantity] = (stated,)
            else:
                inputs[quantity] = (*above, stated)
                faults.append(self._input_fault(row, quantity, stated))
        return inputs, faults

    def _input_fault(self, row: Row, quantity: str, stated: Pair) -> _Fault:
        before = self.row_above
        assert before is not None
        line = before.lines.get(f"{quantity}_out", before.line)
        return _Fault(
            row.lines.get(f"{quantity}_in", row.line),
            (line,),
            _QUANTITIES[quantity][0].format(_show(quantity, stated)),
            f"{before.name if before.listed else 'the row'} above gives "
            f"{_show(quantity, self.above[quantity][0])}",
        )

    def _may_differ(self, row: Row, quantity: str, stated: Pair) -> bool:
        """Whether the input may be padded, flattened or joined in between."""
        if quantity == "size":
            return stated in self.context.resized or "kernel" not in row.values
        if quantity != "channels":
            return False
        sizes = self.above["size"]
        flat = [c[0] * math.prod(size) for c in self.above["channels"] for size in sizes]
        return self.context.joins or (
            row.is_a("linear|dense|fully|fc|flatten") and (not flat or stated[0] in flat)
        )

    def _outputs(
        self, row: Row, inputs: dict[str, Values]
    ) -> tuple[dict[str, Values], list[_Fault]]:
        """Compare a row's output with its input and kernel."""
        outputs: dict[str, Values] = {}
        faults: list[_Fault] = []
        for quantity, (_, text) in _QUANTITIES.items():
            stated = row.stated(quantity, "out")
            results = tuple(dict.fromkeys(self._results(row, quantity, inputs)))[:_MOST]
            if stated is None:
                outputs[quantity] = results if _is_certain(row, quantity) else ()
            elif not results or stated in results:
                outputs[quantity] = (stated,)
            else:
                outputs[quantity] = (*results, stated)
                line = row.lines.get(f"{quantity}_out", row.line)
                used = ("kernel", "stride", "padding", "dilation", f"{quantity}_in")
                related = tuple(row.lines[column] for column in used if column in row.lines)
                follows = self._explain(row, quantity, inputs, results[0])
                shown = text.format(_show(quantity, stated))
                faults.append(_Fault(line, related, shown, follows))
        return outputs, faults

    def _results(self, row: Row, quantity: str, inputs: dict[str, Values]) -> Values:
        """The possible outputs of a row; empty if they cannot be known."""
        values = inputs[quantity]
        kernel, stride = row.values.get("kernel"), row.values.get("stride")
        if quantity == "channels":
            return values if row.is_a("pool") and not row.is_a("conv") else ()
        if row.has_unknown_window:
            return ()
        if quantity == "jump" and stride:
            return tuple((v[0] * stride[0], v[1] * stride[1]) for v in values)
        if kernel is None or quantity == "jump":
            return ()
        extent = _extent(row, kernel)
        if quantity == "size":
            return tuple(size for value in values for size in self._sizes(row, value, extent))
        grown = tuple(
            (v[0] + (extent[0] - 1) * jump[0], v[1] + (extent[1] - 1) * jump[1])
            for v in values
            for jump in inputs["jump"]
        )
        return (*grown, *values) if self.after_global else grown

    def _sizes(self, row: Row, size: Pair, extent: Pair) -> Iterator[Pair]:
        """The output sizes with the stated stride and padding, or any that a list leaves out."""
        strides = [row.values["stride"]] if "stride" in row.values else []
        if row.listed and not strides:  # a pool's default is its kernel, a convolution's 1
            strides = [*([extent] if row.is_a("pool") else []), *_STRIDES]
        doubled = [(2 * p[0], 2 * p[1]) for p in [row.values.get("padding")] if p]
        if row.same or (row.listed and not doubled):
            doubled += [
                (2 * p, 2 * p) for p in range(0 if row.same else min(max(extent) // 2 + 1, _MOST))
            ]
            doubled.append((extent[0] - 1, extent[1] - 1))
        rounds_up = (False, True) if self.context.rounds_up and row.is_a("pool") else (False,)
        for stride in strides:
            if 0 in stride:
                continue
            for added in doubled:
                rooms = [size[a] + added[a] - extent[a] for a in (0, 1)]
                for up in rounds_up:
                    steps = [
                        -(-r // s) if up else r // s for r, s in zip(rooms, stride, strict=True)
                    ]
                    yield steps[0] + 1, steps[1] + 1

    def _explain(self, row: Row, quantity: str, inputs: dict[str, Values], result: Pair) -> str:
        """The calculation behind a result."""
        kernel, stride = row.values.get("kernel"), row.values.get("stride")
        values, jumps = inputs[quantity], inputs["jump"]
        if quantity == "channels":
            return f"a pool keeps the {square(result)} of its input"
        if quantity == "jump" and stride:
            return f"it is {square(result)} ({square(values[0])} * {square(stride)})"
        if quantity == "rf" and kernel:
            growth = [e - 1 for e in _extent(row, kernel)]
            shown = str(growth[0]) if growth[0] == growth[1] else f"({square(kernel)} - 1)"
            return f"it is {square(result)} ({square(values[0])} + {shown} * {square(jumps[0])})"
        stated = [
            f"{name} {square(row.values[name])}"
            for name in ("kernel", "stride", "padding", "dilation")
            if name in row.values
        ]
        stated += ["padding 'same'"] if row.same else []
        size = _show(quantity, values[0])
        text = f"an input of {size} with {', '.join(stated)} gives {_show(quantity, result)}"
        if stride is None:
            default = kernel if row.is_a("pool") else _STRIDES[0]
            wanted = _show(quantity, row.values["size_out"])
            text += f" at stride {square(default)}, and no stride gives {wanted}"
        return text + self._hint(row, values[0])

    def _hint(self, row: Row, size: Pair) -> str:
        """The padding that would give the stated size, if one is stated and another would."""
        kernel, wanted = row.values["kernel"], row.values["size_out"]
        for padding in range(min(max(kernel), _MOST) if "padding" in row.values else 0):
            values = {"stride": (1, 1), **row.values, "padding": (padding, padding)}
            if wanted in self._sizes(replace(row, values=values), size, _extent(row, kernel)):
                return f"; padding {padding} would"
        return ""

    def _is_dilated(self, row: Row, inputs: dict[str, Values]) -> bool:
        """Whether a dilation that the table has no column for explains both size and field."""
        if "dilation" in row.values or not {"size_out", "rf_out"} <= set(row.values):
            return False
        dilated = (replace(row, values=row.values | {"dilation": (d, d)}) for d in _DILATIONS)
        return any(not self._outputs(candidate, inputs)[1] for candidate in dilated)

    def _is_consistent(self, row: Row) -> bool:
        """Whether the row states all inputs, and its output follows from them."""
        inputs = {quantity: _stated(row, quantity, "in") for quantity in _QUANTITIES}
        known = all(inputs[quantity] for quantity in ("size", "rf", "jump"))
        return known and not self._outputs(row, inputs)[1]

    def _remark(self, row: Row, inputs: dict[str, Values]) -> None:
        """Say why the size of a window cannot be checked."""
        if "size_out" not in row.values or not row.is_a("conv|pool") or row.is_a("global|adaptive"):
            return
        if row.has_unknown_window:
            reason = f"{row.operation!r} is more than one convolution or pool"
        elif "kernel" not in row.values and row.listed:
            reason = "its kernel is not stated"
        elif not inputs["size"] and row.listed:
            reason = "its input size is not stated"
        else:
            return
        text = f"the output size of {row.name or 'a row'}: {reason}"
        self.remarks.append(Remark(line=row.line, text=text))


def _channel_faults(row: Row) -> list[_Fault]:
    """Compare the channels in a size such as 28x28x1 with those that are stated apart."""
    faults = []
    for end, text in zip(("in", "out"), _QUANTITIES["channels"], strict=True):
        alone, with_size = row.values.get(f"channels_{end}"), row.values.get(f"size_{end}_channels")
        if alone and with_size and alone != with_size:
            line, other = (row.lines.get(f"{q}_{end}", row.line) for q in ("channels", "size"))
            follows = f"its size has {with_size[0]}"
            faults.append(_Fault(line, (other,), text.format(alone[0]), follows))
    return faults


def _params_fault(row: Row, inputs: dict[str, Values]) -> _Fault | None:
    """Compare a number of parameters with kernel and channels."""
    stated, outputs = row.values.get("params"), row.stated("channels", "out")
    if stated is None or row.has_unknown_window:
        return None
    counts: set[int] = set()
    follows = ""
    kernel = row.values.get("kernel")
    if row.is_a("conv") and kernel and outputs:
        for channels, _ in inputs["channels"][-1:]:
            weights = channels * outputs[0] * math.prod(kernel)
            common = math.gcd(channels, outputs[0])
            groups = [g for g in range(1, min(common, 10_000) + 1) if common % g == 0]
            counts |= {weights // g + bias for g in groups for bias in (0, outputs[0])}
            follows = (
                f"a {kernel[0]}x{kernel[1]} convolution from {channels} to {outputs[0]} channels "
                f"has {weights:,}, or {weights + outputs[0]:,} with biases"
            )
    elif row.is_a("pool") and not row.is_a("conv"):
        counts, follows = {0}, "a pool has none"
    if row.is_a("norm|bn") and outputs:
        counts |= {count + n * outputs[0] for count in counts for n in (2, 4)}
    if not counts or stated[0] in counts:
        return None
    used = ("kernel", "channels_in", "channels_out")
    related = tuple(row.lines[column] for column in used if column in row.lines)
    line = row.lines.get("params", row.line)
    return _Fault(line, related, f"{stated[0]:,} parameters", follows)


def _extent(row: Row, kernel: Pair) -> Pair:
    dilation = row.values.get("dilation", (1, 1))
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def _show(quantity: str, value: Pair) -> str:
    return f"{value[0]}x{value[1]}" if quantity == "size" else square(value)


def _who(row: Row) -> str:
    if row.listed:
        return f"{row.name} ({row.operation})" if row.operation else row.name
    return f"the row {row.name}" if row.name else "the row"


def _is_certain(row: Row, quantity: str) -> bool:
    """Whether an output that is not stated follows, with stride and padding stated."""
    return quantity != "size" or ("stride" in row.values and ("padding" in row.values or row.same))


def _is_global(row: Row) -> bool:
    """Whether the row has no window but widens the receptive field."""
    before, after = (row.values.get(name) for name in ("rf_in", "rf_out"))
    return "kernel" not in row.values and None not in (before, after) and before != after


def _stated(row: Row, quantity: str, end: str = "out") -> Values:
    stated = row.stated(quantity, end)
    return (stated,) if stated else ()
