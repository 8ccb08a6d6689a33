"""A running average of a network's weights."""

import copy

import torch
from torch import nn


class Ema:
    """An exponential moving average of parameters and buffers, as a network of its own.

    After step t (from 1) the average keeps min(decay, (1 + t) / (10 + t)) of itself, so that a
    short run is not held back by its first weights. Buffers of integers are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0
        averaged, live = (n.state_dict(keep_vars=True).values() for n in (self.network, network))
        # What is shared between modules is there once, so that no step counts twice for it.
        pairs = {id(a): (a, b) for a, b in zip(averaged, live, strict=True)}.values()
        self._floats = [(a, b) for a, b in pairs if a.is_floating_point()]
        self._others = [(a, b) for a, b in pairs if not a.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's weights as they are now."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        averaged, live = [a for a, _ in self._floats], [b for _, b in self._floats]
        torch._foreach_lerp_(averaged, live, 1 - keep)
        for a, b in self._others:
            a.copy_(b)
