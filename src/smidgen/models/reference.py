"""The five reference networks, equal to the layer tables that they were published with.

They take (batch, 1, 28, 28) and return (batch, 10) logits or log-probabilities. `dropout` defaults
to the published rate; 0 turns it off.
"""

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def _step(
    inputs: int, outputs: int, kernel: int, drop: nn.Module, padding: int = 0
) -> nn.Sequential:
    """Convolution without bias, ReLU, batch norm, dropout."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
        nn.ReLU(),
        nn.BatchNorm2d(outputs),
        drop,
    )


class Gap6k(nn.Module):
    """6,850 parameters: six 3x3 convolutions, the last one wider, average pool, 1x1 to classes."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.block1 = nn.Sequential(
            _step(1, 10, 3, nn.Dropout(dropout)),
            _step(10, 10, 3, nn.Dropout(dropout)),
        )
        self.pool = nn.MaxPool2d(2)
        self.block2 = nn.Sequential(
            _step(10, 10, 3, nn.Dropout(dropout)),
            _step(10, 10, 3, nn.Dropout(dropout)),
            _step(10, 10, 3, nn.Dropout(dropout)),
            _step(10, 30, 3, nn.Dropout(dropout)),
        )
        self.gap = nn.AvgPool2d(4)
        self.classes = nn.Conv2d(30, 10, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 10)."""
        x = self.pool(self.block1(x))  # (batch, 10, 12, 12)
        x = self.gap(self.block2(x))  # (batch, 30, 1, 1)
        x = self.classes(x)
        return x.flatten(1)


class Squeeze7k(nn.Module):
    """7,904 parameters: wide 3x3 convolutions, squeezed by 1x1 convolutions around the pool."""

    def __init__(self, dropout: float = 0.05) -> None:
        super().__init__()
        self.block1 = nn.Sequential(
            _step(1, 32, 3, nn.Dropout2d(dropout)),
            _step(32, 8, 1, nn.Dropout2d(dropout)),
            _step(8, 10, 3, nn.Dropout2d(dropout)),
        )
        self.pool = nn.MaxPool2d(2)
        self.block2 = nn.Sequential(
            _step(10, 16, 3, nn.Dropout2d(dropout), padding=1),
            _step(16, 10, 1, nn.Dropout2d(dropout)),
            _step(10, 10, 3, nn.Dropout2d(dropout)),
            _step(10, 16, 3, nn.Dropout2d(dropout)),
            _step(16, 16, 3, nn.Dropout2d(dropout)),
        )
        self.gap = nn.AvgPool2d(6)
        self.classes = nn.Conv2d(16, 10, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 10)."""
        x = self.pool(self.block1(x))  # (batch, 10, 12, 12)
        x = self.gap(self.block2(x))  # (batch, 16, 1, 1)
        x = self.classes(x)
        return x.flatten(1)


class Flatten18k(nn.Module):
    """18,242 parameters: three blocks of 16 and 32 channels, each squeezed to 8; flattened to 72.

    As published, the ten scores pass through a ReLU before the log-softmax, which sets every
    negative score to 0; `relu_scores=False` leaves the ReLU out.
    """

    def __init__(self, dropout: float = 0.1, relu_scores: bool = True) -> None:
        super().__init__()
        self.relu_scores = relu_scores
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.pool1 = nn.MaxPool2d(2)
        self.squeeze1 = nn.Conv2d(32, 8, 1)
        self.drop = nn.Dropout(dropout)
        self.conv3 = nn.Conv2d(8, 16, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(16)
        self.conv4 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn4 = nn.BatchNorm2d(32)
        self.pool2 = nn.MaxPool2d(2)
        self.squeeze2 = nn.Conv2d(32, 8, 1)
        self.conv5 = nn.Conv2d(8, 16, 3)
        self.bn5 = nn.BatchNorm2d(16)
        self.conv6 = nn.Conv2d(16, 32, 3)
        self.bn6 = nn.BatchNorm2d(32)
        self.squeeze3 = nn.Conv2d(32, 8, 1)
        self.bn7 = nn.BatchNorm2d(8)
        self.classes = nn.Linear(72, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities (batch, 10)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.drop(self.squeeze1(self.pool1(x)))  # (batch, 8, 14, 14)
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.relu(self.bn4(self.conv4(x)))
        x = self.squeeze2(self.pool2(x))  # (batch, 8, 7, 7)
        x = F.relu(self.bn5(self.conv5(x)))
        x = F.relu(self.bn6(self.conv6(x)))
        x = F.relu(self.bn7(self.squeeze3(x)))  # (batch, 8, 3, 3)
        scores = self.classes(x.flatten(1))
        if self.relu_scores:
            scores = F.relu(scores)
        return F.log_softmax(scores, dim=1)


class Linear19k(nn.Module):
    """19,602 parameters: 32 channels, a 5x5 convolution, 1x1 in between, a linear layer."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3)
        self.bn2 = nn.BatchNorm2d(32)
        self.pool1 = nn.MaxPool2d(2)
        self.drop1 = nn.Dropout(dropout)
        self.squeeze1 = nn.Conv2d(32, 8, 1)
        self.bn3 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 32, 5)
        self.bn4 = nn.BatchNorm2d(32)
        self.pool2 = nn.MaxPool2d(2)
        self.drop2 = nn.Dropout(dropout)
        self.squeeze2 = nn.Conv2d(32, 16, 1)
        self.bn5 = nn.BatchNorm2d(16)
        self.classes = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities (batch, 10)."""
        x = self.bn1(F.relu(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x = self.drop1(F.relu(self.pool1(x)))  # (batch, 32, 12, 12)
        x = self.bn3(F.relu(self.squeeze1(x)))
        x = self.bn4(self.conv3(x))
        x = self.drop2(F.relu(self.pool2(x)))  # (batch, 32, 4, 4)
        x = self.bn5(F.relu(self.squeeze2(x)))
        return F.log_softmax(self.classes(x.flatten(1)), dim=1)


class Gap11k(nn.Module):
    """11,312 parameters (published as 13,808): 16 channels, a bare 1x1 before the pool."""

    def __init__(self, dropout: float = 0.05) -> None:
        super().__init__()
        self.block1 = nn.Sequential(
            _step(1, 16, 3, nn.Dropout(dropout)),
            _step(16, 16, 3, nn.Dropout(dropout)),
        )
        self.squeeze = nn.Conv2d(16, 10, 1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.block2 = nn.Sequential(
            _step(10, 16, 3, nn.Dropout(dropout)),
            _step(16, 16, 3, nn.Dropout(dropout)),
            _step(16, 16, 3, nn.Dropout(dropout)),
            _step(16, 16, 3, nn.Dropout(dropout), padding=1),
        )
        self.gap = nn.AvgPool2d(6, stride=1)
        self.classes = nn.Conv2d(16, 10, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 10)."""
        x = self.pool(self.squeeze(self.block1(x)))  # (batch, 10, 12, 12)
        x = self.gap(self.block2(x))  # (batch, 16, 1, 1)
        x = self.classes(x)
        return x.flatten(1)


REFERENCE: dict[str, Callable[..., nn.Module]] = {
    "gap-6k": Gap6k,
    "squeeze-7k": Squeeze7k,
    "flatten-18k": Flatten18k,
    "linear-19k": Linear19k,
    "gap-11k": Gap11k,
}
"""Constructor of each network, by name."""
