"""The rows, or columns, of the image that each element of a tensor depends on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

Shape = tuple[int, ...]


class UnknownError(Exception):
    """The receptive field of an operator is unknown; the message says why, to end a sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Along one axis of the image, from `first` to `last` for each element of a tensor.

    Not clipped to the image. Spans differ along at most one dimension of the tensor; `first` and
    `last` have size 1 along the others, and broadcast to `shape`.
    """

    first: Tensor  # int32
    last: Tensor
    shape: Shape
    jump: int = 1
    """Rows from the span of one element to that of the next."""
    shared: bool = False
    """Whether every element depends on the same rows, after an operator over the whole map."""

    @property
    def size(self) -> int:
        """Rows from the first to the last that one element depends on, the most of any element."""
        return int((self.last - self.first).max()) + 1

    @property
    def moving(self) -> list[int]:
        """The dimensions of the tensor along which the spans differ."""
        return [dim for dim in range(len(self.shape)) if self.moves_along(dim)]

    def moves_along(self, dim: int) -> bool:
        """Whether the spans differ along this dimension of the tensor."""
        return self.first.shape[dim] > 1 or self.last.shape[dim] > 1

    def map(self, function: Callable[[Tensor], Tensor]) -> "Span":
        """The spans after `function`, which moves, drops or repeats elements of a tensor."""
        first, last = (function(t.expand(self.shape)) for t in (self.first, self.last))
        shape = tuple(first.shape)
        return replace(self, first=_compact(first), last=_compact(last), shape=shape)

    def reshape(self, shape: Shape) -> "Span":
        """The same elements in the same order under another shape.

        Raises:
            UnknownError: the spans would differ along two dimensions.
        """
        reshaped = self.map(lambda t: t.reshape(shape))
        if len(reshaped.moving) > 1:
            raise UnknownError("it cuts the map into pieces")
        return reshaped

    def resize(self, dim: int, size: int) -> "Span":
        """The spans of another number of elements along `dim`, along which they are equal."""
        return replace(self, shape=(*self.shape[:dim], size, *self.shape[dim + 1 :]))

    def over(self, dims: Iterable[int] | None = None) -> "Span":
        """Of what depends on all elements along `dims` (all if None), which become 1.

        The size grows from r to r + (n - 1) * j, with n the elements along the axis and j the jump.
        """
        rank = len(self.shape)
        dims = [dim % rank for dim in (range(rank) if dims is None else dims)]
        if not dims:
            return self
        return Span(
            self.first.amin(dims, keepdim=True),
            self.last.amax(dims, keepdim=True),
            tuple(1 if dim in dims else size for dim, size in enumerate(self.shape)),
            self.jump,
            self.shared or any(self.moves_along(dim) for dim in dims),
        )

    def slide(
        self,
        dim: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        padding: int = 0,
    ) -> "Span":
        """Of the `outputs` of a window that slides along `dim`; padding continues the map.

        r_out = r + (k - 1) * j and j_out = j * s, with k the kernel, dilation included, and s the
        stride; padding p moves the first span by -p * j. (Araujo, Norris, Sim: Computing Receptive
        Fields of Convolutional Neural Networks, Distill, 2019.) Shared spans stay as they are.

        Raises:
            UnknownError: the spans are not at equal distances, as in a flattened map.
        """
        self.require_even(dim)
        start, end = self.first.narrow(dim, 0, 1), self.last.narrow(dim, 0, 1)
        if self.first.shape[dim] > 1:
            step = self.first.narrow(dim, 1, 1) - start
        else:
            step = torch.full_like(start, 0 if self.shared else self.jump)
        moved = replace(self.resize(dim, outputs), jump=self.jump * stride)
        if not step.any():
            return moved
        places = torch.arange(outputs, dtype=torch.int32) * stride - padding
        places = places.view([outputs if i == dim else 1 for i in range(len(self.shape))])
        reach = (kernel - 1) * dilation
        return replace(moved, first=start + step * places, last=end + step * (places + reach))

    def require_even(self, dim: int) -> None:
        """Raise UnknownError if the spans along `dim` are not at equal distances."""
        if self.first.diff(n=2, dim=dim).any():
            raise UnknownError("its window runs along a flattened map")


def image_spans(shape: Shape) -> tuple[Span, Span]:
    """Vertical and horizontal spans of an image (1, channels, height, width): one pixel each."""
    rows = torch.arange(shape[2], dtype=torch.int32).view(1, 1, -1, 1)
    columns = torch.arange(shape[3], dtype=torch.int32).view(1, 1, 1, -1)
    return Span(rows, rows, shape), Span(columns, columns, shape)


def combine(spans: Sequence[Span], shape: Shape) -> Span:
    """Of a tensor of `shape` whose elements each depend on the (broadcast) elements of all `spans`.

    Where some spans move and others do not, every element gets the whole of both.

    Raises:
        UnknownError: two inputs move by different jumps, or along different dimensions.
    """
    if len(spans) == 1 and spans[0].shape == shape:
        return spans[0]
    spans = [span.map(lambda t: t.expand(shape)) for span in spans]
    moving = [span for span in spans if span.moving]
    if len({span.jump for span in moving}) > 1:
        raise UnknownError("its inputs have different jumps")
    if len({span.moving[0] for span in moving}) > 1:
        raise UnknownError("its inputs lie differently on the image")
    if len(moving) < len(spans):
        spans = [span.over() for span in spans]
    return Span(
        reduce(torch.minimum, (span.first for span in spans)),
        reduce(torch.maximum, (span.last for span in spans)),
        shape,
        jump=max(span.jump for span in moving or spans),
        shared=any(span.shared for span in spans),
    )


def _compact(tensor: Tensor) -> Tensor:
    """`tensor` with size 1 along all dimensions along which its elements are equal."""
    for dim in range(tensor.ndim):
        if tensor.stride(dim) == 0 or not tensor.diff(dim=dim).any():
            tensor = tensor.narrow(dim, 0, 1)
    return tensor
