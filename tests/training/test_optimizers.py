import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from smidgen.config import Optimizer
from smidgen.errors import ModelError
from smidgen.models import REFERENCE
from smidgen.models.chain import build_chain
from smidgen.training.optimizers import build_optimizer

SGD = Optimizer(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.5)
EACH = [
    SGD,
    Optimizer(name="adam", lr=0.1, weight_decay=0.5),
    Optimizer(name="adamw", lr=0.1, weight_decay=0.5),
]


def networks() -> dict[str, nn.Module]:
    chain = build_chain("4,p1 4,p1,r 8,d M 8 F", (1, 28, 28), 10)
    return {"chain": chain, **{name: make() for name, make in REFERENCE.items()}}


@pytest.mark.parametrize("name", ["chain", *REFERENCE])
def test_every_parameter_is_optimized_once_and_only_weights_decay(name: str) -> None:
    network = networks()[name]
    optimizer = build_optimizer(network, SGD)
    listed = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(network.parameters())
    decays = {
        p for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]
    }
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert decays == {m.weight for m in layers}
    assert not decays & {p for m in norms for p in m.parameters()}


@pytest.mark.parametrize("settings", EACH)
def test_a_step_without_gradient_shrinks_only_weights(settings: Optimizer) -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0).grad = torch.zeros_like(parameter)
    build_optimizer(network, settings).step()
    for name, parameter in network.named_parameters():
        shrunk = parameter.ndim > 1
        assert bool((parameter < 1).all()) is shrunk, name
        assert bool((parameter == 1).all()) is not shrunk, name


@pytest.mark.parametrize("settings", EACH)
def test_without_decay_nothing_shrinks(settings: Optimizer) -> None:
    network = nn.Linear(2, 2)
    before = [p.detach().clone() for p in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(network, replace(settings, weight_decay=0.0)).step()
    assert all(torch.equal(p, b) for p, b in zip(network.parameters(), before, strict=True))


def test_frozen_parameters_are_left_out() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    network[0].requires_grad_(False)
    (group,) = build_optimizer(network, SGD).param_groups  # no empty group for the vectors
    assert group["params"] == [network[1].weight]


ORACLES = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "plain sgd": (torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_steps_and_state_are_those_of_torchs_optimizer(name: str) -> None:
    kind, extra = ORACLES[name]
    settings = Optimizer(name=name.split()[-1], lr=0.01, weight_decay=0.01, **extra)  # type: ignore[arg-type]
    torch.manual_seed(0)
    one = build_chain("4 8 M F", (1, 12, 12), 10)
    other = copy.deepcopy(one)
    ours = build_optimizer(one, settings)
    groups = [
        {"params": [p for p in other.parameters() if p.ndim >= 2], "weight_decay": 0.01},
        {"params": [p for p in other.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    theirs: Any = kind(groups, lr=0.01, fused=True, **extra)
    for number in range(5):
        images = torch.randn(6, 1, 12, 12)
        for network, optimizer in ((one, ours), (other, theirs)):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 / (number + 1)
            optimizer.zero_grad()
            network(images).square().mean().backward()
            optimizer.step()
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)
        assert ours.state[mine].keys() == theirs.state[its].keys()
        for key, value in ours.state[mine].items():
            assert torch.equal(value, theirs.state[its][key])


def test_nesterov_makes_its_known_steps() -> None:
    # v = m v + g; w -= lr (g + m v), with g = 1 throughout.
    weight = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        weight.weight.fill_(0.0)
    optimizer = build_optimizer(weight, replace(SGD, weight_decay=0.0))
    places = []
    for _ in range(2):
        weight.weight.grad = torch.ones(1, 1)
        optimizer.step()
        places.append(weight.weight.item())
    assert places == pytest.approx([-0.19, -0.19 - 0.1 * (1 + 0.9 * 1.9)])


def test_a_network_that_cannot_learn_is_refused() -> None:
    with pytest.raises(ModelError, match="no trainable parameters"):
        build_optimizer(nn.Sequential(nn.Flatten()), Optimizer(name="sgd", lr=0.1))
