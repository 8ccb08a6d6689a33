"""Muon's update: steps of equal size in all directions."""

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


def orthogonal_updates(updates: list[Tensor]) -> list[Tensor]:
    """Each update orthogonalized as a matrix, and scaled by sqrt(max(1, rows / columns)).

    A filter bank (out, in, height, width) is a matrix (out, in * height * width). Those of one
    shape are computed together.
    """
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
