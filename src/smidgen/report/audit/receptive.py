"""Receptive field tables: sizes, receptive fields and jumps against kernels and strides."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from smidgen.report.audit.finding import Finding

Pair = tuple[int, int]
Values = tuple[Pair, ...]
"""What a figure may be, the right one first: where a page is wrong, also what it says."""

_COLUMNS = {
    "operation": "operation op type layertype layer name layername",
    "kernel": "kernel kernelsize k filter filtersize kernelshape",
    "stride": "stride strides s",
    "padding": "padding pad p",
    "dilation": "dilation d",
    "size_in": "input inputsize inputshape inputdim inputdimension inputresolution nin",
    "size_out": "output outputsize outputshape outputdim outputdimension outputresolution nout",
    "rf_in": "rfin rin receptivefieldin inputrf rfinput inputreceptivefield",
    "rf_out": "rfout rout receptivefieldout rf receptivefield outputrf rfoutput globalrf",
    "jump_in": "jumpin jin inputjump jumpinput",
    "jump_out": "jumpout jout outputjump jumpoutput",
}
_KNOWN = {name: column for column, names in _COLUMNS.items() for name in names.split()}
_WORDS = re.compile(r"(?:RF|Jump) (?:In|Out)|(?:Kernel|Input|Output) Size|\S+", re.IGNORECASE)
_CELL = re.compile(
    r"[\[(]?\s*([0-9]{1,6})(?:\s*[x\u00d7*,]\s*([0-9]{1,6}))?(?:\s*[x\u00d7*,]\s*([0-9]{1,6}))?\s*[\])]?"
)
_RULE = re.compile(r"[\s|:+=_─━-]{3,}")
_FIGURES = {"size": "size", "rf": "receptive field", "jump": "jump"}
_DILATIONS = range(2, 9)
_START = {"size": None, "rf": ((1, 1),), "jump": ((1, 1),)}


@dataclass(frozen=True, slots=True)
class Step:
    """One row: what could be read of it, by column."""

    line: int
    operation: str
    figures: dict[str, Pair]
    rounds_up: bool = False
    """Whether its size may be rounded up, as a pool's with ceil_mode."""
    sees_all: bool = False
    """Whether a row above looks at its whole map, so that no window makes the field larger."""


@dataclass(slots=True)
class StepTable:
    """A receptive field table as it is being read."""

    columns: list[str | None]
    steps: list[Step] = field(default_factory=list)


def read_step_tables(lines: Sequence[str]) -> list[StepTable]:
    """The tables with a kernel and something that follows from it: a size, field or jump."""
    tables: list[StepTable] = []
    open_table: StepTable | None = None
    for number, line in enumerate(lines, start=1):
        if _RULE.fullmatch(line.strip()) and not (open_table and open_table.steps):
            continue
        if (columns := _header(line)) is not None:
            open_table = StepTable(columns)
            tables.append(open_table)
        elif open_table is not None:
            cells = _cells(line, len(open_table.columns))
            if cells is None:
                open_table = None
            else:
                open_table.steps.append(_step(number, open_table.columns, cells))
    return tables


def check_steps(table: StepTable, resized: set[tuple[int, ...]], rounds_up: bool) -> list[Finding]:
    """What does not follow in the rows of a table, one finding for each row at most.

    output = floor((input + 2 padding - kernel) / stride) + 1, rf out = rf in + (kernel - 1) * jump
    in, jump out = jump in * stride; each row's in is the out of the row above. After a wrong value
    both what it says and what it should be are taken, so that the rows that follow are right either
    way. `resized`: sizes that a layer without a row may give; `rounds_up`: pools may round up.
    """
    findings = []
    above: dict[str, Values | None] = dict(_START)
    outs: set[tuple[Pair | None, ...]] = set()
    sees_all = False
    for row in table.steps:
        may_round = rounds_up and "pool" in row.operation.lower()
        step = replace(row, rounds_up=may_round, sees_all=sees_all)
        entered, faults = _enter(step, above, outs, resized)
        left, more = _leave(step, entered)
        if more and _is_dilated(step, entered):
            left, more = {f: _stated(step, f) for f in _FIGURES}, []
        faults += more
        if faults:
            stated = f"{_name(step)} states " + " and ".join(fault[0] for fault in faults)
            follows = "it follows " + "; ".join(fault[1] for fault in faults)
            findings.append(Finding(lines=(step.line,), stated=stated, follows=follows))
        above = left
        sees_all |= _looks_at_all(step)
        outs.add(tuple(step.figures.get(f"{figure}_out") for figure in _FIGURES))
    return findings


