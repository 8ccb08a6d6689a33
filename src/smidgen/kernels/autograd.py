"""A network's training step by the kernels: forward and backward as one node of torch's graph.

Parameters and buffers remain the network's own, so optimizer, average, state_dict and evaluation
work as usual; loss and optimizer are torch's.
"""

import ctypes
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from smidgen.errors import ModelError
from smidgen.kernels.build import check_fields, load_library
from smidgen.kernels.lowering import Operation, Plan, Unsupported

_KINDS = ("convolution", "norm", "max_pool", "average_pool", "addition", "pointwise")
_SEED_WORDS = 2


def _fields(kind: str, names: str) -> list[tuple[str, Any]]:
    return [(name, getattr(ctypes, f"c_{kind}")) for name in names.split()]


class _Operation(ctypes.Structure):
    """Operation of operation.hpp."""

    _fields_ = (
        *_fields("int32", "kind inputs in_height in_width outputs height width"),
        *_fields("int32", "kernel_y kernel_x pad_y pad_x stride groups"),
        *_fields("int32", "relu whole_channels bfloat16"),
        *_fields("float", "dropout eps momentum"),
        *_fields("void_p", "input addend output skip_gradient addend_gradient"),
        *_fields("void_p", "weight bias weight_grad bias_grad running_mean running_var"),
        *_fields("void_p", "sums factors packed partial"),
    )


class _Network(ctypes.Structure):
    """Network of operation.hpp."""

    _fields_ = (
        *_fields("int32", "num_ops blocks images threads"),
        ("ops", ctypes.POINTER(_Operation)),
        ("gradients", ctypes.c_void_p * 2),
        ("gradient_size", ctypes.c_int64),
        ("scratch", ctypes.c_void_p),
        ("seeds", ctypes.c_uint32 * _SEED_WORDS),
    )


