from collections.abc import Callable

import pytest
import torch
from kernels_oracle import needs_compiler
from torch import Tensor, nn

from smidgen.kernels import Unsupported
from smidgen.kernels.lowering import lower
from smidgen.models.chain import build_chain
from smidgen.models.reference import REFERENCE

pytestmark = needs_compiler


def plain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def test_relu_and_dropout_become_part_of_the_operation_before() -> None:
    plan = lower(build_chain("8,o0.2 M G", (1, 9, 9), 10), (1, 9, 9))
    assert [op.kind for op in plan.ops] == [
        *("convolution", "norm", "max_pool"),
        *("average_pool", "convolution"),
    ]
    assert (plan.ops[1].relu, plan.ops[1].dropout) == (True, 0.2)


def test_log_softmax_is_left_to_torch() -> None:
    assert lower(REFERENCE["linear-19k"](), (1, 28, 28)).log_softmax


def hooked() -> nn.Module:
    network = plain(nn.Conv2d(1, 4, 3))
    network[0].register_forward_hook(lambda *_: None)
    return network


def shared() -> nn.Module:
    layer = nn.Conv2d(4, 4, 3)
    return plain(nn.Conv2d(1, 4, 3), layer, layer)


def channels_last() -> nn.Module:
    network = plain(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = plain(nn.Conv2d(1, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x) if x.sum() > 0 else self.net(-x)
        return out


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def evaluating() -> nn.Module:
    network = plain(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    network[1].eval()
    return network


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (hooked, "0 has hooks"),
        (evaluating, "1 is in evaluation mode"),
        (shared, "parameters are shared"),
        (lambda: plain(nn.Conv2d(1, 4, 3)).double(), "weight is torch.float64"),
        (lambda: plain(nn.Conv2d(1, 4, 3)).to("meta"), "weight is on meta"),
        (
            channels_last,
            "1.weight is not contiguous",
        ),
        (lambda: plain(nn.Conv2d(1, 4, 3), nn.GELU()), "a layer GELU"),
        (lambda: plain(nn.Conv2d(1, 4, 3, dilation=2)), r"dilation=\(2, 2\)"),
        (lambda: plain(nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")), "reflect"),
        (lambda: plain(nn.Conv2d(1, 4, 3, stride=(1, 2))), r"stride=\(1, 2\)"),
        (lambda: plain(nn.Conv2d(1, 4, 1, padding=1)), r"padding=\(1, 1\)"),
        (lambda: plain(nn.Conv2d(1, 4, 3), nn.MaxPool2d(3, stride=2)), "MaxPool2d"),
        (lambda: plain(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=None)), "BatchNorm2d"),
        (lambda: plain(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)), "GroupNorm"),
        (lambda: plain(Doubled(1, 4, 3)), "it uses 0.weight outside its layers"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3)), "not .batch, classes"),
        (lambda: nn.Conv2d(1, 4, 3), "it uses weight outside"),
        (Branching, "cannot be traced"),
    ],
)
def test_unsupported_layers_are_named(make: Callable[[], nn.Module], why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        lower(make(), (1, 8, 8))
