"""A network's training step by the kernels: forward and backward as one node of torch's graph.

Parameters and buffers stay the network's own, so optimizer, average, state_dict and evaluation see
no difference; loss and optimizer are torch's.
"""

import copy
import ctypes
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from smidgen.kernels.build import library
from smidgen.kernels.lowering import Op, Plan, Unsupported, make_plan, parameters_of

_KINDS = ("convolution", "norm", "max_pool", "average_pool", "addition", "pointwise")
_SEED_WORDS = 2


def _fields(kind: str, names: str) -> list[tuple[str, Any]]:
    return [(name, getattr(ctypes, f"c_{kind}")) for name in names.split()]


class _Op(ctypes.Structure):
    """Op of network.cpp, field for field."""

    _fields_ = (
        *_fields("int32", "kind inputs in_height in_width outputs height width"),
        *_fields("int32", "kernel_y kernel_x pad_y pad_x stride groups"),
        *_fields("int32", "relu whole_channels half"),
        *_fields("float", "dropout eps momentum"),
        *_fields("void_p", "input addend output returned sent"),
        *_fields("void_p", "weight bias weight_grad bias_grad running_mean running_var"),
        *_fields("void_p", "sums factors packed partial"),
    )


class _Net(ctypes.Structure):
    """Net of network.cpp."""

    _fields_ = (
        *_fields("int32", "num_ops blocks images threads"),
        ("ops", ctypes.POINTER(_Op)),
        ("gradients", ctypes.c_void_p * 2),
        ("gradient_size", ctypes.c_int64),
        ("seeds", ctypes.c_uint32 * _SEED_WORDS),
    )


def compile_network(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    threads: int = 1,
    half: bool = False,
    flags: tuple[str, ...] = (),
) -> "CompiledNetwork":
    """What stands in for `network` in training, once it has shown that it gives the same.

    With `half`, the products of most convolutions are bfloat16, their sums float32. `flags` go to
    the compiler. Draws nothing from torch's generators, and leaves the network as it is.

    Raises:
        Unsupported: the network, or this machine, is not one for the kernels; says why.
    """
    plan = make_plan(network, image_shape)
    lanes = CompiledNetwork(network, plan, threads=threads, half=half, flags=flags)
    _prove(network, plan, flags)
    return lanes


