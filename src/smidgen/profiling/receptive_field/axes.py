"""What a tensor sees of the image, and where in the tensor the axes of the image run.

A dimension of a tensor is a product of factors: a map of 12x12 that was flattened with its 30
channels is one dimension of (30 of no axis, 12 along the vertical, 12 along the horizontal). So
views can take maps apart and put them together again, and a layer that looks along a dimension is
known to look along these axes of the image, and no others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from smidgen.profiling.receptive_field.arithmetic import Field, join, sweep

Factor = tuple[int | None, int]
"""Axis of the image (0 vertical, 1 horizontal, None neither) and number of places."""
Dimension = tuple[Factor, ...]


class UnknownError(Exception):
    """What an operator sees is not known; the message says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Fields along both axes of the image, and what runs along each dimension."""

    fields: tuple[Field, Field]
    dimensions: tuple[Dimension, ...]

    def swept(self, places: Iterable[int]) -> "Sight":
        """Of an output that looks along these dimensions from end to end."""
        fields = list(self.fields)
        for place in places:
            for axis, size in self.dimensions[place]:
                if axis is not None:
                    fields[axis] = sweep(fields[axis], size)
        return replace(self, fields=(fields[0], fields[1]))

    def has_axis(self, places: Iterable[int]) -> bool:
        """Whether an axis of the image runs along any of these dimensions."""
        return any(axis is not None for place in places for axis, _ in self.dimensions[place])

    def reshaped(self, shape: Sequence[int]) -> "Sight":
        """Of the same elements in the same order under another shape."""
        factors = [factor for dimension in self.dimensions for factor in dimension]
        dimensions = []
        for size in shape:
            taken: list[Factor] = []
            while (rest := size // max(1, prod(n for _, n in taken))) > 1:
                axis, number = factors.pop(0)
                if number > rest:
                    if axis is not None or number % rest:
                        raise UnknownError("it cuts the map into pieces")
                    factors.insert(0, (None, number // rest))
                    number = rest
                elif rest % number:
                    raise UnknownError("it cuts the map into pieces")
                taken.append((axis, number))
            dimensions.append(tidy(taken))
        return replace(self, dimensions=tuple(dimensions))

    def broadcast(self, shape: Sequence[int]) -> "Sight":
        """Of the tensor repeated until it has `shape`."""
        missing = len(shape) - len(self.dimensions)
        dimensions = ((),) * missing + self.dimensions
        return replace(
            self,
            dimensions=tuple(
                plain(size) if places(dimension) == 1 else dimension
                for dimension, size in zip(dimensions, shape, strict=True)
            ),
        )


def tidy(factors: Iterable[Factor]) -> Dimension:
    """The same dimension without factors of 1, neighbours of no axis as one."""
    kept: list[Factor] = []
    for axis, size in factors:
        if size == 1:
            continue
        if kept and axis is None and kept[-1][0] is None:
            kept[-1] = (None, kept[-1][1] * size)
        else:
            kept.append((axis, size))
    return tuple(kept)


def plain(size: int) -> Dimension:
    """A dimension along which no axis of the image runs."""
    return tidy([(None, size)])


def places(dimension: Dimension) -> int:
    """How many places a dimension has."""
    return prod(size for _, size in dimension)


def merged(sights: Sequence[Sight]) -> Sight:
    """Of what sees all of `sights`, whose shapes agree."""
    dimensions = []
    for together in zip(*(sight.dimensions for sight in sights), strict=True):
        mapped = {d for d in together if any(axis is not None for axis, _ in d)}
        if len(mapped) > 1:
            raise UnknownError("its inputs lie differently on the image")
        dimensions.append(mapped.pop() if mapped else together[0])
    fields = [_merged_field(sights, axis) for axis in (0, 1)]
    return Sight((fields[0], fields[1]), tuple(dimensions))


def _merged_field(sights: Sequence[Sight], axis: int) -> Field:
    """Of branches that slide, the one around the other; a branch that does not makes all fixed."""
    lengths = [_length(sight, axis) for sight in sights]
    sliding = [s.fields[axis] for s, n in zip(sights, lengths, strict=True) if n > 1]
    if not sliding:
        return join(sight.fields[axis] for sight in sights)
    moving = [field for field in sliding if not field.fixed]
    if len({field.jump for field in moving}) > 1:
        raise UnknownError("its inputs have different jumps")
    if len(moving) == len(sights):
        return join(moving)
    longest = max(lengths)
    swept = join(
        sweep(sight.fields[axis], longest if n > 1 else 1)
        for sight, n in zip(sights, lengths, strict=True)
    )
    return replace(swept, jump=max(field.jump for field in sliding), fixed=True)


def _length(sight: Sight, axis: int) -> int:
    """Over how many places the axis runs in the tensor; 1 where it does not."""
    return max((n for d in sight.dimensions for a, n in d if a == axis), default=1)
