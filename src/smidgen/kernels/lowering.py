"""Lowers a network to the operations that the kernels have; refuses anything else."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_RELU = {F.relu, torch.relu, "relu"}
_FLATTEN = {torch.flatten, "flatten"}
_LOG_SOFTMAX = {F.log_softmax, torch.log_softmax, "log_softmax"}
_ADD = {operator.add, torch.add, "add"}


class Unsupported(Exception):  # noqa: N818 - not an error: the network trains without the kernels
    """Why the kernels cannot train a network here, in words that can follow "because"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation on a block of images; layers.hpp says what each kind does."""

    kind: str
    """convolution, norm, max_pool, average_pool, addition or pointwise."""
    shape_in: tuple[int, int, int]
    """Channels, height, width."""
    shape: tuple[int, int, int]
    module: nn.Module | None = None
    """Has its parameters. A linear layer is a convolution whose kernel is as large as its input."""
    kernel: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    stride: int = 1
    groups: int = 1
    relu: bool = False
    """Whether a ReLU follows."""
    dropout: float = 0.0
    """Probability of the dropout that follows the ReLU."""
    whole_channels: bool = False
    """Whether the dropout drops channels instead of single values."""
    addend: int | None = None
    """For an addition: index of the operation whose output is added, or -1 for the images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Operations, each on the output of the previous one."""

    ops: tuple[Operation, ...]
    log_softmax: bool
    """Whether torch applies a log-softmax to the last output."""

    def parameters(self) -> Iterator[Tensor]:
        """The parameters in the order of the operations, each weight before its bias."""
        for op in self.ops:
            if op.module is not None:
                yield from (p for p in (op.module.weight, op.module.bias) if isinstance(p, Tensor))


def lower(network: nn.Module, image_shape: tuple[int, int, int]) -> Plan:
    """Return what `network` does in training with images (channels, height, width).

    Raises:
        Unsupported: it has something that the kernels do not; says what.
    """
    _check_modules(network)
    try:
        traced = torch.fx.symbolic_trace(network)
    except Exception as error:  # a user's forward may raise anything on a proxy
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unsupported(f"its forward cannot be traced: {first}") from None
    lowering = _Lowering(image_shape)
    for node in traced.graph.nodes:
        module = traced.get_submodule(node.target) if node.op == "call_module" else None
        lowering.read(node, module)
    plan = lowering.plan()
    _check_parameters(network, plan)
    return plan


def _check_modules(network: nn.Module) -> None:
    for name, module in network.named_modules():
        hooks = (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
        if any(hooks):
            raise Unsupported(f"{name or 'the network'} has hooks")
        if not module.training:
            raise Unsupported(f"{name or 'the network'} is in evaluation mode")


def _check_parameters(network: nn.Module, plan: Plan) -> None:
    for name, parameter in network.named_parameters():
        if parameter.device.type != "cpu":
            raise Unsupported(f"{name} is on {parameter.device}")
        if parameter.dtype != torch.float32:
            raise Unsupported(f"{name} is {parameter.dtype}")
        if not parameter.is_contiguous():
            raise Unsupported(f"{name} is not contiguous")
    modules = [op.module for op in plan.ops if op.module is not None]
    reached = [id(p) for module in modules for p in module.parameters()]
    if sorted(reached) != sorted(id(p) for p in network.parameters()):
        raise Unsupported("parameters are shared, or never used")


@dataclass(slots=True)
class _Lowering:
    """Reads the nodes of a trace one after the other."""

    shape: tuple[int, int, int]
    """Of the latest output, (channels, height, width) even if torch has flattened it."""
    flat: bool = False
    log_softmax: bool = False
    ops: list[Operation] = field(default_factory=list)
    made: dict[torch.fx.Node, int] = field(default_factory=dict)
    """The operation that computes each node's output; the images are -1."""

    def plan(self) -> Plan:
        if not self.ops or self.shape[1:] != (1, 1) or not self.flat:
            raise Unsupported("its output is not (batch, classes)")
        return Plan(ops=tuple(self.ops), log_softmax=self.log_softmax)

    def read(self, node: torch.fx.Node, module: nn.Module | None) -> None:
        if node.op == "placeholder":
            if self.made:
                raise Unsupported("it has more than one input")
            self.made[node] = -1
            return
        if node.op == "get_attr":
            raise Unsupported(f"it uses {node.target} outside its layers")
        latest = len(self.ops) - 1
        inputs = [self.made.get(source) for source in node.all_input_nodes]
        if node.op == "output":
            if inputs != [latest] or not isinstance(node.args[0], torch.fx.Node):
                raise Unsupported("its output is not one tensor, made last")
            return
        if node.op == "call_function" and node.target in _ADD and len(inputs) == 2:
            self._add(node, inputs)
        elif inputs != [latest] or self.log_softmax:
            raise Unsupported(f"{node.name} does not follow the layer before it in a chain")
        elif module is not None:
            self._read_module(module, free=len(node.all_input_nodes[0].users) == 1)
        else:
            self._read_function(node, free=len(node.all_input_nodes[0].users) == 1)
        self.made[node] = len(self.ops) - 1

    def _add(self, node: torch.fx.Node, inputs: list[int | None]) -> None:
        latest = len(self.ops) - 1
        others = [place for place in inputs if place is not None and place != latest]
        if len(others) != 1 or len(node.args) != 2 or node.kwargs:
            raise Unsupported(f"{node.name} does not add the latest output and an earlier one")
        if any(op.addend == others[0] for op in self.ops):
            raise Unsupported(f"{node.name} adds an output that another addition adds, too")
        if (self.ops[others[0]].shape if others[0] >= 0 else self.ops[0].shape_in) != self.shape:
            raise Unsupported(f"{node.name} adds tensors of different shapes")
        self._append(kind="addition", addend=others[0])

    def _append(
        self, kind: str, shape: tuple[int, int, int] | None = None, **settings: Any
    ) -> None:
        shape_in, self.shape = self.shape, shape or self.shape
        if min(self.shape) < 1:
            raise Unsupported(f"a {kind} has no output")
        self.ops.append(Operation(kind=kind, shape_in=shape_in, shape=self.shape, **settings))

    def _read_module(self, module: nn.Module, free: bool) -> None:
        """`free`: nothing else uses the input of this module."""
        kind = type(module)  # a subclass may do anything
        if kind is nn.Identity or (kind in (nn.Dropout, nn.Dropout2d) and module.p == 0):
            return
        if isinstance(module, nn.Conv2d) and kind is nn.Conv2d and not self.flat:
            self._convolution(module)
        elif isinstance(module, nn.Linear) and kind is nn.Linear and self.flat:
            self._append(
                kind="convolution",
                shape=(module.out_features, 1, 1),
                module=module,
                kernel=self.shape[1:],
            )
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and kind in (
            nn.BatchNorm1d if self.flat else nn.BatchNorm2d,
        ):
            self._norm(module)
        elif kind is nn.ReLU:
            self._relu(free)
        elif isinstance(module, nn.Dropout | nn.Dropout2d) and kind in (nn.Dropout, nn.Dropout2d):
            self._dropout(module, free)
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and not self.flat:
            self._pool(module)
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            channels, *kernel = self.shape
            self._append(kind="average_pool", shape=(channels, 1, 1), kernel=tuple(kernel))
        elif isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            self.flat = True
        elif isinstance(module, nn.LogSoftmax) and self.flat and module.dim in (1, -1):
            self.log_softmax = True
        else:
            raise Unsupported(f"it has a layer {module}")

    def _read_function(self, node: torch.fx.Node, free: bool) -> None:
        given = (*node.args[1:], *node.kwargs.values())
        if node.target in _RELU and not any(given):
            self._relu(free)
        elif node.target in _FLATTEN and given == (1,):
            self.flat = True
        elif node.target in _LOG_SOFTMAX and self.flat and node.kwargs.get("dtype") is None:
            dims = [place for place in given if place is not None and place != 3]  # 3: stacklevel
            if dims not in ([1], [-1]):
                raise Unsupported("its log-softmax is not over the classes")
            self.log_softmax = True
        else:
            raise Unsupported(f"it calls {node.name}, which the kernels do not have")

    def _convolution(self, module: nn.Conv2d) -> None:
        kernel, padding = _pair(module.kernel_size), module.padding
        if (
            isinstance(padding, str)
            or module.padding_mode != "zeros"
            or module.stride[0] != module.stride[1]
            or module.dilation != (1, 1)
            or any(p >= k for p, k in zip(padding, kernel, strict=True))
        ):
            raise Unsupported(f"it has a layer {module}")
        stride, size = module.stride[0], self.shape[1:]
        height, width = (
            (side + 2 * p - k) // stride + 1
            for side, p, k in zip(size, padding, kernel, strict=True)
        )
        self._append(
            kind="convolution",
            shape=(module.out_channels, height, width),
            module=module,
            kernel=kernel,
            padding=_pair(padding),
            stride=stride,
            groups=module.groups,
        )

    def _norm(self, module: nn.BatchNorm2d | nn.BatchNorm1d) -> None:
        if not module.track_running_stats or module.momentum is None or not self.ops:
            raise Unsupported(f"it has a layer {module}, or one on the images")
        if self.flat and self.shape[1:] != (1, 1):
            raise Unsupported(f"it has a layer {module} on flattened planes")
        self._append(kind="norm", module=module)

    def _relu(self, free: bool) -> None:
        last = self.ops[-1] if self.ops else None
        fits = last is not None and last.kind in ("convolution", "norm") and not last.dropout
        if last is not None and fits and free:
            self.ops[-1] = replace(last, relu=True)
        else:
            self._append(kind="pointwise", relu=True)

    def _dropout(self, module: nn.Dropout | nn.Dropout2d, free: bool) -> None:
        whole = isinstance(module, nn.Dropout2d)
        if not 0 < module.p < 1 or (whole and self.flat):
            raise Unsupported(f"it has a layer {module}")
        last = self.ops[-1] if self.ops else None
        if last is None or last.kind not in ("norm", "pointwise") or last.dropout or not free:
            self._append(kind="pointwise")
        self.ops[-1] = replace(self.ops[-1], dropout=module.p, whole_channels=whole)

    def _pool(self, module: nn.MaxPool2d | nn.AvgPool2d) -> None:
        kernel, stride = _pair(module.kernel_size), _pair(module.stride)
        channels, height, width = self.shape
        rows, columns = height // kernel[0], width // kernel[1]
        if (
            (stride != kernel and kernel != (height, width))
            or module.ceil_mode
            or _pair(module.padding) != (0, 0)
            or getattr(module, "divisor_override", None) is not None
            or _pair(getattr(module, "dilation", 1)) != (1, 1)
            or getattr(module, "return_indices", False)
        ):
            raise Unsupported(f"it has a layer {module}")
        kind = "max_pool" if isinstance(module, nn.MaxPool2d) else "average_pool"
        self._append(kind=kind, shape=(channels, rows, columns), kernel=kernel)


def _pair(value: Any) -> tuple[int, int]:
    """A size that torch accepts as one number or as two."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])
