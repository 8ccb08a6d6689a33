"""Optimizers from their settings."""

import torch
from torch import nn

from smidgen.config import Optimizer
from smidgen.errors import ModelError


def build_optimizer(network: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """The optimizer over all trainable parameters; weight decay leaves vectors and scalars alone.

    Biases and the scales and shifts of norms are the parameters of fewer than two dimensions.

    Raises:
        ModelError: the network has nothing to train.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in parameters if p.ndim >= 2],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ModelError("the network has no trainable parameters, so it cannot learn.")
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
