"""The plan of a network that is computed row by row: which rows are kept, and where.

A tensor (the pixels, or the output of a layer) is a ring of rows, each with its padding on both
sides, channels last. A row is computed as soon as the rows under its window are there, later layers
first, so that a ring holds little more than the rows of one window. Windows that do not overlap are
summed up, or their maximum is taken, row by row, so that one row of their input is enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.errors import ModelError
from smidgen.exporters.graph import PIXELS
from smidgen.exporters.integer import (
    IntegerAddition,
    IntegerAveragePool,
    IntegerConvolution,
    IntegerLayer,
    IntegerMaxPool,
    IntegerNetwork,
    Window,
)

_BYTE = 255


@dataclass(slots=True, eq=False)
class Tensor:
    """Rows of the pixels or of a layer's output."""

    shape: tuple[int, int, int]
    """Channels, height, width."""
    padding: tuple[int, int] = (0, 0)
    """Rows above and below, columns on both sides: the most that a reader wants."""
    ring_rows: int = 1
    address: int = 0
    """Of the ring, in bytes from the first one."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row with its padding."""
        return (self.shape[2] + 2 * self.padding[1]) * self.shape[0]

    @property
    def num_rows(self) -> int:
        """Rows with those of the padding."""
        return self.shape[1] + 2 * self.padding[0]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Step:
    """A layer as the C code computes it."""

    layer: IntegerLayer
    window: Window
    """1x1 for an addition."""
    inputs: tuple[int, ...]
    """Places of the tensors that it reads; 0 is the pixels, n + 1 the output of layer n."""
    first_rows: tuple[int, ...]
    """For each input, the first row that the first window covers."""
    accumulates: bool
    """Whether it takes its input row by row."""
    sums: int
    """How many int32 it needs for that."""
    sums_address: int
    """In int32 from the first one."""

    @property
    def rows_needed(self) -> int:
        """Rows of the input that must be there for the next output row, or part of one."""
        return 1 if self.accumulates else self.window.extent[0]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All tensors and steps, and the memory that they need."""

    network: IntegerNetwork
    tensors: tuple[Tensor, ...]
    steps: tuple[Step, ...]

    @property
    def ring_bytes(self) -> int:
        """Bytes of all rings."""
        return sum(tensor.ring_rows * tensor.row_bytes for tensor in self.tensors)

    @property
    def num_sums(self) -> int:
        """How many int32 the steps need."""
        return sum(step.sums for step in self.steps)

    @property
    def state_bytes(self) -> int:
        """Bytes of counters: two for each tensor and three for each step, four with additions."""
        return 2 * len(self.tensors) + (3 + self.has_additions) * len(self.steps)

    @property
    def has_additions(self) -> bool:
        """Whether a step has two inputs."""
        return any(len(step.inputs) > 1 for step in self.steps)

    @property
    def memory_bytes(self) -> int:
        """Working memory, in whole int32; 3 bytes more are read behind the last row."""
        return 4 * self.num_sums + (self.ring_bytes + 3 + self.state_bytes + 3) // 4 * 4


def plan(network: IntegerNetwork) -> Plan:
    """Plan the rows of a network.

    Raises:
        ModelError: a layer is too large for the C code; says which limit.
    """
    tensors = tuple(_tensors(network))
    steps = tuple(_steps(network, tensors))
    for step in steps:
        _require_bytes(step, tensors)
    made = Plan(network, tensors, steps)
    for tensor, rows in zip(tensors, _ring_rows(made), strict=True):
        tensor.ring_rows = rows
    address = 0
    for tensor in tensors:
        tensor.address = address
        address += tensor.ring_rows * tensor.row_bytes
    if made.memory_bytes > 1 << 16:
        raise ModelError(
            f"the C code would need {made.memory_bytes:,} bytes of working memory, over 65,536."
        )
    return made


def window_of(layer: IntegerLayer) -> Window:
    """The window of a layer; a single pixel for an addition."""
    if isinstance(layer, IntegerConvolution | IntegerMaxPool | IntegerAveragePool):
        return layer.window
    return Window(kernel=(1, 1))


def _tensors(network: IntegerNetwork) -> Iterator[Tensor]:
    for place in range(-1, len(network.layers)):
        readers = [layer for layer in network.layers if place in layer.inputs]
        wanted = [window_of(layer).padding for layer in readers] or [(0, 0)]
        rows, columns = (max(side) for side in zip(*wanted, strict=True))
        pooled = [layer for layer in readers if isinstance(layer, IntegerMaxPool)]
        if any(any(layer.window.padding) for layer in pooled) and len(readers) > 1:
            raise ModelError(f"{pooled[0].name} pads an output that another layer reads, too.")
        yield Tensor(network.shape_of(place), (rows, columns))


def _steps(network: IntegerNetwork, tensors: tuple[Tensor, ...]) -> Iterator[Step]:
    address = 0
    for layer in network.layers:
        window = window_of(layer)
        accumulates = (
            not isinstance(layer, IntegerAddition)
            and window.kernel[0] > 1
            and window.stride[0] >= window.extent[0]
            and window.padding[0] == 0
            and window.dilation[0] == 1
        ) or _is_global(network, layer)
        needs_sums = accumulates and not isinstance(layer, IntegerMaxPool)
        sums = layer.shape[0] * layer.shape[2] if needs_sums else 0
        inputs = tuple(place - PIXELS for place in layer.inputs)
        first_rows = tuple(tensors[place].padding[0] - window.padding[0] for place in inputs)
        yield Step(
            layer=layer,
            window=window,
            inputs=inputs,
            first_rows=first_rows,
            accumulates=accumulates,
            sums=sums,
            sums_address=address,
        )
        address += sums


def _is_global(network: IntegerNetwork, layer: IntegerLayer) -> bool:
    """Whether the window is as tall as the input, so that there is one output row."""
    window = window_of(layer)
    height = network.shape_of(layer.inputs[0])[1]
    return height > 1 and window.kernel[0] == height and layer.shape[1] == 1


def _ring_rows(plan: Plan) -> list[int]:
    """Rows that each ring must hold, by playing through the rows of one image."""
    rehearsal = _Rehearsal(plan)
    rehearsal.advance()
    for _ in range(plan.tensors[0].shape[1]):
        rehearsal.finish_row(0)
        rehearsal.advance()
    if rehearsal.produced != [tensor.num_rows for tensor in plan.tensors]:
        raise AssertionError("the plan of the rows does not end")
    return rehearsal.rows


class _Rehearsal:
    """Counts rows in the order in which the C code computes them (`advance` there)."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.produced = [0] * len(plan.tensors)
        self.tops = [list(step.first_rows) for step in plan.steps]
        """The first row of the next window, for each step and input."""
        self.phases = [0] * len(plan.steps)
        self.rows = [1] * len(plan.tensors)

    def advance(self) -> None:
        moved = True
        while moved:
            moved = False
            for place in reversed(range(len(self.produced))):
                moved = self._move(place) or moved

    def finish_row(self, place: int) -> None:
        self._begin_row(place)
        self.produced[place] += 1

    def _begin_row(self, place: int) -> None:
        """The next row of the tensor is written: what readers still need must stay."""
        needed = [
            top
            for step, tops in zip(self.plan.steps, self.tops, strict=True)
            for source, top in zip(step.inputs, tops, strict=True)
            if source == place
        ]
        oldest = min([*needed, self.produced[place]])
        self.rows[place] = max(self.rows[place], self.produced[place] + 1 - oldest)

    def _move(self, place: int) -> bool:
        tensor = self.plan.tensors[place]
        if self.produced[place] == tensor.num_rows:
            return False
        if not 0 <= self.produced[place] - tensor.padding[0] < tensor.shape[1]:
            self.finish_row(place)
            return True
        if place == 0:
            return False
        step = self.plan.steps[place - 1]
        tops = self.tops[place - 1]
        for source, top in zip(step.inputs, tops, strict=True):
            if self.produced[source] < top + step.rows_needed:
                return False
        self._compute(place, step)
        return True

    def _compute(self, place: int, step: Step) -> None:
        self.phases[place - 1] += 1
        if not step.accumulates or not step.sums:
            self._begin_row(place)
        complete = not step.accumulates or self.phases[place - 1] == step.window.kernel[0]
        if complete:
            self.phases[place - 1] = 0
            self.finish_row(place)
        distance = _distance(step, complete)
        self.tops[place - 1] = [top + distance for top in self.tops[place - 1]]


def _distance(step: Step, complete: bool) -> int:
    """Rows from one window's first to the next one's, or one row if they are accumulated."""
    if not step.accumulates:
        return step.window.stride[0]
    if not complete:
        return 1
    return max(1, step.window.stride[0] - step.window.kernel[0] + 1)


def _require_bytes(step: Step, tensors: tuple[Tensor, ...]) -> None:
    """The C code keeps most sizes in one byte."""
    name = step.layer.name
    for tensor in (tensors[place] for place in step.inputs):
        if max(tensor.num_rows, tensor.shape[0], tensor.shape[2] + 2 * tensor.padding[1]) > _BYTE:
            raise ModelError(f"the C code allows no side and no channels over {_BYTE}: {name}.")
    if step.layer.shape[0] > _BYTE:
        raise ModelError(f"the C code allows at most {_BYTE} channels: {name}.")
