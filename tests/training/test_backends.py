from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from kernels_oracle import needs_compiler
from torch import Tensor, nn

from smidgen.config import Optimizer, Train
from smidgen.errors import ConfigError
from smidgen.kernels import Unsupported, build_native_network
from smidgen.kernels.build import load_library
from smidgen.models.chain import build_chain
from smidgen.training import BACKENDS, backends, build_backend, choose_backend

SHAPE = (1, 28, 28)
SETTINGS = Train(epochs=10, batch_size=20, optimizer=Optimizer(name="sgd", lr=0.1))
MACS = 1_000_000


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_chain("4,s2 8,s2 G", SHAPE, 10)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)


class WithSigmoid(nn.Module):
    """A network that the kernels do not support."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, channels, 28)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x).flatten(1).sigmoid()
        return found


@needs_compiler
def test_native_is_chosen_if_it_supports_the_network(network: nn.Module) -> None:
    backend = choose_backend(network, SHAPE, SETTINGS, MACS)
    assert backend.name == "native"
    assert str(backend) == (
        "backend: native, 1 thread, because its kernels support this network on this machine"
    )


@pytest.mark.parametrize(("channels", "name"), [(7, "eager"), (8, "channels-last")])
def test_channels_last_is_chosen_from_eight_channels_on(channels: int, name: str) -> None:
    backend = choose_backend(WithSigmoid(channels), SHAPE, SETTINGS, MACS)
    assert backend.name == name
    assert f"{channels} channels on average" in backend.reason
    assert "sigmoid" in backend.reason


def test_eager_is_chosen_without_convolutions() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    backend = choose_backend(network, SHAPE, SETTINGS, MACS)
    assert (backend.name, backend.reason) == ("eager", "the network has no convolutions")


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("macs", "batch_size", "threads"),
    [(690_064, 128, 1), (802_740, 128, 2), (5_960_320, 128, 8), (690_064, 512, 4)],
)
def test_threads_follow_from_the_work_in_a_batch(macs: int, batch_size: int, threads: int) -> None:
    settings = replace(SETTINGS, batch_size=batch_size)
    network = WithSigmoid(8)
    assert choose_backend(network, SHAPE, settings, macs).threads == threads
    assert choose_backend(network, SHAPE, settings, macs, threads=3).threads == 3


def test_without_a_compiler_the_reason_says_what_to_install(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load_library.cache_clear()
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    backend = choose_backend(network, SHAPE, SETTINGS, MACS)
    assert backend.name == "eager"
    assert "there is no C++ compiler; install g++ or clang++" in backend.reason
    assert "several times slower" in backend.reason


def test_nothing_is_timed(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow a backend is here, the rule chooses it."""
    first = choose_backend(network, SHAPE, SETTINGS, MACS)
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert choose_backend(network, SHAPE, SETTINGS, MACS) == first


def test_a_requested_backend_that_cannot_be_used_is_an_error_that_says_why() -> None:
    message = r"--backend native cannot train this network here because .*sigmoid"
    with pytest.raises(ConfigError, match=message):
        choose_backend(WithSigmoid(8), SHAPE, SETTINGS, MACS, name="native")
    with pytest.raises(ConfigError, match="--backend is 'fast'; it must be one of auto, eager,"):
        choose_backend(WithSigmoid(8), SHAPE, SETTINGS, MACS, name="fast")
    assert choose_backend(WithSigmoid(8), SHAPE, SETTINGS, MACS, name="eager").name == "eager"


@needs_compiler
def test_the_kernels_are_tested_once(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    correct = build_native_network

    def noted(*arguments: object, **settings: object) -> Callable[[Tensor], Tensor]:
        built.append(settings)
        return correct(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(backends, "build_native_network", noted)
    backend = choose_backend(network, SHAPE, SETTINGS, MACS, threads=2)
    backend.forward(torch.randn(20, *SHAPE))
    assert built == [{"batch_size": 20, "threads": 2, "bfloat16": False}]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_backends_compute_the_same(
    network: nn.Module, precision: Literal["float32", "bfloat16"]
) -> None:
    settings = replace(SETTINGS, precision=precision)
    images, weights = torch.randn(20, *SHAPE), torch.randn(20, 10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = []
    for name in BACKENDS:
        network.load_state_dict(before)
        network.train().zero_grad()
        try:
            backend = build_backend(name, network, SHAPE, settings, threads=1)
        except Unsupported:
            continue
        torch.autograd.backward((backend.forward(images) * weights).sum())
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        found.append(gradient)
    assert len(found) >= 2
    for gradient in found[1:]:
        close = (gradient - found[0]).norm() / found[0].norm()
        assert close < (0.1 if precision == "bfloat16" else 1e-4)
