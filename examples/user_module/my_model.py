"""A user-defined network: any module from (batch, 1, 28, 28) to (batch, classes)."""

import torch
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Scale each channel by a weight that is computed from the global averages of all channels."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, reduced, 1),
            nn.ReLU(),
            nn.Conv2d(reduced, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x, scaled, in the same shape."""
        weighed: Tensor = x * self.weigh(x)
        return weighed


class Net(nn.Module):
    """Two convolutions, a residual block with squeeze-and-excitation, a concatenation of two pools.

    smidgen passes `num_classes` and `in_channels` from the data set; `width` comes from the
    experiment.
    """

    def __init__(self, num_classes: int, in_channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            SqueezeExcite(width, 4),
        )
        self.deep = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.scores = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        x = self.stem(x)  # (batch, width, 13, 13)
        x = x + self.block(x)
        x = self.deep(x)  # (batch, 2 width, 11, 11)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)  # (batch, 4 width)
        scores: Tensor = self.scores(pooled)
        return scores
