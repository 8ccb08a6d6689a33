"""Optimizers from their settings."""

import torch
from torch import nn

from smidgen.config import Optimizer
from smidgen.errors import ModelError
from smidgen.training.muon import Muon


def build_optimizer(network: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """The optimizer over all trainable parameters; weight decay leaves vectors and scalars alone.

    Biases and the scales and shifts of norms are the parameters of fewer than two dimensions.

    Raises:
        ModelError: the network has nothing to train.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if settings.name == "muon":
        return _muon(parameters, settings)
    groups = [
        {
            "params": [p for p in parameters if p.ndim >= 2],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = _not_empty(groups)
    # fused: one pass over all parameters instead of one call for each operation on each of them
    if settings.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            fused=True,
        )
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr, fused=True)


def _muon(parameters: list[nn.Parameter], settings: Optimizer) -> Muon:
    """Convolutions by Muon; linear layers, norms and biases by its share of the rate."""
    assert settings.other_lr is not None
    share, decay = settings.other_lr / settings.lr, settings.weight_decay
    groups: list[dict[str, object]] = [
        {
            "params": [p for p in parameters if p.ndim > 2],
            "orthogonal": True,
            "weight_decay": decay,
        },
        {"params": [p for p in parameters if p.ndim == 2], "share": share, "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "share": share},
    ]
    return Muon(_not_empty(groups), lr=settings.lr, momentum=settings.momentum)


def _not_empty(groups: list[dict[str, object]]) -> list[dict[str, object]]:
    filled = [group for group in groups if group["params"]]
    if not filled:
        raise ModelError("the network has no trainable parameters, so it cannot learn.")
    return filled