class CompiledNetwork:
    """Called in the place of a network that trains, with float32 images on the CPU.

    The scores are those of `network(images)`, and so are gradients and batch norm statistics, up to
    rounding. Dropout takes two words of torch's global generator a step: what restores that, as a
    checkpoint does, restores the masks. The same bytes come out for any number of threads.

    Only the latest batch can go backward: its activations stand where those of the next will.
    """

    def __init__(
        self, network: nn.Module, plan: Plan, *, threads: int, half: bool, flags: tuple[str, ...]
    ) -> None:
        self._library = library("network.cpp", flags)
        assert self._library.lanes_op_bytes() == ctypes.sizeof(_Op)  # two hands wrote it down
        if half and not self._library.lanes_has_half():
            raise Unsupported("this processor multiplies no bfloat16")
        self._network, self._plan = network, plan
        self._threads, self._half = threads, half
        self._width = self._library.lanes_width()
        self._norms = [op for op in plan.ops if op.kind == "norm"]
        self._draws = any(op.dropout for op in plan.ops)
        self._passes = 0
        self._net: _Net | None = None
        self._most_blocks = 0
        self._room: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        """The scores (batch, classes) of float32 images (batch, channels, height, width).

        Raises:
            ValueError: images of another kind, or too few for a batch norm; as torch says it.
        """
        if not self._network.training:
            raise ValueError("the kernels train; in evaluation mode, call the network itself")
        shape = self._plan.ops[0].shape_in
        if images.dtype != torch.float32 or images.shape[1:] != shape or not len(images):
            raise ValueError(f"expected float32 images (batch, {', '.join(map(str, shape))})")
        if images.device.type != "cpu" or images.requires_grad:
            raise ValueError("expected images on the CPU that need no gradient")
        for op in self._norms:
            if len(images) * op.shape[1] * op.shape[2] == 1:
                raise ValueError("Expected more than 1 value per channel when training")
        scores: Tensor = _Pass.apply(  # type: ignore[no-untyped-call]
            self, images.contiguous(), *self._parameters()
        )
        for op in self._norms:
            module: Any = op.module
            module.num_batches_tracked.add_(1)
        return torch.log_softmax(scores, 1) if self._plan.log_softmax else scores

    def forward(self, images: Tensor) -> tuple[Tensor, int]:
        """The last operation's output, and the number of this pass."""
        net = self._laid_out(math.ceil(len(images) / self._width))
        net.images = len(images)
        if self._draws:
            seeds = torch.randint(0, 1 << 32, (_SEED_WORDS,), dtype=torch.int64).tolist()
            net.seeds = (ctypes.c_uint32 * _SEED_WORDS)(*seeds)
        self._point_at_weights(net)
        scores = torch.empty(len(images), self._plan.ops[-1].shape[0])
        self._library.lanes_forward(
            ctypes.byref(net),
            ctypes.c_void_p(images.data_ptr()),
            ctypes.c_void_p(scores.data_ptr()),
        )
        self._passes += 1
        return scores, self._passes

    def backward(self, gradient: Tensor, number: int) -> list[Tensor]:
        """The gradients of the parameters, from that of pass `number`'s scores."""
        net = self._net
        if number != self._passes or net is None:
            raise RuntimeError("another batch went through the kernels since; this one is gone")
        found = {id(p): torch.empty_like(p) for p in self._parameters()}
        for to, op in zip(net.ops[: net.num_ops], self._plan.ops, strict=True):
            if op.module is not None:
                weight, bias = op.module.weight, op.module.bias
                to.weight_grad = None if weight is None else found[id(weight)].data_ptr()
                to.bias_grad = None if bias is None else found[id(bias)].data_ptr()
        gradient = gradient.contiguous()
        self._library.lanes_backward(ctypes.byref(net), ctypes.c_void_p(gradient.data_ptr()))
        return list(found.values())

    def _parameters(self) -> list[Tensor]:
        """Those of the network now: whoever loads or moves weights may give it others."""
        found = list(parameters_of(self._plan))
        if any(p.dtype != torch.float32 or not p.is_contiguous() or not p.is_cpu for p in found):
            raise ValueError("expected weights that are float32, contiguous and on the CPU")
        return found

    def _point_at_weights(self, net: _Net) -> None:
        for to, op in zip(net.ops[: net.num_ops], self._plan.ops, strict=True):
            module: Any = op.module
            if module is not None:
                to.weight = None if module.weight is None else module.weight.data_ptr()
                to.bias = None if module.bias is None else module.bias.data_ptr()
                if op.kind == "norm":
                    to.running_mean = module.running_mean.data_ptr()
                    to.running_var = module.running_var.data_ptr()

    def _laid_out(self, blocks: int) -> _Net:
        """The operations with their room, which grows to that of the largest batch."""
        if self._net is None or blocks > self._most_blocks:
            self._net = None  # frees the smaller room first
            self._room.clear()
            self._net = self._lay_out(blocks)
            self._most_blocks = blocks
        self._net.blocks = blocks
        return self._net

    def _lay_out(self, blocks: int) -> _Net:
        ops, images = self._plan.ops, blocks * self._width
        laid = (_Op * len(ops))()
        outputs = [self._floats(_size(ops[0].shape_in) * images)]
        outputs += [self._floats(_size(op.shape) * images) for op in ops]
        for place, (to, op) in enumerate(zip(laid, ops, strict=True)):
            _describe(to, op, half=self._half)
            to.input, to.output = outputs[place], outputs[place + 1]
            channels = op.shape[0]
            if op.addend is not None:
                to.addend = outputs[op.addend + 1]
                if op.addend >= 0:
                    laid[op.addend].returned = to.sent = self._floats(_size(op.shape) * images)
            if op.kind == "norm":
                to.sums = self._floats(2 * 2 * blocks * channels)  # doubles
                to.factors = self._floats(6 * channels)
            if op.kind == "convolution":
                module: Any = op.module
                weights = module.weight.numel()
                to.packed = self._floats(2 * weights)
                to.partial = self._floats(blocks * (weights + channels))
        largest = max(_size(shape) for op in ops for shape in (op.shape_in, op.shape))
        net = _Net(num_ops=len(ops), threads=self._threads, ops=laid, gradient_size=largest)
        net.gradients[:] = [self._floats(largest * images) for _ in range(2)]
        return net

    def _floats(self, count: int) -> int:
        """Where `count` float32 stand, at the start of a cache line as all of torch's memory."""
        self._room.append(torch.zeros(count))
        return self._room[-1].data_ptr()


