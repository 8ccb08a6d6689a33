"""The network of this repository; `smidgen summary experiment.toml` shows what it costs."""

from torch import Tensor, nn


def step(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution without padding, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Net(nn.Module):
    """Six 3x3 convolutions around one pool; smidgen fills in `num_classes` from the data set."""

    def __init__(self, num_classes: int, first: int = 6, then: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            step(1, first),
            step(first, first),
            nn.MaxPool2d(2),
            step(first, then),
            step(then, then),
            step(then, then),
            step(then, then),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classes = nn.Linear(then, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, 1, height, width)."""
        scores: Tensor = self.classes(self.features(x))
        return scores
