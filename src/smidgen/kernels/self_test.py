"""Builds the native kernels for a network, and compares them with torch before they are used.

A trace follows a network's forward once. What it cannot know (chance, state outside of buffers,
changes in place) shows in the comparison, and so would a compiler's mistake.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from smidgen.kernels.autograd import NativeNetwork, uses_bfloat16
from smidgen.kernels.images import prepare_batch
from smidgen.kernels.lowering import Plan, Unsupported, lower

_IMAGES = 64
_IMAGES_AGAIN = 256


@dataclass(frozen=True, slots=True)
class _Tolerance:
    """Differences that count as rounding, as shares of a tensor's norm.

    Gradients get more than scores: a value that rounds to the other side of a ReLU's 0, or to
    another bfloat16, changes them.
    """

    scores: float
    gradients: float
    buffers: float
    noise: float
    """As a share of the largest gradient: one that is 0 in mathematics, such as that of a bias
    before a batch norm, is all rounding."""


_FLOAT32 = _Tolerance(scores=1e-4, gradients=2e-2, buffers=1e-4, noise=1e-5)
_BFLOAT16 = _Tolerance(scores=2e-2, gradients=2e-1, buffers=1e-2, noise=1e-3)


def build_native_network(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    batch_size: int,
    threads: int = 1,
    bfloat16: bool = False,
    flags: tuple[str, ...] = (),
) -> NativeNetwork:
    """Return a replacement for `network` in training, after comparing both on a small batch.

    The comparison uses copies, the given number of threads and precision, and the kernels' own
    dropout masks. One batch in about sixty differs although nothing is wrong: a value rounds to the
    other side of a ReLU's 0. So after a difference, two larger batches must both agree. Batch
    preparation is compared, too. With `bfloat16`, most convolutions multiply in bfloat16 and sum in
    float32. `flags` are for the compiler. Network and random generators stay as they are.

    Raises:
        Unsupported: the kernels cannot train this network or cannot be built here; says why.
    """
    plan = lower(network, image_shape)
    native = NativeNetwork(network, plan, threads=threads, bfloat16=bfloat16, flags=flags)

    def compare(most: int, seed: int) -> None:
        # Several blocks for each thread, the last one filled as in training (vectors hold 4, 8 or
        # 16 images).
        most = max(most, 32 * threads)
        num_images = batch_size if batch_size <= most else most + batch_size % 16
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(num_images, *image_shape, generator=generator)
        _compare_steps(network, plan, images, threads=threads, bfloat16=bfloat16, flags=flags)

    try:
        compare(_IMAGES, seed=0)
    except Unsupported:
        compare(_IMAGES_AGAIN, seed=1)
        compare(_IMAGES_AGAIN, seed=2)
    _compare_batches(image_shape, threads=threads, flags=flags)
    return native


@dataclass(frozen=True, slots=True)
class _Step:
    scores: Tensor
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def _compare_steps(
    network: nn.Module,
    plan: Plan,
    images: Tensor,
    *,
    threads: int,
    bfloat16: bool,
    flags: tuple[str, ...],
) -> None:
    """Compare scores, each gradient and each buffer of one step.

    Raises:
        Unsupported: one of them differs by more than rounding.
    """
    twin, its_plan = copy.deepcopy((network, plan))
    native = NativeNetwork(twin, its_plan, threads=threads, bfloat16=bfloat16, flags=flags)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        ours = _step(twin, native, images)
        twin, its_plan = copy.deepcopy((network, plan))
        masks = native.dropout_masks()
        _use_masks(twin, masks)
        if bfloat16:
            _round_to_bfloat16(its_plan)
        theirs = _step(twin, twin, images)
    allowed = _BFLOAT16 if bfloat16 else _FLOAT32
    noise = allowed.noise * max(gradient.norm().item() for gradient in theirs.gradients.values())
    _compare("the scores", ours.scores, theirs.scores, allowed.scores, 0.0)
    for name, gradient in theirs.gradients.items():
        ours_too = ours.gradients[name]
        _compare(f"the gradient of {name}", ours_too, gradient, allowed.gradients, noise)
    for name, buffer in theirs.buffers.items():
        _compare(name, ours.buffers[name], buffer, allowed.buffers, 1e-6)


def _step(network: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor) -> _Step:
    scores = forward(images)
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
    named = dict(network.named_parameters())
    gradients = torch.autograd.grad((scores * weights).sum(), list(named.values()))
    return _Step(
        scores=scores.detach(),
        gradients=dict(zip(named, gradients, strict=True)),
        buffers={name: buffer.float() for name, buffer in network.named_buffers()},
    )


def _compare(name: str, ours: Tensor, theirs: Tensor, relative: float, absolute: float) -> None:
    """Compare norms; written so that NaN is a difference."""
    if not (ours - theirs).norm() <= relative * theirs.norm() + absolute:
        raise Unsupported(f"the kernels compute {name} differently from torch")


def _use_masks(network: nn.Module, masks: Iterator[Tensor]) -> None:
    """Let the network's dropout layers, in the order in which they run, apply `masks`."""

    def masked(layer: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: x * next(masks).view_as(x) / (1 - layer.p)

    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d) and module.p > 0:
            module.forward = masked(module)  # type: ignore[method-assign, assignment]


def _round_to_bfloat16(plan: Plan) -> None:
    """Let the plan's convolutions round what they multiply, as the kernels do."""

    def rounded(layer: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: _RoundedConvolution.apply(  # type: ignore[no-untyped-call]
            x, layer.weight, layer.bias, layer.padding
        )

    for op in plan.ops:
        if uses_bfloat16(op):
            assert op.module is not None
            op.module.forward = rounded(op.module)


class _RoundedConvolution(torch.autograd.Function):
    """A convolution that multiplies in bfloat16 and sums in float32, in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: Any) -> Tensor:
        x, weight = x.bfloat16().float(), weight.bfloat16().float()
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.has_bias = padding, bias is not None
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient.bfloat16().float(),
            x,
            weight,
            bias_sizes=None,
            stride=(1, 1),
            padding=ctx.padding,
            dilation=(1, 1),
            transposed=False,
            output_padding=(0, 0),
            groups=1,
            output_mask=(True, True, False),
        )
        return of_x, of_weight, gradient.sum((0, 2, 3)) if ctx.has_bias else None, None


def _compare_batches(
    image_shape: tuple[int, int, int], *, threads: int, flags: tuple[str, ...]
) -> None:
    """Compare the preparation of a small batch with torch's, with both kinds of background.

    Raises:
        Unsupported: they differ by more than rounding.
    """
    generator, count = torch.Generator().manual_seed(0), 2 * threads + 1
    images = torch.randint(0, 256, (4, *image_shape), dtype=torch.uint8, generator=generator)
    chosen = torch.randint(0, len(images), (count,), generator=generator)
    maps = torch.eye(2, 3) + 0.2 * torch.randn(count, 2, 3, generator=generator)
    mean, std = (0.3,) * image_shape[0], (0.2,) * image_shape[0]
    grid = F.affine_grid(maps.double(), [count, *image_shape], align_corners=False)
    for edge in (False, True):
        ours = prepare_batch(
            images, chosen, maps, mean=mean, std=std, edge=edge, threads=threads, flags=flags
        )
        padding = "border" if edge else "zeros"
        sampled = F.grid_sample(
            images[chosen].double(), grid, padding_mode=padding, align_corners=False
        )
        theirs = (sampled / 255 - mean[0]) / std[0]
        if not (ours - theirs).abs().max() <= 1e-3 * max(1, max(image_shape) / 28):
            raise Unsupported("the kernels prepare batches differently from torch")