class NativeNetwork:
    """Trains a network with the kernels; called like the network, with float32 images on the CPU.

    The scores are those of `network(images)` in training mode, and so are gradients and batch norm
    statistics, up to rounding. Dropout draws two words from torch's global generator for each step,
    so restoring that generator restores the masks. The result is the same, byte for byte, for any
    number of threads.

    Only the latest batch can be used in a backward pass: the next one overwrites its activations.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        *,
        threads: int = 1,
        bfloat16: bool = False,
        flags: tuple[str, ...] = (),
    ) -> None:
        """Run `plan`, which `lower(network, ...)` returned; see `build_native_network`."""
        self._kernels = load_library(flags).functions
        self._kernels.smidgen_scratch_floats.restype = ctypes.c_int64
        check_fields(_Operation, self._kernels.smidgen_operation_fields)
        check_fields(_Network, self._kernels.smidgen_network_fields)
        if bfloat16 and not self._kernels.smidgen_has_bfloat16():
            raise Unsupported("this processor has no bfloat16 multiplication")
        self._network, self._plan = network, plan
        self._threads, self._bfloat16 = threads, bfloat16
        self._width = self._kernels.smidgen_vector_width()
        self._norms = [op for op in plan.ops if op.kind == "norm"]
        self._has_dropout = any(op.dropout for op in plan.ops)
        self._passes = 0
        self._state: _Network | None = None
        self._max_blocks = 0
        self._memory: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        """Return the scores (batch, classes) of float32 images (batch, channels, height, width).

        Raises:
            ModelError: there is not enough memory for the batch.
            ValueError: unsuitable images, or too few for a batch norm, in torch's words.
        """
        if not self._network.training:
            raise ValueError("the kernels only train; in evaluation mode, call the network itself")
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
        """Return the last operation's output and the number of this pass."""
        state = self._prepared(len(images))
        if self._has_dropout:
            seeds = torch.randint(0, 1 << 32, (_SEED_WORDS,), dtype=torch.int64).tolist()
            state.seeds = (ctypes.c_uint32 * _SEED_WORDS)(*seeds)
        self._set_weights(state)
        scores = torch.empty(len(images), self._plan.ops[-1].shape[0])
        self._kernels.smidgen_forward(
            ctypes.byref(state),
            ctypes.c_void_p(images.data_ptr()),
            ctypes.c_void_p(scores.data_ptr()),
        )
        self._passes += 1
        return scores, self._passes

    def backward(self, gradient: Tensor, number: int) -> list[Tensor]:
        """Return the gradients of the parameters, given that of the scores of pass `number`."""
        state = self._state
        if number != self._passes or state is None:
            raise RuntimeError("another batch has overwritten the activations of this one")
        gradients = {id(p): torch.empty_like(p) for p in self._parameters()}
        for to, op in zip(state.ops[: state.num_ops], self._plan.ops, strict=True):
            if op.module is not None:
                weight, bias = op.module.weight, op.module.bias
                to.weight_grad = None if weight is None else gradients[id(weight)].data_ptr()
                to.bias_grad = None if bias is None else gradients[id(bias)].data_ptr()
        gradient = gradient.contiguous()
        self._kernels.smidgen_backward(ctypes.byref(state), ctypes.c_void_p(gradient.data_ptr()))
        return list(gradients.values())

    def dropout_masks(self) -> Iterator[Tensor]:
        """Yield the masks of the latest forward pass, one for each dropout in their order.

        Each is (batch, channels, height, width), True where a value passes.
        """
        assert self._state is not None
        for index, op in enumerate(self._plan.ops):
            if op.dropout:
                mask = torch.empty(self._state.images, *op.shape, dtype=torch.bool)
                self._kernels.smidgen_dropout_mask(
                    ctypes.byref(self._state), index, ctypes.c_void_p(mask.data_ptr())
                )
                yield mask

    def _parameters(self) -> list[Tensor]:
        """The network's current parameters: loading weights may have replaced them."""
        found = list(self._plan.parameters())
        if any(p.dtype != torch.float32 or not p.is_contiguous() or not p.is_cpu for p in found):
            raise ValueError("expected weights that are float32, contiguous and on the CPU")
        return found

    def _set_weights(self, state: _Network) -> None:
        for to, op in zip(state.ops[: state.num_ops], self._plan.ops, strict=True):
            module: Any = op.module
            if module is not None:
                to.weight = None if module.weight is None else module.weight.data_ptr()
                to.bias = None if module.bias is None else module.bias.data_ptr()
                if op.kind == "norm":
                    to.running_mean = module.running_mean.data_ptr()
                    to.running_var = module.running_var.data_ptr()

    def _prepared(self, num_images: int) -> _Network:
        """The operations with their memory, which grows to that of the largest batch."""
        blocks = math.ceil(num_images / self._width)
        if self._state is None or blocks > self._max_blocks:
            self._state = None  # frees the smaller memory first
            self._memory.clear()
            try:
                self._state = self._allocated(blocks)
            except RuntimeError as error:
                self._memory.clear()
                raise ModelError(
                    f"there is not enough memory to train on batches of {num_images:,} images; "
                    "decrease train.batch_size."
                ) from error
            self._max_blocks = blocks
        self._state.blocks, self._state.images = blocks, num_images
        return self._state

    def _allocated(self, blocks: int) -> _Network:
        ops, images = self._plan.ops, blocks * self._width
        described = (_Operation * len(ops))()
        outputs = [self._allocate(math.prod(ops[0].shape_in) * images)]
        outputs += [self._allocate(math.prod(op.shape) * images) for op in ops]
        for index, (to, op) in enumerate(zip(described, ops, strict=True)):
            _describe(to, op, bfloat16=self._bfloat16)
            to.input, to.output = outputs[index], outputs[index + 1]
            channels = op.shape[0]
            if op.addend is not None:
                to.addend = outputs[op.addend + 1]
                if op.addend >= 0:
                    gradient = self._allocate(math.prod(op.shape) * images)
                    described[op.addend].skip_gradient = to.addend_gradient = gradient
            if op.kind == "norm":
                to.sums = self._allocate(2 * 2 * blocks * channels)  # doubles
                to.factors = self._allocate(6 * channels)
            if op.kind == "convolution":
                module: Any = op.module
                weights = module.weight.numel()
                to.packed = self._allocate(2 * weights)
                to.partial = self._allocate(blocks * (weights + channels))
        largest = max(math.prod(shape) for op in ops for shape in (op.shape_in, op.shape))
        state = _Network(
            num_ops=len(ops), threads=self._threads, ops=described, gradient_size=largest
        )
        state.gradients[:] = [self._allocate(largest * images) for _ in range(2)]
        scratch = self._kernels.smidgen_scratch_floats(ctypes.byref(state))
        state.scratch = self._allocate(self._threads * scratch)
        return state

    def _allocate(self, floats: int) -> int:
        """The address of new memory, aligned to 64 bytes as all of torch's is."""
        self._memory.append(torch.zeros(floats))
        return self._memory[-1].data_ptr()


def uses_bfloat16(op: Operation) -> bool:
    """Whether an operation multiplies in bfloat16 if the network does.

    Pairs of channels and pixels are multiplied; with few of either, packing costs more than it
    saves.
    """
    wide = op.shape_in[0] >= 4 and op.shape[1] > 1 and op.groups == op.stride == 1
    return op.kind == "convolution" and wide


def _describe(to: _Operation, op: Operation, bfloat16: bool) -> None:
    to.kind = _KINDS.index(op.kind)
    to.inputs, to.in_height, to.in_width = op.shape_in
    to.outputs, to.height, to.width = op.shape
    to.kernel_y, to.kernel_x = op.kernel
    to.pad_y, to.pad_x = op.padding
    to.stride, to.groups = op.stride, op.groups
    to.relu, to.dropout, to.whole_channels = op.relu, op.dropout, op.whole_channels
    to.bfloat16 = bfloat16 and uses_bfloat16(op)
    if op.kind == "norm":
        module: Any = op.module
        to.eps, to.momentum = module.eps, module.momentum


class _Pass(torch.autograd.Function):
    """Forward and backward pass of the whole network."""

    @staticmethod
    def forward(ctx: Any, native: NativeNetwork, images: Tensor, *parameters: Tensor) -> Tensor:
        ctx.native = native
        scores, ctx.number = native.forward(images)
        return scores

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, None, *ctx.native.backward(gradient, ctx.number)
