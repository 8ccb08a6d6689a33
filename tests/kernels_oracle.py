"""A training step by torch in float64, to hold the kernels' against."""

import copy
import shutil
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from smidgen.kernels import compile_network

_DECIDES = (nn.ReLU, nn.MaxPool2d)

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler"
)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    scores: Tensor
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def by_torch(network: nn.Module, images: Tensor) -> Step:
    twin = copy.deepcopy(network).double()
    return _step(twin, twin, images.double())


def by_kernels(
    network: nn.Module,
    images: Tensor,
    *,
    threads: int = 1,
    half: bool = False,
    flags: tuple[str, ...] = (),
) -> Step:
    twin = copy.deepcopy(network)
    lanes = compile_network(twin, _shape(images), threads=threads, half=half, flags=flags)
    return _step(twin, lanes, images)


def _step(network: nn.Module, forward: object, images: Tensor) -> Step:
    assert callable(forward)
    scores: Tensor = forward(images)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(scores.shape, generator=generator, dtype=torch.float64)
    torch.autograd.backward((scores * weights).sum())
    return Step(
        scores.detach().double(),
        {n: p.grad.double() for n, p in network.named_parameters() if p.grad is not None},
        {n: b.double() for n, b in network.named_buffers()},
    )


def _shape(images: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = images.shape
    return channels, height, width


def calm_images(network: nn.Module, count: int, shape: tuple[int, int, int]) -> Tensor:
    """Random images with which no ReLU and no max-pool decides within 1e-6.

    float32 and float64 may decide differently there, and a single such flip changes a gradient by
    up to a hundredth of its size: torch's own float32 differs from its float64 by as much.
    """
    for seed in range(200):
        images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
        if _margin(network, images.double()) > 1e-6:
            return images
    raise AssertionError("no calm images: take fewer, or smaller ones")


def _margin(network: nn.Module, images: Tensor) -> float:
    margins = [float("inf")]

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0]
        if isinstance(module, nn.ReLU):
            margins.append(x.abs().min().item())
        elif isinstance(module, nn.MaxPool2d):
            size: int | tuple[int, int] = module.kernel_size
            high, wide = (size, size) if isinstance(size, int) else size
            windows = x.unfold(2, high, high).unfold(3, wide, wide).flatten(4)
            two = windows.topk(min(2, windows.shape[-1])).values
            gaps = two[..., 0] - two[..., -1]
            above = gaps[two[..., 0] > 0]  # what a ReLU has cut off has no gradient to lose
            if two.shape[-1] > 1 and above.numel():
                margins.append(above.min().item())

    twin = copy.deepcopy(network).double()
    for module in twin.modules():
        if isinstance(module, _DECIDES):
            module.register_forward_pre_hook(look)
    twin(images)
    return min(margins)


def assert_same(ours: Step, theirs: Step, relative: float = 2e-5) -> None:
    """Tensor by tensor, each within `relative` of its norm.

    A gradient that is 0 in mathematics (that of a bias before a batch norm) is rounding in both, so
    a millionth of the norm of all gradients is allowed as well.
    """
    whole = torch.cat([g.flatten() for g in theirs.gradients.values()]).norm().item()
    _close("scores", ours.scores, theirs.scores, relative, 0.0)
    assert ours.gradients.keys() == theirs.gradients.keys()
    for name, gradient in theirs.gradients.items():
        _close(name, ours.gradients[name], gradient, relative, 1e-6 * whole)
    for name, buffer in theirs.buffers.items():
        _close(name, ours.buffers[name], buffer, relative, 1e-6)


def _close(name: str, ours: Tensor, theirs: Tensor, relative: float, absolute: float) -> None:
    apart = (ours - theirs).norm().item()
    limit = relative * theirs.norm().item() + absolute
    assert apart <= limit, f"{name}: {apart:.2e} apart, {limit:.2e} allowed"
