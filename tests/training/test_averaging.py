import copy

import pytest
import torch
from torch import nn

from smidgen.training.averaging import Ema


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5))


def change(net: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Put other numbers into all of `net`'s state; what it is now."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        else:
            tensor.add_(seed)
    return copy.deepcopy(net.state_dict())


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_equals_a_computation_by_hand(decay: float) -> None:
    live = network()
    average = Ema(live, decay)
    expected = {name: tensor.double() for name, tensor in live.state_dict().items()}
    for step in range(1, 40):
        now = change(live, step)
        average.update()
        keep = min(decay, (1 + step) / (10 + step))
        for name, tensor in now.items():
            expected[name] = keep * expected[name] + (1 - keep) * tensor.double()
    found = average.network.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if tensor.is_floating_point():  # weights and the running mean and variance
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-4, atol=1e-5)
    assert int(found["1.num_batches_tracked"]) == sum(range(1, 40))


def test_a_long_memory_is_short_at_first() -> None:
    live = network()
    average = Ema(live, 0.9999)
    for step in range(1, 31):
        now = change(live, 1)
        average.update()
        assert step == average.steps
    # 30 steps of 0.9999 would leave 99.7 % of the first weights.
    torch.testing.assert_close(
        average.network.get_parameter("0.weight"), now["0.weight"], rtol=1e-3, atol=1e-3
    )


def test_the_average_is_a_network_of_its_own() -> None:
    live = network()
    before = copy.deepcopy(live.state_dict())
    average = Ema(live, 0.9)
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
