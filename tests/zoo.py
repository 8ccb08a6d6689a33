"""Networks of many kinds, as user modules: `module = "zoo.py:NAME"`."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def block(inputs: int, outputs: int, **settings: Any) -> nn.Sequential:
    """A convolution with its norm and activation."""
    conv = nn.Conv2d(inputs, outputs, 3, bias=False, **settings)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def head(features: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, num_classes))


class Residual(nn.Module):
    """Residual blocks that keep the size, and one that halves it."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = block(in_channels, 8, stride=2)
        self.same = block(8, 8, padding=1)
        self.halves = block(8, 12, stride=2, padding=1)
        self.shortcut = nn.Conv2d(8, 12, 1, stride=2)
        self.head = head(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.same(x)
        x = F.relu(self.halves(x) + self.shortcut(x))
        scores: Tensor = self.head(x)
        return scores


class Inception(nn.Module):
    """Branches with different windows, concatenated."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = block(in_channels, 6, stride=2)
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(6, 4, 1),
                nn.Conv2d(6, 4, 3, padding=1),
                nn.Conv2d(6, 4, (1, 5), padding=(0, 2)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(6, 4, 1)),
            ]
        )
        self.head = head(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scores: Tensor = self.head(F.relu(torch.cat([branch(x) for branch in self.branches], 1)))
        return scores


class Dense(nn.Module):
    """Each layer takes the outputs of all layers before it."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = block(in_channels, 4, stride=3)
        self.layers = nn.ModuleList([block(4 + 3 * n, 3, padding=1) for n in range(4)])
        self.head = head(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        scores: Tensor = self.head(x)
        return scores


def depthwise(num_classes: int, in_channels: int) -> nn.Module:
    """Depthwise and pointwise convolutions; log-probabilities."""
    layers: list[nn.Module] = [block(in_channels, 8, stride=2)]
    for inputs, outputs in ((8, 12), (12, 16)):
        layers += [block(inputs, inputs, groups=inputs, padding=1), nn.Conv2d(inputs, outputs, 1)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU6()]
    return nn.Sequential(*layers, head(16, num_classes), nn.LogSoftmax(1))


def dilated(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(
        block(in_channels, 8, stride=2),
        block(8, 8, dilation=2),
        block(8, 8, dilation=3, padding=3),
        head(8, num_classes),
    )


def group_norm(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, stride=2),
        nn.GroupNorm(2, 8),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.InstanceNorm2d(8, affine=True),
        nn.GELU(),
        head(8, num_classes),
    )


class ConvNext(nn.Module):
    """Layer norm over the last dimension, large depthwise windows, a parameter as scale."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, 8, 4, stride=4)
        self.wide = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.full((8,), 0.1))
        self.scores = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        y = self.norm(self.wide(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y)))
        x = x + y.permute(0, 3, 1, 2)
        scores: Tensor = self.scores(x.mean((2, 3)))
        return scores


class SqueezeExcite(nn.Module):
    """Scales each channel by a weight computed from the whole map."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = block(in_channels, 8, stride=2)
        self.down, self.up = nn.Linear(8, 2), nn.Linear(2, 8)
        self.deep = block(8, 12)
        self.head = head(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        scores: Tensor = self.head(self.deep(x * gate[:, :, None, None]))
        return scores


class Attention(nn.Module):
    """Patches, a class token and position embeddings as parameters, nn.MultiheadAttention."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, 16, 7, stride=7)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.places = nn.Parameter(0.02 * torch.randn(1, 17, 16))
        self.norm = nn.LayerNorm(16)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.scores = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.places
        normed = self.norm(tokens)
        tokens = tokens + self.attend(normed, normed, normed)[0]
        scores: Tensor = self.scores(tokens[:, 0])
        return scores


class FusedAttention(nn.Module):
    """scaled_dot_product_attention with a projection of its input."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, 12, 4, stride=4)
        self.project = nn.Linear(12, 36, bias=False)
        self.scores = nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        parts = self.project(tokens).unflatten(2, (3, 2, 6)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts.unbind(0)).transpose(1, 2).flatten(2)
        scores: Tensor = self.scores((tokens + mixed).mean(1))
        return F.log_softmax(scores, 1)


class Functional(nn.Module):
    """No submodules: parameters, and functions of them."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first = nn.Parameter(0.3 * torch.randn(6, in_channels, 3, 3))
        self.second = nn.Parameter(0.1 * torch.randn(8, 6, 3, 3))
        self.last = nn.Parameter(0.1 * torch.randn(num_classes, 8))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.first, stride=2))
        x = F.max_pool2d(F.relu(F.conv2d(x, self.second)), 2)
        return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), self.last, self.bias)


class Shared(nn.Module):
    """A block called three times under two names, and a module used only for its weight."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.weight_only = nn.Conv2d(in_channels, 8, 3, bias=False)
        self.stem = block(in_channels, 8, stride=2)
        self.again = block(8, 8, padding=1)
        self.same = self.again
        self.head = head(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        edges = F.conv2d(x, self.weight_only.weight, stride=2)
        scores: Tensor = self.head(self.same(self.again(self.again(self.stem(x) + edges))))
        return scores


class Upsampled(nn.Module):
    """Strided and transposed convolutions and bilinear upsampling, which have no rule."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.down = block(in_channels, 6, stride=2, padding=1)
        self.deep = block(6, 6, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(6, 6, 2, stride=2)
        self.smooth = nn.Upsample(scale_factor=0.5, mode="bilinear")
        self.head = head(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        scores: Tensor = self.head(self.smooth(F.relu(x + self.up(self.deep(x)))))
        return scores


ZOO: dict[str, Callable[[int, int], nn.Module]] = {
    maker.__name__: maker
    for maker in (
        *(Residual, Inception, Dense, depthwise, dilated, group_norm, ConvNext, SqueezeExcite),
        *(Attention, FusedAttention, Functional, Shared, Upsampled),
    )
}
LOG_PROBABILITIES = ("depthwise", "FusedAttention")