Faults = list[tuple[str, str]]


def _enter(
    step: Step,
    above: dict[str, Values | None],
    outs: set[tuple[Pair | None, ...]],
    resized: set[tuple[int, ...]],
) -> tuple[dict[str, Values | None], Faults]:
    """What goes into a row, against what came out of the rows above."""
    ins = tuple(step.figures.get(f"{figure}_in") for figure in _FIGURES)
    first = not outs
    if first or (None not in ins and ins in outs and _follows(step)):  # a branch may begin anywhere
        return {
            figure: (stated,) if stated else above[figure]
            for figure, stated in zip(_FIGURES, ins, strict=True)
        }, []
    entered: dict[str, Values | None] = {}
    faults: Faults = []
    for (figure, word), stated in zip(_FIGURES.items(), ins, strict=True):
        before = above[figure]
        if stated is None or (before is not None and stated in before):
            entered[figure] = before
        elif before is None or (figure == "size" and _resizes(step, stated, resized)):
            entered[figure] = (stated,)
        else:
            entered[figure] = (*before, stated)
            faults.append((f"{word} in {_show(stated)}", f"{_show(before[0])} from the row above"))
    return entered, faults


def _resizes(step: Step, size: Pair, resized: set[tuple[int, ...]]) -> bool:
    """Whether what comes in may have another size than the row above gives: padded or flattened."""
    return size in resized or "kernel" not in step.figures


def _leave(
    step: Step, entered: dict[str, Values | None]
) -> tuple[dict[str, Values | None], Faults]:
    """What comes out of a row, against what goes in and its kernel."""
    left: dict[str, Values | None] = {}
    faults: Faults = []
    for figure, word in _FIGURES.items():
        stated = step.figures.get(f"{figure}_out")
        results = _results(step, figure, entered)
        if not results:
            left[figure] = (stated,) if stated else None
        elif stated is None or stated in results:
            left[figure] = (stated,) if stated else results
        else:
            left[figure] = (results[0], stated)
            faults.append(
                (f"{word} out {_show(stated)}", _show(results[0]) + _why(step, figure, entered))
            )
    return left, faults


