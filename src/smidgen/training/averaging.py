"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class EMA:
    """An exponential moving average of parameters and buffers, as a separate network.

    After step t (from 1) the average keeps min(decay, (1 + t) / (10 + t)) of itself, so that the
    initial weights do not dominate a short run. Integer buffers are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0
        averaged, live = (n.state_dict(keep_vars=True).values() for n in (self.network, network))
        # Tensors that modules share appear once, so that a step does not average them twice.
        pairs = {id(a): (a, b) for a, b in zip(averaged, live, strict=True)}.values()
        self._floats = [(a, b) for a, b in pairs if a.is_floating_point()]
        self._others = [(a, b) for a, b in pairs if not a.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Average the network's current weights in."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        averaged, live = [a for a, _ in self._floats], [b for _, b in self._floats]
        torch._foreach_lerp_(averaged, live, 1 - keep)
        for a, b in self._others:
            a.copy_(b)
