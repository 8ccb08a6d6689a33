"""Receptive fields by experiment, for layers whose operators have no rule.

Rows and columns of the image are poisoned one at a time with NaN; what a layer's middle output
sees is where the poison reaches it. The borders of the image cut the field off, and a network that
compares values instead of computing with them hides part of it, so a rule is better where there is
one.
"""

import torch
from torch import Tensor, nn

from smidgen.record import Pair


@torch.no_grad()
def probe(module: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Pair]:
    """By the dotted name of each leaf module, (height, width) of what its middle output sees.

    One forward pass of height + width images in eval mode; nothing of a network that does not take
    so many at once. A module whose output is no tensor
    (batch, ...), or that sees nothing of the image, is left out; a module that is called more than
    once counts as of its last call. The training flags stay as they were.
    """
    channels, height, width = input_shape
    images = torch.rand(
        height + width, channels, height, width, generator=torch.Generator().manual_seed(0)
    )
    for row in range(height):
        images[row, :, row, :] = float("nan")
    for column in range(width):
        images[height + column, :, :, column] = float("nan")
    seen: dict[str, Pair] = {}

    def note(path: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim > 1 and len(output) == len(images):
            poisoned = _middle(output).isnan()  # (images,)
            extents = _extent(poisoned[:height]), _extent(poisoned[height:])
            if all(extents):
                seen[path] = extents

    leaves = [(path, m) for path, m in module.named_modules() if next(m.children(), None) is None]
    hooks = [
        m.register_forward_hook(lambda _, args, output, path=path: note(path, output))
        for path, m in leaves
    ]
    training = {part: part.training for part in module.modules()}
    try:
        module.eval()(images)
    except RuntimeError:
        return {}  # a network that takes one image only cannot be probed
    finally:
        for hook in hooks:
            hook.remove()
        for part, flag in training.items():
            part.training = flag
    return seen


def _middle(output: Tensor) -> Tensor:
    """One value of each image, from the middle of whatever dimensions follow: (images,).

    Channels are summed, since each sees the same square.
    """
    if output.ndim == 4:
        return output[:, :, output.shape[2] // 2, output.shape[3] // 2].sum(1)
    middle = output.flatten(1)
    return middle[:, middle.shape[1] // 2]


def _extent(poisoned: Tensor) -> int:
    """From the first to the last line whose poison arrived."""
    places = poisoned.nonzero().flatten()
    return int(places[-1] - places[0]) + 1 if len(places) else 0
