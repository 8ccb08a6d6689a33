"""Receptive fields measured by a probe, for layers whose operators have no rule.

One row or column of the image at a time is set to NaN; an output depends on it if it becomes NaN.
The border of the image clips what is measured, and operators that compare values (a maximum) can
hide part of it, so a rule is preferred where there is one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from smidgen.profiling.trace import cpu_tensors, eval_mode
from smidgen.record import Pair

_BATCH_SIZE = 32  # bounds the memory for large images


@torch.no_grad()
def probe(module: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Pair]:
    """Receptive field (height, width) of each leaf module, by its dotted name.

    It is the largest of any output of the module; others lie closer to the border. Modules are left
    out whose (first) output is not a tensor (batch, ...) or does not depend on the image; the last
    call counts. The result is empty if the network fails on NaN or on batches. The probe runs
    height + width images in eval mode on the CPU. The module, its buffers and the global random
    state are left unchanged.
    """
    image = torch.rand(*input_shape, generator=torch.Generator().manual_seed(0))
    with eval_mode(module):
        tensors = cpu_tensors(module)
        try:
            high, wide = (_sizes(module, tensors, image, axis) for axis in (1, 2))
        except Exception:  # user code can raise anything; the profile's notes say what is unknown
            return {}
    return {path: (high[path], wide[path]) for path in high if path in wide}


def _sizes(
    module: nn.Module, tensors: Mapping[str, Tensor], image: Tensor, axis: int
) -> dict[str, int]:
    """For each leaf module, lines along `axis` from the first to the last that one output sees."""
    leaves = [(path, m) for path, m in module.named_modules() if next(m.children(), None) is None]
    firsts: dict[str, Tensor] = {}
    lasts: dict[str, Tensor] = {}
    for start in range(0, image.shape[axis], _BATCH_SIZE):
        lines = min(_BATCH_SIZE, image.shape[axis] - start)
        images = image.repeat(lines, 1, 1, 1)  # (lines, channels, height, width)
        for line in range(lines):
            images[line].select(axis, start + line).fill_(float("nan"))
        reached: dict[str, Tensor] = {}
        hooks = [m.register_forward_hook(_record_nan(path, reached)) for path, m in leaves]
        try:
            functional_call(module, dict(tensors), (images,))
        finally:
            for hook in hooks:
                hook.remove()
        for path, hits in reached.items():  # (lines, outputs)
            if len(hits) == lines:
                seen = hits.any(0)
                first = torch.where(seen, start + hits.byte().argmax(0), image.shape[axis])
                last = torch.where(seen, start + lines - 1 - hits.flip(0).byte().argmax(0), -1)
                firsts[path] = torch.minimum(firsts.get(path, first), first)
                lasts[path] = torch.maximum(lasts.get(path, last), last)
    sizes = {path: int((lasts[path] - first).max()) + 1 for path, first in firsts.items()}
    return {path: size for path, size in sizes.items() if size > 0}


def _record_nan(path: str, reached: dict[str, Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that records in `reached` which outputs of which image are NaN."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, tuple) and output:
            output = output[0]
        if isinstance(output, Tensor) and output.ndim > 1 and output.numel():
            reached[path] = output.flatten(1).isnan()  # (lines, outputs)

    return hook
