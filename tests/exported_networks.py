"""Networks that the exporters' tests share, with batch norms that do something."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from smidgen.models.chain import build_chain

SHAPE = (3, 12, 16)
MEAN, STD = (0.25, 0.5, 0.75), (0.5, 0.25, 0.125)


class Functional(nn.Module):
    """Calls functions instead of modules, and uses one output twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(6 * 3 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities of 12x16 images."""
        x = F.dropout(self.norm(F.relu(self.first(x))), training=self.training)
        x = self.relu(x) + self.second(x)
        x = F.relu6(F.avg_pool2d(F.max_pool2d(x, 2), 2))
        return F.log_softmax(self.last(x.view(-1, 6 * 3 * 4)), dim=1)


class PooledPixels(nn.Sequential):
    """Its first layers have no weights."""

    def __init__(self) -> None:
        super().__init__(
            nn.AvgPool2d(2),
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 5, 3),
            nn.ReLU(),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def trained(network: nn.Module) -> nn.Module:
    """The network with batch norms that do something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: build_chain("6 6,p1,r M 8,p1 8,d,p1 G", SHAPE, 5),
    "flat": lambda: build_chain("4,s2,p1 A 5,k1 F", SHAPE, 5),
    "functional": Functional,
    "pooled": PooledPixels,
}