def _size(shape: tuple[int, int, int]) -> int:
    return math.prod(shape)


def _describe(to: _Op, op: Op, half: bool) -> None:
    to.kind = _KINDS.index(op.kind)
    to.inputs, to.in_height, to.in_width = op.shape_in
    to.outputs, to.height, to.width = op.shape
    to.kernel_y, to.kernel_x = op.kernel
    to.pad_y, to.pad_x = op.padding
    to.stride, to.groups = op.stride, op.groups
    to.relu, to.dropout, to.whole_channels = op.relu, op.dropout, op.whole_channels
    # Pairs of channels and of pixels: with few of either, packing them costs more than it saves.
    wide = op.shape_in[0] >= 4 and op.shape[1] > 1 and op.groups == op.stride == 1
    to.half = half and op.kind == "convolution" and wide
    if op.kind == "norm":
        module: Any = op.module
        to.eps, to.momentum = module.eps, module.momentum


class _Pass(torch.autograd.Function):
    """Forward and backward of the whole network."""

    @staticmethod
    def forward(ctx: Any, lanes: CompiledNetwork, images: Tensor, *parameters: Tensor) -> Tensor:
        ctx.lanes = lanes
        scores, ctx.number = lanes.forward(images)
        return scores

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, None, *ctx.lanes.backward(gradient, ctx.number)


def _prove(network: nn.Module, plan: Plan, flags: tuple[str, ...]) -> None:
    """Compare one step, without dropout and in float32, with torch's.

    A trace follows forward once; what depends on chance, on earlier calls or on a change in place
    shows here, and so would a compiler's mistake.

    Raises:
        Unsupported: they differ by more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, *plan.ops[0].shape_in, generator=generator)
    still = replace(plan, ops=tuple(replace(op, dropout=0.0) for op in plan.ops))
    results = []
    for by_kernels in (False, True):
        twin, its_plan = copy.deepcopy((network, still))
        for module in twin.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.p = 0.0
        step: Callable[[Tensor], Tensor] = twin
        if by_kernels:
            step = CompiledNetwork(twin, its_plan, threads=1, half=False, flags=flags)
        with torch.enable_grad():
            scores = step(images)
            weights = torch.randn(scores.shape, generator=generator.manual_seed(1))
            gradients = torch.autograd.grad((scores * weights).sum(), list(twin.parameters()))
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        buffers = torch.cat([scores.new_zeros(1), *(b.flatten() for b in twin.buffers())])
        results.append((scores.detach(), flat, buffers))
    # Gradients more loosely: a value that rounds to the other side of a ReLU's 0 changes them.
    for ours, theirs, limit in zip(*results, (1e-3, 5e-2, 1e-3), strict=True):
        if not (ours - theirs).norm() <= limit * theirs.norm() + 1e-6:
            raise Unsupported("what the kernels compute is not what it computes")
