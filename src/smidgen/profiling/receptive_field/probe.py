"""Receptive fields by experiment, for layers whose operators have no rule.

Rows and columns of the image are poisoned one at a time with NaN; what an output sees is where the
poison reaches it from. The borders of the image cut the field off, and a network that compares
values instead of computing with them hides part of it, so a rule is better where there is one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from smidgen.profiling.trace import stand_ins, undisturbed
from smidgen.record import Pair

_AT_ONCE = 32  # images: those of all lines of a large picture would fill the memory


@torch.no_grad()
def probe(module: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Pair]:
    """By the dotted name of each leaf module, (height, width) of what its outputs see.

    Of the output that sees most: others lie nearer to the border of the image. Takes height + width
    images in eval mode on the CPU, some of them at once; nothing is known of a network that fails
    on them, as one that takes a single image does. A module whose output, or the first of them, is
    no tensor (batch, ...), or that sees nothing of the image, is left out; a module that is called
    more than once counts as of its last call. The module, its buffers and the global random numbers
    stay as they are.
    """
    image = torch.rand(*input_shape, generator=torch.Generator().manual_seed(0))
    with undisturbed(module):
        weights = stand_ins(module)
        try:
            high, wide = (_sizes(module, weights, image, axis) for axis in (1, 2))
        except Exception:  # any code may be in there, and a note says that nothing is known
            return {}
    return {path: (high[path], wide[path]) for path in high if path in wide}


def _sizes(
    module: nn.Module, weights: Mapping[str, Tensor], image: Tensor, axis: int
) -> dict[str, int]:
    """For each leaf module, from the first to the last line along `axis` that one output sees."""
    leaves = [(path, m) for path, m in module.named_modules() if next(m.children(), None) is None]
    firsts: dict[str, Tensor] = {}
    lasts: dict[str, Tensor] = {}
    for start in range(0, image.shape[axis], _AT_ONCE):
        lines = min(_AT_ONCE, image.shape[axis] - start)
        images = image.repeat(lines, 1, 1, 1)  # (lines, channels, height, width)
        for place in range(lines):
            images[place].select(axis, start + place).fill_(float("nan"))
        arrived: dict[str, Tensor] = {}
        hooks = [m.register_forward_hook(_note(path, arrived)) for path, m in leaves]
        try:
            functional_call(module, dict(weights), (images,))
        finally:
            for hook in hooks:
                hook.remove()
        for path, hits in arrived.items():  # (lines, outputs)
            if len(hits) == lines:
                seen = hits.any(0)
                first = torch.where(seen, start + hits.byte().argmax(0), image.shape[axis])
                last = torch.where(seen, start + lines - 1 - hits.flip(0).byte().argmax(0), -1)
                firsts[path] = torch.minimum(firsts.get(path, first), first)
                lasts[path] = torch.maximum(lasts.get(path, last), last)
    sizes = {path: int((lasts[path] - first).max()) + 1 for path, first in firsts.items()}
    return {path: size for path, size in sizes.items() if size > 0}


def _note(path: str, arrived: dict[str, Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that notes whether the poison of each image arrived at each output."""

    def note(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, tuple) and output:
            output = output[0]
        if isinstance(output, Tensor) and output.ndim > 1 and output.numel():
            arrived[path] = output.flatten(1).isnan()  # (lines, outputs)

    return note
