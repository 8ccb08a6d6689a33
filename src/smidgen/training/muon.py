"""Steps of equal size in all directions for filters, Nesterov momentum for the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)  # steep at 0; singular values end between 0.7 and 1.2


def orthogonalized(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices (batch, rows, columns) with their singular vectors, all singular values near 1.

    By a Newton-Schulz iteration of the fifth degree, in float32. (Jordan et al.: Muon, 2024.)

    >>> near = orthogonalized(torch.tensor([[[3.0, 0.0], [0.0, 0.5]]]))
    >>> bool((near[0].diagonal() - 1).abs().max() < 0.35)
    True
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for the parameters of groups with `orthogonal`, Nesterov's momentum for all others.

    A filter bank (out, in, height, width) is a matrix (out, in * height * width): its momentum is
    orthogonalized, and scaled by sqrt(max(1, rows / columns)). Weight decay takes lr * weight_decay
    of a weight at each step there, and is added to the gradient elsewhere, as in SGD.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one; every parameter has a gradient."""
        assert closure is None
        for group in self.param_groups:
            parameters: list[Tensor] = group["params"]
            gradients = [p.grad for p in parameters if p.grad is not None]
            decay, lr = group["weight_decay"], group["lr"]
            if decay and not group["orthogonal"]:
                gradients = list(torch._foreach_add(gradients, parameters, alpha=decay))
            momenta = [
                self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in parameters
            ]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, gradients)
            ahead = list(torch._foreach_add(gradients, momenta, alpha=group["momentum"]))
            if group["orthogonal"]:
                ahead = _orthogonal(ahead)
                if decay:
                    torch._foreach_mul_(parameters, 1 - lr * decay)
            torch._foreach_add_(parameters, ahead, alpha=-lr)


def _orthogonal(updates: list[Tensor]) -> list[Tensor]:
    """Each update as `Muon` takes it; those of one shape are computed together."""
    found: dict[int, Tensor] = {}
    shapes: dict[tuple[int, int], list[int]] = {}
    for place, update in enumerate(updates):
        shapes.setdefault((len(update), update[0].numel()), []).append(place)
    for (rows, columns), places in shapes.items():
        stack = torch.stack([updates[place].reshape(rows, columns) for place in places])
        scaled = orthogonalized(stack) * max(1.0, rows / columns) ** 0.5
        for place, matrix in zip(places, scaled, strict=True):
            found[place] = matrix.view(updates[place].shape)
    return [found[place] for place in range(len(updates))]
