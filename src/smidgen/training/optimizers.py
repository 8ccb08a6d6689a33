"""Optimizers: SGD, Adam and AdamW computed by torch, and Muon.

They take torch's steps through its functions for them, but are not torch's classes: creating one of
those loads torch's compiler, a second at the start of every run
(docs/decisions/2026-11-25-optimizers.md).
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from smidgen.config import Optimizer as Settings
from smidgen.errors import ModelError
from smidgen.training.muon import orthogonal_updates

Group = dict[str, Any]


class Optimizer(ABC):
    """Groups of parameters with their settings, and the state of each parameter.

    `param_groups` and `state` are as in torch.optim.Optimizer.
    """

    def __init__(self, groups: Iterable[Group], **defaults: Any) -> None:
        self.param_groups = [defaults | group for group in groups]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    def zero_grad(self) -> None:
        """Remove all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change each parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            self._update(group, parameters, [p.grad for p in parameters])

    @abstractmethod
    def _update(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None: ...


class SGD(Optimizer):
    """torch.optim.SGD, fused: one pass over all parameters instead of several over each."""

    def _update(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        momenta = [self.state[p].get("momentum_buffer") for p in parameters]
        sgd(
            parameters,
            gradients,
            momenta,
            fused=True,
            lr=group["lr"],
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            weight_decay=group["weight_decay"],
            dampening=0.0,
            maximize=False,
        )
        for parameter, momentum in zip(parameters, momenta, strict=True):
            if momentum is not None:
                self.state[parameter]["momentum_buffer"] = momentum


class Adam(Optimizer):
    """torch.optim.Adam or, with `decoupled` weight decay, AdamW; fused as SGD."""

    def _update(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        adam(
            parameters,
            gradients,
            [self.state[p]["exp_avg"] for p in parameters],
            [self.state[p]["exp_avg_sq"] for p in parameters],
            [],
            [self.state[p]["step"] for p in parameters],
            fused=True,
            decoupled_weight_decay=group["decoupled"],
            lr=group["lr"],
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=group["weight_decay"],
            amsgrad=False,
            maximize=False,
        )


class Muon(Optimizer):
    """Muon for the parameters of groups with `orthogonal`, Nesterov's momentum for all others.

    Weight decay takes lr * weight_decay of a weight at each step there, and is added to the
    gradient elsewhere, as in SGD.
    """

    def _update(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        decay, lr = group.get("weight_decay", 0.0), group["lr"]
        orthogonal = group.get("orthogonal", False)
        if decay and not orthogonal:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=decay))
        momenta = [
            self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in parameters
        ]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients)
        ahead = list(torch._foreach_add(gradients, momenta, alpha=group["momentum"]))
        if orthogonal:
            ahead = orthogonal_updates(ahead)
            if decay:
                torch._foreach_mul_(parameters, 1 - lr * decay)
        torch._foreach_add_(parameters, ahead, alpha=-lr)


def build_optimizer(network: nn.Module, settings: Settings) -> Optimizer:
    """The optimizer over all trainable parameters; weight decay leaves vectors and scalars alone.

    Biases and the scales and shifts of norms are the parameters of fewer than two dimensions.

    Raises:
        ModelError: the network has nothing to train.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if settings.name == "muon":
        return _muon(parameters, settings)
    groups: list[Group] = [
        {
            "params": [p for p in parameters if p.ndim >= 2],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = _not_empty(groups)
    if settings.name == "sgd":
        momentum, nesterov = settings.momentum, settings.nesterov
        return SGD(groups, lr=settings.lr, momentum=momentum, nesterov=nesterov)
    return Adam(groups, lr=settings.lr, decoupled=settings.name == "adamw")


def _muon(parameters: list[nn.Parameter], settings: Settings) -> Muon:
    """Convolutions by Muon; linear layers, norms and biases by its share of the rate."""
    assert settings.other_lr is not None
    share, decay = settings.other_lr / settings.lr, settings.weight_decay
    groups: list[Group] = [
        {
            "params": [p for p in parameters if p.ndim > 2],
            "orthogonal": True,
            "weight_decay": decay,
        },
        {"params": [p for p in parameters if p.ndim == 2], "share": share, "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "share": share},
    ]
    return Muon(_not_empty(groups), lr=settings.lr, momentum=settings.momentum)


def _not_empty(groups: list[Group]) -> list[Group]:
    filled = [group for group in groups if group["params"]]
    if not filled:
        raise ModelError("the network has no trainable parameters, so it cannot learn.")
    return filled
