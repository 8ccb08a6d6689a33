from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smidgen.config import Optimizer, Train
from smidgen.errors import ConfigError, DataError
from smidgen.models.chain import build_chain
from smidgen.training import (
    BACKENDS,
    Backend,
    Speed,
    backends,
    choose_backend,
    measure_backends,
    unsupported_reason,
)

SHAPE = (1, 28, 28)
SETTINGS = Train(epochs=10, batch_size=20, optimizer=Optimizer(name="sgd", lr=0.1))
MANY = 60_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what is remembered; the kernels stay where they were compiled."""
    monkeypatch.setattr(backends, "cache_folder", lambda *names: tmp_path.joinpath(*names))
    return tmp_path


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_chain("4,s2 8,s2 G", SHAPE, 10)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], float]:
    """What a measurement finds, and under "" how often one was made."""
    found: dict[tuple[str, int], float] = {("", 0): 0}

    def measured(
        network: nn.Module, shape: Any, settings: Train, names: Sequence[str], threads: Any
    ) -> list[Speed]:
        found["", 0] += 1
        return [
            Speed(
                backend=Backend(name=name, threads=number),
                images_per_second=found.get((name, number), 1.0),
            )
            for name in names
            for number in threads
        ]

    monkeypatch.setattr(backends, "measure_backends", measured)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    return found


def test_the_fastest_form_is_taken(
    network: nn.Module, speeds: dict[tuple[str, int], float]
) -> None:
    speeds["channels-last", 2] = 5.0
    chosen = choose_backend(network, SHAPE, SETTINGS, MANY)
    assert chosen == Backend(name="channels-last", threads=2)


def test_a_choice_is_remembered_for_what_it_depends_on(
    network: nn.Module, speeds: dict[tuple[str, int], float], own_cache: Path
) -> None:
    speeds["eager", 1] = 5.0
    first = choose_backend(network, SHAPE, SETTINGS, MANY)
    speeds["channels-last", 2] = 9.0
    assert choose_backend(network, SHAPE, SETTINGS, MANY) == first
    assert speeds["", 0] == 1
    larger = replace(SETTINGS, batch_size=21)
    assert choose_backend(network, SHAPE, larger, MANY) == Backend(name="channels-last", threads=2)
    for path in own_cache.rglob("*.json"):
        path.write_text("{")
    assert choose_backend(network, SHAPE, SETTINGS, MANY).name == "channels-last"
    assert choose_backend(network, SHAPE, SETTINGS, MANY).name == "channels-last"
    assert speeds["", 0] == 3


def test_a_choice_that_cannot_be_kept_is_made_again(
    network: nn.Module, speeds: dict[tuple[str, int], float], own_cache: Path
) -> None:
    (own_cache / "backends").touch()  # a file where the folder should be
    for count in (1, 2):
        choose_backend(network, SHAPE, SETTINGS, MANY)
        assert speeds["", 0] == count


def test_where_there_is_no_home_a_choice_is_made_all_the_same(
    network: nn.Module, speeds: dict[tuple[str, int], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(*_: str) -> Path:
        raise DataError("there is no home folder")

    monkeypatch.setattr(backends, "cache_folder", homeless)
    speeds["eager", 1] = 5.0
    assert choose_backend(network, SHAPE, SETTINGS, MANY) == Backend(name="eager", threads=1)


def test_a_short_run_is_not_measured(
    network: nn.Module, speeds: dict[tuple[str, int], float]
) -> None:
    speeds["native", 1] = 9.0
    assert choose_backend(network, SHAPE, SETTINGS, 100) == Backend(name="eager", threads=2)
    assert choose_backend(network, SHAPE, SETTINGS, 100, ["channels-last"], [1]) == Backend(
        name="channels-last", threads=1
    )
    assert speeds["", 0] == 0


def test_where_there_is_no_choice_nothing_is_measured(
    network: nn.Module, speeds: dict[tuple[str, int], float]
) -> None:
    found = choose_backend(network, SHAPE, SETTINGS, MANY, ["eager"], [1])
    assert (found, speeds["", 0]) == (Backend(name="eager", threads=1), 0)


class Fading(nn.Module):
    """Nothing that the kernels know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.flatten(1).sigmoid())
        return found


def test_a_form_that_a_network_does_not_have_is_an_error_that_says_why() -> None:
    with pytest.raises(ConfigError, match=r"--backend: native is not used, since .*sigmoid"):
        choose_backend(Fading(), SHAPE, SETTINGS, MANY, ["native"], [1])
    with pytest.raises(ConfigError, match=r"--backend: fast is not used, since it must be one of"):
        choose_backend(Fading(), SHAPE, SETTINGS, MANY, ["fast"], [1])
    assert unsupported_reason("eager", Fading(), SHAPE) is None


@pytest.mark.parametrize("half", [False, True])
def test_all_forms_compute_the_same(network: nn.Module, half: bool) -> None:
    images, weights = torch.randn(20, *SHAPE), torch.randn(20, 10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = []
    for backend in BACKENDS:
        if unsupported_reason(backend, network, SHAPE) is not None:
            continue
        network.load_state_dict(before)
        network.train().zero_grad()
        loss = (backends.forward_with(backend, network, SHAPE, half)(images) * weights).sum()
        torch.autograd.backward(loss)
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        found.append(gradient)
    assert len(found) >= 2
    for gradient in found[1:]:
        close = (gradient - found[0]).norm() / found[0].norm()
        assert close < (0.1 if half else 1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_measurement_leaves_everything_as_it_was(network: nn.Module, training: bool) -> None:
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    found = measure_backends(network, SHAPE, SETTINGS, ["eager", "channels-last"], [1, 2], 0.01)
    assert [(s.backend.name, s.backend.threads) for s in found] == [
        (name, number) for name in ("eager", "channels-last") for number in (1, 2)
    ]
    assert all(speed.images_per_second > 0 for speed in found)
    assert network.training is training
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
