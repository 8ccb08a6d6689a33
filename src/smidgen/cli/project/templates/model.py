"""The network of this project; `smidgen summary experiment.toml` shows what it costs."""

from torch import Tensor, nn


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution without padding, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class Net(nn.Module):
    """Six 3x3 convolutions and one pooling layer; smidgen passes the data set's `num_classes`."""

    def __init__(self, num_classes: int, narrow: int = 6, wide: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, narrow),
            conv_block(narrow, narrow),
            nn.MaxPool2d(2),
            conv_block(narrow, wide),
            conv_block(wide, wide),
            conv_block(wide, wide),
            conv_block(wide, wide),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(wide, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, 1, height, width)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
