import copy
from fractions import Fraction
from math import comb

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from smidgen.training.averaging import EMA


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5))


def change(net: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Change all of `net`'s state, and return a copy of it."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        else:
            tensor.add_(seed)
    return copy.deepcopy(net.state_dict())


def test_during_the_warm_up_the_weights_are_binomial() -> None:
    """After n steps, step i weighs C(i + 9, 8) / C(n + 10, 9), and the start 10 / C(n + 10, 9).

    This is what the products of (1 + t) / (10 + t) telescope to.
    """
    live, n = network(), 30
    average = EMA(live, 0.9999)  # out of reach: 31 / 40 is the largest share within 30 steps
    states = [copy.deepcopy(live.state_dict())]
    for step in range(1, n + 1):
        states.append(change(live, step))
        average.update()
    shares = [Fraction(10 if i == 0 else comb(i + 9, 8), comb(n + 10, 9)) for i in range(n + 1)]
    assert sum(shares) == 1
    for name, tensor in average.network.state_dict().items():
        if tensor.is_floating_point():  # weights and the running mean and variance
            expected = sum(
                float(share) * state[name].double()
                for share, state in zip(shares, states, strict=True)
            )
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-4, atol=1e-5)


def test_equals_the_average_of_torch_where_the_warm_up_is_over_at_once() -> None:
    live, decay = network(), 0.15  # less than 2 / 11, the share of the first step
    average = EMA(live, decay)
    mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    oracle = AveragedModel(live, multi_avg_fn=mean, use_buffers=True)
    oracle.update_parameters(live)  # the first call copies
    for step in range(1, 20):
        change(live, step)
        average.update()
        oracle.update_parameters(live)
    found, expected = average.network.state_dict(), oracle.module.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    assert int(found["1.num_batches_tracked"]) == sum(range(1, 20))  # integers are copied


@pytest.mark.parametrize(("decay", "steps"), [(0.5, 8), (0.9, 80)])
def test_after_the_warm_up_each_step_keeps_a_share_of_decay(decay: float, steps: int) -> None:
    live = network()
    average = EMA(live, decay)
    for _ in range(steps):
        average.update()
    with torch.no_grad():
        live.get_parameter("0.weight").zero_()
    before = average.network.get_parameter("0.weight").clone()
    average.update()
    average.update()
    now = average.network.get_parameter("0.weight")
    torch.testing.assert_close(now, before * decay**2, rtol=1e-5, atol=1e-7)


def test_the_average_is_a_separate_network() -> None:
    live = network()
    before = copy.deepcopy(live.state_dict())
    average = EMA(live, 0.9)
    change(live, 5)
    for name, tensor in average.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    after = copy.deepcopy(live.state_dict())
    average.update()
    for name, tensor in live.state_dict().items():
        assert torch.equal(tensor, after[name])
    assert live.training
    assert not average.network.training
    assert all(p.requires_grad for p in live.parameters())
    assert not any(p.requires_grad for p in average.network.parameters())
