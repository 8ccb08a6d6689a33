"""Small networks with the structures that a profile must handle; images are (2, 24, 20)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

SHAPE = (2, 24, 20)


class Function(nn.Module):
    """A function of the module itself (with the given submodules) and the input."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


class Scaled(nn.Module):
    """A parameter next to a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.conv = nn.Conv2d(2, 4, 3)

    def forward(self, x: Tensor) -> Any:
        return F.max_pool2d(self.conv(x) * self.scale, 2)


def residual() -> nn.Module:
    return Function(
        lambda m, x: F.relu(m.b(F.relu(m.a(x))) + x),
        a=nn.Conv2d(2, 2, 3, padding=1),
        b=nn.Conv2d(2, 2, 5, padding=2),
    )


def cropped_residual() -> nn.Module:
    return Function(lambda m, x: m.a(x) + x[:, :, 1:-1, 1:-1], a=nn.Conv2d(2, 2, 3))


def shifted() -> nn.Module:
    return Function(lambda m, x: x[:, :, :-4] + x[:, :, 4:])


def concat() -> nn.Module:
    return Function(
        lambda m, x: m.c(torch.cat([m.a(x), m.b(x), x], 1)),
        a=nn.Conv2d(2, 3, (3, 1), padding=(1, 0)),
        b=nn.Conv2d(2, 3, 5, padding=2),
        c=nn.Conv2d(8, 2, 3, stride=2),
    )


def squeeze_excite() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        gate = torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3))))))
        out: Tensor = m.after(x * gate[:, :, None, None])
        return out

    return Function(
        forward,
        conv=nn.Conv2d(2, 8, 3),
        down=nn.Linear(8, 2),
        up=nn.Linear(2, 8),
        after=nn.Conv2d(8, 2, 3),
    )


def attention() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + m.attend(tokens, tokens, tokens, need_weights=False)[0]
        out: Tensor = tokens.transpose(1, 2).reshape(x.shape)
        return out

    return Function(
        forward,
        conv=nn.Conv2d(2, 8, 4, stride=4),
        attend=nn.MultiheadAttention(8, 2, batch_first=True),
    )


def plain_attention() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        tokens = x.flatten(2)
        weights = torch.softmax(tokens.transpose(1, 2) @ tokens, dim=-1)
        return (tokens @ weights.transpose(1, 2)).reshape(x.shape)

    return Function(forward, conv=nn.Conv2d(2, 4, 4, stride=4))


def strips() -> nn.Module:
    """A window along columns, then a mean over rows."""
    return Function(lambda m, x: m.a(x).mean(3, keepdim=True), a=nn.Conv2d(2, 2, (3, 1)))


NETS: dict[str, Callable[[], nn.Module]] = {
    "stack": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1, bias=False)
    ),
    "residual": residual,
    "cropped residual": cropped_residual,
    "shifted": shifted,
    "concat": concat,
    "dilated": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, dilation=2), nn.Conv2d(4, 2, 2)),
    "uneven": lambda: nn.Sequential(nn.Conv2d(2, 4, (5, 1), stride=(2, 1)), nn.AvgPool2d((1, 3))),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(2, 2, 3, groups=2, padding=1),
        nn.BatchNorm2d(2),
        nn.ReLU(True),
        nn.Conv2d(2, 6, 1),
    ),
    "mirrored": lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
    "squeeze and excite": squeeze_excite,
    "attention": attention,
    "plain attention": plain_attention,
    "group norm": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 3)),
    "layer norm of channels": lambda: Function(
        lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(2)
    ),
    "instance norm": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4)),
    "adaptive": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.AdaptiveAvgPool2d(4)),
    "strips": strips,
    "global pool": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 10, 1)
    ),
    "linear": lambda: nn.Sequential(
        nn.MaxPool2d(2), nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(320, 10)
    ),
    "bare parameters": Scaled,
}
