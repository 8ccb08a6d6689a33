"""Lazy layers: initialized by one forward pass of the right shape."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from smidgen.errors import ModelError


def initialize_lazy(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Give the lazy layers of `module`, if any, their shapes and weights.

    One image of zeros passes through in eval mode. Weights are drawn from torch's global generator
    in the order of the layers' first calls. Training flags and other buffers stay as they are.

    Raises:
        ModelError: forward raises, or never calls one of the lazy layers.
    """
    if not _lazy_layers(module):
        return
    training = {part: part.training for part in module.modules()}
    buffers = [(b, b.clone()) for b in module.buffers() if not is_lazy(b)]
    device = next(module.parameters()).device
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, *input_shape, device=device))
            for buffer, before in buffers:
                buffer.copy_(before)
    except Exception as error:  # user code can raise anything
        raise ModelError(
            f"The network's lazy layers cannot be initialized by an image of {input_shape}: {error}"
        ) from error
    finally:
        for part, flag in training.items():
            part.training = flag
    if remaining := _lazy_layers(module):
        raise ModelError(
            f"The network has lazy layers that its forward does not call: {', '.join(remaining)}; "
            "remove them."
        )


def _lazy_layers(module: nn.Module) -> list[str]:
    return [
        name or type(module).__name__
        for name, part in module.named_modules()
        if any(is_lazy(t) for t in (*part.parameters(False), *part.buffers(False)))
    ]
