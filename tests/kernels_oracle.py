"""A training step by torch in float64, to compare the kernels with."""

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from smidgen.kernels import NativeNetwork
from smidgen.kernels.lowering import lower

_DECIDES = (nn.ReLU, nn.MaxPool2d)

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler"
)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    scores: Tensor
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def by_torch(network: nn.Module, images: Tensor, dtype: torch.dtype = torch.float64) -> Step:
    twin = copy.deepcopy(network).to(dtype)
    return _step(twin, twin, images.to(dtype))


def by_kernels(
    network: nn.Module,
    images: Tensor,
    *,
    threads: int = 1,
    bfloat16: bool = False,
    flags: tuple[str, ...] = (),
) -> Step:
    twin = copy.deepcopy(network)
    plan = lower(twin, _shape(images))
    native = NativeNetwork(twin, plan, threads=threads, bfloat16=bfloat16, flags=flags)
    return _step(twin, native, images)


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


def tie_free_images(network: nn.Module, count: int, shape: tuple[int, int, int]) -> Tensor:
    """Random images for which no input of a ReLU or max-pool is within 1e-6 of a tie.

    float32 and float64 may decide differently there, and a single such difference changes a
    gradient by up to a hundredth: torch's own float32 differs from its float64 by as much.
    """
    for seed in range(200):
        images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
        if _margin(network, images.double()) > 1e-6:
            return images
    raise AssertionError("each batch has a tie: use fewer or smaller images")


def _margin(network: nn.Module, images: Tensor) -> float:
    margins = [float("inf")]

    def measure(module: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0]
        if isinstance(module, nn.ReLU):
            margins.append(x.abs().min().item())
        elif isinstance(module, nn.MaxPool2d):
            size: int | tuple[int, int] = module.kernel_size
            high, wide = (size, size) if isinstance(size, int) else size
            windows = x.unfold(2, high, high).unfold(3, wide, wide).flatten(4)
            two = windows.topk(min(2, windows.shape[-1])).values
            gaps = two[..., 0] - two[..., -1]
            above = gaps[two[..., 0] > 0]  # after a ReLU, equal zeros have no gradient
            if two.shape[-1] > 1 and above.numel():
                margins.append(above.min().item())

    twin = copy.deepcopy(network).double()
    for module in twin.modules():
        if isinstance(module, _DECIDES):
            module.register_forward_pre_hook(measure)
    twin(images)
    return min(margins)


def assert_same(
    ours: Step, theirs: Step, relative: float = 2e-5, as_good_as: Step | None = None
) -> None:
    """Compare tensor by tensor: each difference is at most `relative` of the tensor's norm.

    A gradient that is 0 in mathematics (that of a bias before a batch norm) is rounding in both, so
    a millionth of the norm of all gradients is allowed as well. So is five times the error of
    `as_good_as`, torch's own float32, in networks that amplify rounding.
    """
    norm = torch.cat([g.flatten() for g in theirs.gradients.values()]).norm().item()
    other = as_good_as or theirs
    assert ours.gradients.keys() == theirs.gradients.keys()
    triples = [("scores", ours.scores, theirs.scores, other.scores, 0.0)]
    for name, gradient in theirs.gradients.items():
        tensors = ours.gradients[name], gradient, other.gradients[name]
        triples.append((name, *tensors, 1e-6 * norm))
    for name, buffer in theirs.buffers.items():
        triples.append((name, ours.buffers[name], buffer, other.buffers[name], 1e-6))
    for name, our, their, float32, absolute in triples:
        apart = (our - their).norm().item()
        limit = relative * their.norm().item() + absolute + 5 * (float32 - their).norm().item()
        assert apart <= limit, f"{name}: {apart:.2e} apart, {limit:.2e} allowed"


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox 4x32-10, as Salmon and others define it (2011)."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b = (right >> 32) ^ b ^ k0, right & 0xFFFFFFFF
        c, d = (left >> 32) ^ d ^ k1, left & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [a, b, c, d]


def passes_dropout(
    probability: float, image: int, element: int, operation: int, seeds: Sequence[int]
) -> bool:
    """Whether dropout keeps a value: 16 bits of a Philox draw, which serves eight elements."""
    words = philox((image, element // 8, operation, 0), seeds)
    word = words[element % 8 // 2]
    bits = word >> 16 if element % 2 else word & 0xFFFF
    return bits >= round(probability * 65536)
