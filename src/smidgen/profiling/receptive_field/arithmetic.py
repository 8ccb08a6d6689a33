"""The receptive field along one axis of the image: pure arithmetic, without a network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Window:
    """What slides along one axis: side of the kernel, step, spread and padding before the start."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0

    @property
    def side(self) -> int:
        """Pixels from the first to the last that the kernel touches, dilation included."""
        return (self.kernel - 1) * self.dilation + 1


@dataclass(frozen=True, slots=True)
class Field:
    """What the outputs of a layer see along one axis, borders unclipped.

    Output i sees `size` pixels from pixel `first + i * jump` on; where the field is fixed, every
    output sees the same ones, from `first` on.
    """

    first: int = 0
    size: int = 1
    jump: int = 1
    fixed: bool = False


def slide(field: Field, window: Window) -> Field:
    """The field behind a window: r + (k - 1) * j wide, with a jump of j * s.

    A fixed field stays what it is: a window over outputs that all see the same sees no more.
    """
    jump = field.jump * window.stride
    if field.fixed:
        return replace(field, jump=jump)
    return Field(
        first=field.first - window.padding * field.jump,
        size=field.size + (window.side - 1) * field.jump,
        jump=jump,
    )


def crop(field: Field, start: int, step: int = 1) -> Field:
    """The field of every step-th output from output `start` on (negative: of a padded map)."""
    first = field.first if field.fixed else field.first + start * field.jump
    return replace(field, first=first, jump=field.jump * step)


def sweep(field: Field, outputs: int) -> Field:
    """The fixed field of what sees all of so many outputs: r + (n - 1) * j wide.

    >>> sweep(Field(first=0, size=6, jump=2), 4)
    Field(first=0, size=12, jump=2, fixed=True)
    """
    if field.fixed:
        return field
    return replace(field, size=field.size + (outputs - 1) * field.jump, fixed=True)


def join(fields: Iterable[Field]) -> Field:
    """The field of what sees all of `fields` at once, from the first pixel of any to the last.

    Where one holds the other, as in a padded residual block, that is the largest.

    >>> join([Field(first=-1, size=3), Field(first=0, size=1)]).size
    3
    """
    fields = list(fields)
    first = min(field.first for field in fields)
    end = max(field.first + field.size for field in fields)
    return Field(
        first=first,
        size=end - first,
        jump=max(field.jump for field in fields),
        fixed=any(field.fixed for field in fields),
    )


def receptive_field(windows: Sequence[Window]) -> list[int]:
    """Side, in input pixels, of the square that each layer's output sees.

    r_i = r_(i-1) + (k_i - 1) * j_(i-1) and j_i = j_(i-1) * s_i, from r = j = 1, with k the
    dilated kernel side and s the stride; padding moves the square without resizing it. RunOptions
    branches join, the largest wins. (Araujo, Norris, Sim: Computing Receptive Fields, 2019.)

    >>> receptive_field([Window(3), Window(2, stride=2), Window(3)])
    [3, 4, 8]
    """
    field, sizes = Field(), []
    for window in windows:
        field = slide(field, window)
        sizes.append(field.size)
    return sizes