def _results(step: Step, figure: str, entered: dict[str, Values | None]) -> Values:
    """What may come out of a row; empty where it cannot be known."""
    values, jumps = entered[figure] or (), entered["jump"] or ()
    kernel, stride = step.figures.get("kernel"), step.figures.get("stride")
    if re.search("transpose|upsampl", step.operation, re.IGNORECASE):
        return ()
    if figure == "jump" and stride:
        return tuple((v[0] * stride[0], v[1] * stride[1]) for v in values)
    if kernel is None:
        return ()
    dilation = step.figures.get("dilation", (1, 1))
    reach = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    if figure == "rf":
        grown = tuple(
            (v[0] + (reach[0] - 1) * j[0], v[1] + (reach[1] - 1) * j[1])
            for v in values
            for j in jumps
        )
        return (*grown, *values) if step.sees_all else grown
    padding = step.figures.get("padding")
    if figure != "size" or padding is None or stride is None or 0 in stride:
        return ()
    results = []
    for up in (False, True) if step.rounds_up else (False,):
        for v in values:
            room = [v[axis] + 2 * padding[axis] - reach[axis] for axis in (0, 1)]
            steps = [-(-room[a] // stride[a]) if up else room[a] // stride[a] for a in (0, 1)]
            results.append((steps[0] + 1, steps[1] + 1))
    return tuple(results)


def _why(step: Step, figure: str, entered: dict[str, Values | None]) -> str:
    """The sum behind a result, for square windows."""
    kernel, stride = step.figures.get("kernel"), step.figures.get("stride")
    values, jumps = entered[figure] or (), entered["jump"] or ()
    if figure == "jump" and stride and values:
        return f" ({_show(values[0])} * {_show(stride)})"
    if figure == "rf" and kernel and jumps and "dilation" not in step.figures:
        grows = "(" + _show(kernel) + " - 1)" if kernel[0] != kernel[1] else str(kernel[0] - 1)
        return f" ({_show(values[0])} + {grows} * {_show(jumps[0])})"
    if figure == "size" and kernel and stride:
        padding = step.figures.get("padding", (0, 0))
        return f" ({_show(kernel)}, stride {_show(stride)}, padding {_show(padding)})"
    return ""


def _is_dilated(step: Step, entered: dict[str, Values | None]) -> bool:
    """Whether some dilation, for which there is no column, explains both size and field."""
    if "dilation" in step.figures or not {"size_out", "rf_out"} <= set(step.figures):
        return False
    dilated = (replace(step, figures=step.figures | {"dilation": (by, by)}) for by in _DILATIONS)
    return any(not _leave(candidate, entered)[1] for candidate in dilated)


def _looks_at_all(step: Step) -> bool:
    """Whether the row has no window and widens the field all the same."""
    before, after = (step.figures.get(name) for name in ("rf_in", "rf_out"))
    return "kernel" not in step.figures and None not in (before, after) and before != after


def _stated(step: Step, figure: str) -> Values | None:
    stated = step.figures.get(f"{figure}_out")
    return (stated,) if stated else None


def _follows(step: Step) -> bool:
    """Whether the row is right by itself."""
    entered: dict[str, Values | None] = {
        figure: (step.figures[f"{figure}_in"],) for figure in _FIGURES
    }
    return not _leave(step, entered)[1]


def _header(line: str) -> list[str | None] | None:
    """The column of each cell where `line` is the header of such a table."""
    for cells in _splits(line):
        names = [_KNOWN.get(re.sub(r"[^a-z]", "", cell.lower())) for cell in cells]
        if "operation" in names and "layer" in (lowered := [cell.lower() for cell in cells]):
            place = lowered.index("layer")
            if names.count("operation") > 1:  # a number and a type
                names[place] = None
        known = [name for name in names if name]
        if "kernel" in known and {"size_out", "rf_out", "jump_out"} & set(known):
            return names if len(known) >= 3 and len(set(known)) == len(known) else None
    return None


def _cells(line: str, wanted: int) -> list[str] | None:
    return next((cells for cells in _splits(line) if len(cells) == wanted), None)


def _splits(line: str) -> list[list[str]]:
    """The ways to cut a line into cells: at bars, tabs, wide gaps, or words."""
    text = line.strip()
    if "|" in text:
        return [[cell.strip(" *_`\t") for cell in text.strip("|").split("|")]]
    if "\t" in text:
        return [[cell.strip() for cell in text.split("\t")]]
    return [re.split(r" {2,}", text), _WORDS.findall(text), text.split()]


def _step(line: int, columns: list[str | None], cells: list[str]) -> Step:
    figures, operation = {}, ""
    for column, cell in zip(columns, cells, strict=True):
        if column == "operation":
            operation = cell
        elif column is not None and (pair := _pair(cell)) is not None:
            figures[column] = pair
    return Step(line, operation, figures)


def _pair(cell: str) -> Pair | None:
    """A cell's figure as (vertical, horizontal), channels left out; None where it is no figure.

    >>> _pair("3x3"), _pair("2"), _pair("28x28x1"), _pair("-")
    ((3, 3), (2, 2), (28, 28), None)
    """
    found = _CELL.fullmatch(cell)
    if found is None:
        return None
    sizes = [int(size) for size in found.groups() if size]
    if len(sizes) == 1:
        return sizes[0], sizes[0]
    if len(sizes) == 2 or sizes[0] == sizes[1]:
        return sizes[0], sizes[1]
    return (sizes[1], sizes[2]) if sizes[1] == sizes[2] else None


def _name(step: Step) -> str:
    return f"the row {step.operation}" if step.operation else "the row"


def _show(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
