from pathlib import Path

import pytest
import torch
from torch import nn

from smidgen.config import Model
from smidgen.errors import ConfigError
from smidgen.models import REFERENCE, build

IMAGE = (1, 28, 28)


@pytest.mark.parametrize("net", REFERENCE)
def test_every_reference_network_returns_ten_scores_with_gradients(net: str) -> None:
    network = build(Model(net=net), IMAGE, 10)
    scores = network(torch.rand(4, *IMAGE))
    assert scores.shape == (4, 10)
    scores.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("net", ["flatten-18k", "linear-19k"])
def test_log_probabilities_sum_to_one(net: str) -> None:
    network = build(Model(net=net), IMAGE, 10)
    assert torch.allclose(network(torch.rand(2, *IMAGE)).exp().sum(1), torch.ones(2))


def test_dropout_can_be_set() -> None:
    network = build(Model(net="squeeze-7k", args={"dropout": 0.25}), IMAGE, 10)
    rates = {m.p for m in network.modules() if isinstance(m, nn.Dropout2d)}
    assert rates == {0.25}


def test_flatten_18k_can_leave_out_its_last_relu() -> None:
    torch.manual_seed(0)
    published = build(Model(net="flatten-18k"), IMAGE, 10).eval()
    without_relu = build(Model(net="flatten-18k", args={"relu_scores": False}), IMAGE, 10).eval()
    without_relu.load_state_dict(published.state_dict())
    x = torch.rand(8, *IMAGE)
    cut = published(x)
    scores = without_relu(x)
    # The ReLU sets negative scores to 0, so they share the lowest log-probability.
    assert (cut == cut.amin(1, keepdim=True)).sum() > 8
    assert (scores == scores.amin(1, keepdim=True)).sum() == 8


def test_an_unknown_net_or_argument_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.net is 'lenet'; available are gap-6k, sq"):
        build(Model(net="lenet"), IMAGE, 10)
    with pytest.raises(ConfigError, match=r"model.args does not fit gap-6k: .*'width'"):
        build(Model(net="gap-6k", args={"width": 3}), IMAGE, 10)


def test_a_module_with_lazy_layers_is_initialized_by_the_input_shape(tmp_path: Path) -> None:
    path = tmp_path / "lazy_net.py"
    path.write_text(
        "from torch import nn\n\ndef Net(num_classes):\n"
        "    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(num_classes))\n"
    )
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        network = build(Model(module=f"{path}:Net"), (3, 9, 7), 5)
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert [tuple(p.shape) for p in network.parameters() if p.ndim > 1] == [(4, 3, 3, 3), (5, 140)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert network.training
