import random
from collections.abc import Callable

import pytest
import torch
from kernels_oracle import needs_compiler
from torch import Tensor, nn

from smidgen.kernels import Unsupported, compile_network
from smidgen.kernels.lowering import make_plan
from smidgen.models.chain import build_chain
from smidgen.models.reference import REFERENCE

pytestmark = needs_compiler


def plain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def test_relu_and_dropout_join_the_operation_before_them() -> None:
    plan = make_plan(build_chain("8,o0.2 M G", (1, 9, 9), 10), (1, 9, 9))
    assert [op.kind for op in plan.ops] == [
        *("convolution", "norm", "max_pool"),
        *("average_pool", "convolution"),
    ]
    assert (plan.ops[1].relu, plan.ops[1].dropout) == (True, 0.2)


def test_log_probabilities_are_left_to_torch() -> None:
    assert make_plan(REFERENCE["linear-19k"](), (1, 28, 28)).log_softmax


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


class Sometimes(nn.Module):
    """Leaves out its ReLU after the first call, which a trace cannot know."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.net = plain(nn.Conv2d(1, 4, 3))
        self.body = nn.Conv2d(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        Sometimes.calls += 1
        x = self.body(x)
        out: Tensor = self.net(x.relu() if self.calls == 1 else x)
        return out


class InPlace(nn.Module):
    """Its addition sees what the ReLU has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.net = plain()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = self.net(self.act(x) + x)
        return out


class Sided(nn.Conv2d):
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
        (lambda: plain(Sided(1, 4, 3)), "it uses 0.weight outside its layers"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3)), "not .batch, classes"),
        (lambda: nn.Conv2d(1, 4, 3), "it uses weight outside"),
        (Branching, "cannot be traced"),
        (Sometimes, "not what it computes"),
        (InPlace, "not what it computes"),
    ],
)
def test_what_the_kernels_cannot_do_is_named(make: Callable[[], nn.Module], why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        compile_network(make(), (1, 8, 8))


def test_nothing_is_drawn_and_nothing_changes_in_making_them() -> None:
    network = REFERENCE["gap-6k"]()
    before = [t.clone() for t in network.state_dict().values()]
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    compile_network(network, (1, 28, 28))
    assert all(map(torch.equal, before, network.state_dict().values()))
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()
