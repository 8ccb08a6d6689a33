"""Compare sizes, receptive fields and jumps in a table with kernels and strides."""

import re
from collections.abc import Sequence
from dataclasses import replace

from smidgen.record import Pair
from smidgen.record.profile import square
from smidgen.report.audit.finding import Finding
from smidgen.report.audit.receptive_field_tables import Row

Values = tuple[Pair, ...]
"""What a quantity may be, the right value first, then a wrong one that is stated; () is unknown."""

Faults = list[tuple[str, str]]
"""What is stated, and what follows."""

_QUANTITIES = {"size": "size", "rf": "receptive field", "jump": "jump"}
_DILATIONS = range(2, 9)


def check_receptive_fields(
    rows: Sequence[Row], resized: set[tuple[int, ...]], rounds_up: bool
) -> list[Finding]:
    """The rows that contradict themselves or the row above, one finding for each at most.

    output = floor((input + 2 padding - kernel) / stride) + 1, rf out = rf in + (kernel - 1) * jump
    in, jump out = jump in * stride; each row's in is the out of the row above. After a wrong value
    both it and the right one are accepted, so that the rows below are right either way. `resized`
    are sizes that a layer without a row may give; with `rounds_up`, pools may round up.
    """
    checker = _Checker(resized, rounds_up)
    return [finding for row in rows if (finding := checker.check(row)) is not None]


