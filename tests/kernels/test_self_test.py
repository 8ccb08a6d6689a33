import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernels_oracle import needs_compiler
from torch import Tensor, nn

from smidgen.kernels import Unsupported, autograd, build_native_network, prepare_batch, self_test
from smidgen.kernels.autograd import NativeNetwork
from smidgen.models.chain import build_chain
from smidgen.models.reference import REFERENCE

pytestmark = needs_compiler

SHAPE = (1, 28, 28)
PRECISIONS = [False, True]


def with_head(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def build(network: nn.Module, bfloat16: bool = False, **settings: Any) -> NativeNetwork:
    try:
        return build_native_network(
            network, SHAPE, **{"batch_size": 32, **settings}, bfloat16=bfloat16
        )
    except Unsupported as error:
        if "no bfloat16" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("bfloat16", PRECISIONS)
@pytest.mark.parametrize("batch_size", [2, 17, 300])
@pytest.mark.parametrize("name", REFERENCE)
def test_reference_networks_pass(name: str, batch_size: int, bfloat16: bool) -> None:
    build(REFERENCE[name](), bfloat16, batch_size=batch_size, threads=2)


def test_network_and_generators_stay_as_they_are() -> None:
    network = REFERENCE["gap-6k"]()
    before = [t.clone() for t in network.state_dict().values()]
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    build(network)
    assert all(map(torch.equal, before, network.state_dict().values()))
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()


class Sometimes(nn.Module):
    """Leaves out its ReLU after the first call, which a trace cannot know."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.net = with_head(nn.Conv2d(1, 4, 3))
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
        self.net = with_head()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = self.net(self.act(x) + x)
        return out


@pytest.mark.parametrize("make", [Sometimes, InPlace])
def test_a_network_that_its_trace_misrepresents_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(Unsupported, match="differently from torch"):
        build(make())


def wrong_gradient(native: NativeNetwork, gradients: list[Tensor]) -> None:
    gradients[-1] *= 1.5


def swapped_gradients(native: NativeNetwork, gradients: list[Tensor]) -> None:
    gradients[1].copy_(gradients[1].flip(0))


def nan_gradient(native: NativeNetwork, gradients: list[Tensor]) -> None:
    gradients[0].view(-1)[0] = float("nan")


@pytest.mark.parametrize("bfloat16", PRECISIONS)
@pytest.mark.parametrize("damage", [wrong_gradient, swapped_gradients, nan_gradient])
def test_a_wrong_gradient_of_a_single_tensor_is_found(
    damage: Callable[[NativeNetwork, list[Tensor]], None],
    bfloat16: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    correct = NativeNetwork.backward

    def damaged(native: NativeNetwork, gradient: Tensor, number: int) -> list[Tensor]:
        gradients = correct(native, gradient, number)
        damage(native, gradients)
        return gradients

    monkeypatch.setattr(NativeNetwork, "backward", damaged)
    with pytest.raises(Unsupported, match=r"compute the gradient of .* differently from torch"):
        build(build_chain("6 8,o0.2 M 8 G", SHAPE, 10), bfloat16)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_and_the_last_block_are_tested(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    correct = NativeNetwork.forward

    def noted(native: NativeNetwork, images: Tensor) -> tuple[Tensor, int]:
        seen.append((native._threads, len(images)))
        return correct(native, images)

    monkeypatch.setattr(NativeNetwork, "forward", noted)
    network = build_chain("6 8 G", SHAPE, 10)
    for batch_size in (37, 1000):
        build(network, batch_size=batch_size, threads=threads)
    assert seen == [(threads, 37), (threads, 64 + 1000 % 16)]


@pytest.mark.parametrize(("wrong", "accepted"), [({0}, True), ({0, 1}, False), ({0, 2}, False)])
def test_one_batch_may_differ_if_two_larger_ones_agree(
    wrong: set[int], accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    correct = NativeNetwork.backward

    def sometimes_wrong(native: NativeNetwork, gradient: Tensor, number: int) -> list[Tensor]:
        gradients = correct(native, gradient, number)
        if len(sizes) in wrong:
            gradients[0] *= 1.5
        sizes.append(len(gradient))
        return gradients

    monkeypatch.setattr(NativeNetwork, "backward", sometimes_wrong)
    network = build_chain("6 8 G", SHAPE, 10)
    if accepted:
        build(network, batch_size=1000)
    else:
        with pytest.raises(Unsupported, match="differently from torch"):
            build(network, batch_size=1000)
    assert sizes == [72, 264, 264][: max(wrong) + 1 + 2 * accepted]


def test_dropout_that_scales_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    correct = autograd._describe

    def describe(to: Any, op: Any, bfloat16: bool) -> None:
        correct(to, op, bfloat16)
        to.dropout = 0.9 * op.dropout

    monkeypatch.setattr(autograd, "_describe", describe)
    build(build_chain("6 8 G", SHAPE, 10))
    with pytest.raises(Unsupported, match="differently from torch"):
        build(build_chain("6,o0.3 8 G", SHAPE, 10))


def test_wrong_batch_preparation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:

    def prepare(*tensors: Any, edge: bool, **settings: Any) -> Tensor:
        return prepare_batch(*tensors, edge=False, **settings)

    monkeypatch.setattr(self_test, "prepare_batch", prepare)
    with pytest.raises(Unsupported, match="prepare batches differently from torch"):
        build(build_chain("6 8 G", SHAPE, 10))
