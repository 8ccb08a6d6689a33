import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from smidgen.config import Optimizer
from smidgen.models.chain import build_chain
from smidgen.training.muon import orthogonalized
from smidgen.training.optimizers import Muon, build_optimizer


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 99))
def test_singular_vectors_stay_and_singular_values_become_about_one(
    rows: int, columns: int, seed: int
) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    found = u.mT @ orthogonalized(matrix[None])[0] @ vh.mT  # diagonal in the same vectors
    values = found.diagonal()[s > 0.05 * s.max()]
    torch.testing.assert_close(found, found.diagonal().diag(), rtol=0, atol=2e-3)
    assert values.min() > 0.4
    assert values.max() < 1.3


def test_other_parameters_take_the_steps_of_sgd() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(5, 3), nn.Linear(5, 3)
    other.load_state_dict(one.state_dict())
    ours = Muon([{"params": list(one.parameters()), "weight_decay": 0.01}], lr=0.1, momentum=0.9)
    oracle = torch.optim.SGD(
        other.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
    )
    for _ in range(5):
        x = torch.randn(7, 5)
        for net, optimizer in ((one, ours), (other, oracle)):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(one.state_dict(), other.state_dict())


def test_a_first_step_has_the_size_that_its_shape_says() -> None:
    torch.manual_seed(0)
    for out, into in ((8, 4), (64, 1)):
        filters = nn.Parameter(torch.randn(out, into, 3, 3))
        before = filters.detach().clone()
        optimizer = Muon([{"params": [filters], "orthogonal": True}], lr=0.1, momentum=0.9)
        filters.grad = torch.randn_like(filters)
        optimizer.step()
        moved = (filters.detach() - before).view(out, -1)
        scale = max(1.0, out / (9 * into)) ** 0.5
        values = torch.linalg.svdvals(moved) / (0.1 * scale)
        assert values.min() > 0.4
        assert values.max() < 1.3


def test_convolutions_get_muon_and_the_rest_its_own_rate() -> None:
    network = build_chain("4 8 G", (1, 28, 28), 10)
    asked = Optimizer(
        name="muon", lr=0.05, other_lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    optimizer = build_optimizer(network, asked)
    convolutions, head, rest = optimizer.param_groups
    assert [p.ndim for p in convolutions["params"]] == [4, 4]
    assert [p.ndim for p in head["params"]] == [2]
    assert {p.ndim for p in rest["params"]} == {1}
    assert [g.get("orthogonal", False) for g in optimizer.param_groups] == [True, False, False]
    assert [g.get("weight_decay") for g in optimizer.param_groups] == [1e-4, 1e-4, None]
    shares = [g.get("share", 1.0) for g in optimizer.param_groups]
    assert shares == pytest.approx([1.0, 0.4, 0.4])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"momentum": 0.9, "nesterov": True}, "other_lr is None; muon needs it"),
        ({"other_lr": 0.1}, "muon needs a momentum above 0, and nesterov"),
        (
            {"other_lr": 0.0, "momentum": 0.9, "nesterov": True},
            "other_lr is 0.0; it must be above 0",
        ),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optimizer(name="muon", lr=0.05, **fields)  # type: ignore[arg-type]