class _Checker:
    def __init__(self, resized: set[tuple[int, ...]], rounds_up: bool) -> None:
        self.resized, self.rounds_up = resized, rounds_up
        self.above: dict[str, Values] = {"size": (), "rf": ((1, 1),), "jump": ((1, 1),)}
        self.outputs: set[tuple[Pair | None, ...]] = set()  # of all rows above
        self.after_global = False  # below a layer that sees its whole input, no window adds to it

    def check(self, row: Row) -> Finding | None:
        """Compare the row with those above; remember what it gives to those below."""
        inputs, faults = self._inputs(row)
        outputs, more = self._outputs(row, inputs)
        if more and self._is_dilated(row, inputs):
            outputs, more = {quantity: _stated(row, quantity) for quantity in _QUANTITIES}, []
        self.above = outputs
        self.outputs.add(tuple(row.values.get(f"{quantity}_out") for quantity in _QUANTITIES))
        self.after_global |= _is_global(row)
        if not (faults := faults + more):
            return None
        name = f"the row {row.operation}" if row.operation else "the row"
        return Finding(
            lines=(row.line,),
            stated=f"{name} states " + " and ".join(stated for stated, _ in faults),
            follows="it follows " + "; ".join(follows for _, follows in faults),
        )

    def _inputs(self, row: Row) -> tuple[dict[str, Values], Faults]:
        """Compare a row's input with the output of the row above."""
        stated_inputs = tuple(row.values.get(f"{quantity}_in") for quantity in _QUANTITIES)
        inputs: dict[str, Values] = {}
        faults: Faults = []
        # the first row, or a branch from any row above
        starts = not self.outputs or (stated_inputs in self.outputs and self._is_consistent(row))
        for (quantity, name), stated in zip(_QUANTITIES.items(), stated_inputs, strict=True):
            above = self.above[quantity]
            if stated is None or (stated in above and not starts):
                inputs[quantity] = above
            elif starts or not above or (quantity == "size" and self._may_resize(row, stated)):
                inputs[quantity] = (stated,)
            else:
                inputs[quantity] = (*above, stated)
                follows = f"{square(above[0])} from the row above"
                faults.append((f"{name} in {square(stated)}", follows))
        return inputs, faults

    def _may_resize(self, row: Row, size: Pair) -> bool:
        """Whether the input may be padded or flattened in between."""
        return size in self.resized or "kernel" not in row.values

    def _outputs(self, row: Row, inputs: dict[str, Values]) -> tuple[dict[str, Values], Faults]:
        """Compare a row's output with its input and kernel."""
        outputs: dict[str, Values] = {}
        faults: Faults = []
        for quantity, name in _QUANTITIES.items():
            stated = row.values.get(f"{quantity}_out")
            results = self._results(row, quantity, inputs)
            if stated is None:
                outputs[quantity] = results
            elif not results or stated in results:
                outputs[quantity] = (stated,)
            else:
                outputs[quantity] = (results[0], stated)
                follows = square(results[0]) + _formula(row, quantity, inputs)
                faults.append((f"{name} out {square(stated)}", follows))
        return outputs, faults

    def _results(self, row: Row, quantity: str, inputs: dict[str, Values]) -> Values:
        """The possible outputs of a row; empty if they cannot be known."""
        values = inputs[quantity]
        kernel, stride = row.values.get("kernel"), row.values.get("stride")
        if re.search("transpose|upsampl", row.operation, re.IGNORECASE):
            return ()
        if quantity == "jump" and stride:
            return tuple((v[0] * stride[0], v[1] * stride[1]) for v in values)
        if kernel is None:
            return ()
        dilation = row.values.get("dilation", (1, 1))
        extent = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
        if quantity == "rf":
            grown = tuple(
                (v[0] + (extent[0] - 1) * jump[0], v[1] + (extent[1] - 1) * jump[1])
                for v in values
                for jump in inputs["jump"]
            )
            return (*grown, *values) if self.after_global else grown
        padding = row.values.get("padding")
        if quantity != "size" or padding is None or stride is None or 0 in stride:
            return ()
        rooms = [tuple(v[a] + 2 * padding[a] - extent[a] for a in (0, 1)) for v in values]
        results = [(high // stride[0] + 1, wide // stride[1] + 1) for high, wide in rooms]
        if self.rounds_up and "pool" in row.operation.lower():
            results += [
                (-(-high // stride[0]) + 1, -(-wide // stride[1]) + 1) for high, wide in rooms
            ]
        return tuple(results)

    def _is_dilated(self, row: Row, inputs: dict[str, Values]) -> bool:
        """Whether a dilation that the table has no column for explains both size and field."""
        if "dilation" in row.values or not {"size_out", "rf_out"} <= set(row.values):
            return False
        dilated = (replace(row, values=row.values | {"dilation": (d, d)}) for d in _DILATIONS)
        return any(not self._outputs(candidate, inputs)[1] for candidate in dilated)

    def _is_consistent(self, row: Row) -> bool:
        """Whether the row states all inputs, and its output follows from them."""
        inputs: dict[str, Values] = {
            q: (row.values[f"{q}_in"],) for q in _QUANTITIES if f"{q}_in" in row.values
        }
        return len(inputs) == len(_QUANTITIES) and not self._outputs(row, inputs)[1]


def _formula(row: Row, quantity: str, inputs: dict[str, Values]) -> str:
    """The calculation behind a result, in parentheses."""
    kernel, stride = row.values.get("kernel"), row.values.get("stride")
    values, jumps = inputs[quantity], inputs["jump"]
    if quantity == "jump" and stride and values:
        return f" ({square(values[0])} * {square(stride)})"
    if quantity == "rf" and kernel and jumps and "dilation" not in row.values:
        growth = str(kernel[0] - 1) if kernel[0] == kernel[1] else f"({square(kernel)} - 1)"
        return f" ({square(values[0])} + {growth} * {square(jumps[0])})"
    if quantity == "size" and kernel and stride:
        padding = row.values.get("padding", (0, 0))
        return f" ({square(kernel)}, stride {square(stride)}, padding {square(padding)})"
    return ""


def _is_global(row: Row) -> bool:
    """Whether the row has no window but widens the receptive field."""
    before, after = (row.values.get(name) for name in ("rf_in", "rf_out"))
    return "kernel" not in row.values and None not in (before, after) and before != after


def _stated(row: Row, quantity: str) -> Values:
    stated = row.values.get(f"{quantity}_out")
    return (stated,) if stated else ()
