"""A trace of one forward pass: every ATen operator in order, and the modules that called it.

A trace holds the shapes and storages of tensors but no tensors, so what is computed from it is a
pure function of it.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from smidgen.errors import ModelError
from smidgen.models.lazy import initialize_lazy
from smidgen.profiling.shape_errors import failure_message

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the trace. A view is another value in the storage of its base."""

    key: int
    shape: Shape
    storage: int
    storage_bytes: int


@dataclass(frozen=True, slots=True)
class Operator:
    """One call of an ATen operator, with values for its tensors."""

    name: str
    """Without overload and trailing underscore: relu for relu_.default."""
    overload: Any
    """torch's OpOverload."""
    arguments: Mapping[str, Any]
    """By the names in its schema, defaults included."""
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    in_place: bool

    @property
    def pointwise(self) -> bool:
        """Whether each output element depends only on the input elements at the same position."""
        return torch.Tag.pointwise in self.overload.tags or self.name in _UNTAGGED_POINTWISE


_UNTAGGED_POINTWISE = {"hardswish", "_prelu_kernel", "copy", "native_dropout", "masked_fill"}


@dataclass(frozen=True, slots=True)
class Enter:
    """A module is called."""

    path: str
    type: str
    is_leaf: bool
    inputs: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Exit:
    """The module that was entered last returns."""

    outputs: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter: its dotted name, size and storage."""

    name: str
    size: int
    trainable: bool
    storage: int

    @property
    def owner(self) -> str:
        """The path of the module that owns it."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Trace:
    """One image's way through a network."""

    events: tuple[Enter | Exit | Operator, ...]
    weights: tuple[Weight, ...]
    stored: frozenset[int]
    """Storages of parameters and buffers."""
    image: Value
    output: Value


def trace(module: nn.Module, input_shape: Shape) -> Trace:
    """Run one image of random pixels through `module`, in eval mode on the CPU.

    Lazy layers are initialized; otherwise the module, its buffers and the global random state are
    left unchanged.

    Raises:
        ModelError: forward raises (the message lists the layers that ran and the one that failed),
            or does not return a tensor with the batch as its first dimension.
    """
    with torch.random.fork_rng(devices=[]):
        initialize_lazy(module, input_shape)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *input_shape, generator=generator)  # (batch, *input_shape)
    tensors = cpu_tensors(module)
    weights = tuple(
        Weight(name, p.numel(), p.requires_grad, _storage(tensors[name]))
        for name, p in module.named_parameters()
    )
    recorder = _Recorder()
    output: Any = None
    with eval_mode(module), _one_thread(), recorder.recording(module):
        try:
            with torch.no_grad(), recorder:
                output = functional_call(module, tensors, (image,))
        except Exception as error:
            raise ModelError(recorder.failure(error)) from error
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The network returns a {type(output).__name__}; it must return one tensor, "
            "(batch, classes)."
        )
    if output.ndim == 0 or output.shape[0] != 1:
        raise ModelError(
            f"The network returns {tuple(output.shape)} for one image of {input_shape}; the first "
            "dimension must be the batch, here 1."
        )
    return Trace(
        events=tuple(recorder.events),
        weights=weights,
        stored=frozenset(_storage(tensor) for tensor in tensors.values()),
        image=recorder.value(image),
        output=recorder.value(output),
    )


def cpu_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers on the CPU, by name; the buffers are copies, which may change."""
    parameters = {name: p.detach().to("cpu") for name, p in module.named_parameters()}
    buffers = {name: b.detach().to("cpu", copy=True) for name, b in module.named_buffers()}
    return parameters | buffers


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode, without fused attention; restores flags and the random state afterwards."""
    training = {part: part.training for part in module.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        with torch.random.fork_rng(devices=[]):
            module.eval()
            torch.backends.mha.set_fastpath_enabled(False)  # which hides operators
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for part, flag in training.items():
            part.training = flag


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: on a busy machine, each operator waits up to 8 ms for a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records operators (as a dispatch mode) and calls of modules (by hooks)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[Enter | Exit | Operator] = []
        self._calls: list[tuple[nn.Module, Enter]] = []
        self._alive: dict[int, Tensor] = {}  # keeps ids from being reused
        self._ran: list[tuple[str, str, Shape]] = []
        self._failed: tuple[str, list[Shape]] | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, so that torch does not import its compiler, which takes over a second."""
        return False

    def value(self, tensor: Tensor) -> Value:
        self._alive[id(tensor)] = tensor
        storage = tensor.untyped_storage()
        return Value(id(tensor), tuple(tensor.shape), _storage(tensor), storage.nbytes())

    def values(self, tree: Any) -> tuple[Value, ...]:
        return tuple(self.value(leaf) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if torch.is_inference_mode_enabled():  # composite operators arrive undecomposed
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        inputs = self.values((args, kwargs))
        try:
            result = func(*args, **kwargs)
        except Exception:
            self._failed = (name, [value.shape for value in inputs])
            raise
        in_place = func._schema.is_mutable
        self.events.append(
            Operator(
                name=name.rstrip("_") if in_place else name,
                overload=func,
                arguments=tree_map_only(Tensor, self.value, _bind(func, args, kwargs)),
                inputs=inputs,
                outputs=self.values(result),
                in_place=in_place,
            )
        )
        return result

    @contextmanager
    def recording(self, module: nn.Module) -> Iterator[None]:
        """Record calls of `module` and its submodules."""
        with ExitStack() as stack:
            for path, part in module.named_modules():
                enter = part.register_forward_pre_hook(partial(self._enter, path), with_kwargs=True)
                stack.callback(enter.remove)
                stack.callback(part.register_forward_hook(self._exit).remove)
            yield

    def _enter(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        is_leaf = next(module.children(), None) is None
        call = Enter(path, type(module).__name__, is_leaf, self.values((args, kwargs)))
        self._calls.append((module, call))
        self.events.append(call)

    def _exit(self, module: nn.Module, args: Any, output: Any) -> None:
        while self._calls[-1][0] is not module:  # an inner call that raised, which forward caught
            self._calls.pop()
            self.events.append(Exit(()))
        _, call = self._calls.pop()
        outputs = self.values(output)
        self.events.append(Exit(outputs))
        if call.is_leaf:
            self._ran.append((call.type, call.path, outputs[0].shape[1:] if outputs else ()))

    def failure(self, error: Exception) -> str:
        """The message for a forward that raised `error`."""
        if not self._calls:
            return failure_message(error, None, "", (), self._failed, self._ran)
        module, call = self._calls[-1]
        shape = call.inputs[0].shape if call.inputs else ()
        return failure_message(error, module, call.path, shape, self._failed, self._ran)


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _bind(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    schema = func._schema.arguments
    bound = {
        argument.name: argument.default_value for argument in schema if argument.has_default_value()
    }
    bound |= {argument.name: value for argument, value in zip(schema, args, strict=False)}
    return bound | dict(kwargs)
