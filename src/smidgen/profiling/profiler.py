"""Profile of a network: one traced forward pass, and arithmetic on the trace."""

from dataclasses import dataclass, field, replace

from torch import nn

from smidgen.errors import ModelError
from smidgen.profiling.macs import COUNTED, count_macs, unknown_macs
from smidgen.profiling.memory import activation_bytes
from smidgen.profiling.receptive_field.probe import probe
from smidgen.profiling.receptive_field.propagation import FieldPropagation
from smidgen.profiling.receptive_field.rules import rule_for, window_of
from smidgen.profiling.trace import Enter, Exit, Operator, Trace, Value, Weight, trace
from smidgen.record import Layer, Pair, Profile, Window


def profile(module: nn.Module, input_shape: tuple[int, ...]) -> Profile:
    """Profile `module` without training it; docs/definitions.md defines each number.

    One image of random pixels passes through in eval mode on the CPU. The layer table has a row for
    each call of a module without submodules, of a module that owns parameters, and of a function
    that multiplies, slides a window, depends on the whole map or reads parameters that no row above
    has counted. Lazy layers are initialized, with weights from the global random state as it is;
    otherwise the module, its buffers and that state are left unchanged.

    Args:
        module: a network that takes a batch of images and returns one tensor.
        input_shape: shape of one image, without batch: (channels, height, width).

    Raises:
        ModelError: forward raises (the message names the layer that failed and those that ran),
            does not return a tensor with the batch first, or runs an operator whose multiply-adds
            are unknown.
    """
    traced = trace(module, input_shape)
    layers, notes = _layers(traced)
    if len(input_shape) == 3 and any(layer.rf_out is None for layer in layers):
        layers, notes = _probed(module, input_shape, layers, notes)
    peak, largest = activation_bytes(traced)
    return Profile(
        input_shape=tuple(input_shape),
        output_shape=traced.output.shape[1:],
        layers=layers,
        num_params=sum(weight.size for weight in traced.weights),
        num_trainable_params=sum(weight.size for weight in traced.weights if weight.trainable),
        macs=sum(layer.macs for layer in layers),
        weight_bytes=_weight_bytes(module),
        peak_activation_bytes=peak,
        largest_buffer_bytes=largest,
        notes=notes,
    )


def _probed(
    module: nn.Module,
    input_shape: tuple[int, ...],
    layers: tuple[Layer, ...],
    notes: tuple[str, ...],
) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """The layers and notes, with unknown receptive fields measured by the probe where it can."""
    channels, height, width = input_shape
    fields = probe(module, (channels, height, width))
    probed = tuple(
        replace(layer, rf_out=fields[layer.path], rf_probed=True)
        if layer.rf_out is None and layer.path in fields
        else layer
        for layer in layers
    )
    return (layers, notes) if probed == layers else (probed, (*notes, PROBED))


PROBED = "Receptive fields marked * are measured by a probe; the image's border clips them."


def check_output(profile: Profile, num_classes: int) -> None:
    """Check that the network returns one score for each class.

    Raises:
        ModelError: its output is not (batch, num_classes).
    """
    if profile.output_shape != (num_classes,):
        sides = ", ".join(["batch", *map(str, profile.output_shape)])
        raise ModelError(
            f"The network returns ({sides}); it must return (batch, {num_classes}), one score for "
            "each class."
        )


def _weight_bytes(module: nn.Module) -> int:
    """Bytes of what state_dict saves, each storage once."""
    tensors = [t for t in module.state_dict().values() if hasattr(t, "untyped_storage")]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


@dataclass(slots=True)
class _Row:
    """A row of the layer table while its operators run."""

    path: str
    operation: str
    inputs: tuple[Value, ...]
    field_in: tuple[Pair, Pair] | None
    """Receptive field and jump of the inputs."""
    outputs: tuple[Value, ...] = ()
    field_out: tuple[Pair, Pair] | None = None
    params: int = 0
    macs: int = 0
    windows: list[Window] = field(default_factory=list)

    def layer(self, number: int) -> Layer:
        return Layer(
            name=f"{self.operation}-{number}",
            path=self.path,
            operation=self.operation,
            input_shape=self.inputs[0].shape[1:] if self.inputs else (),
            output_shape=self.outputs[0].shape[1:] if self.outputs else (),
            params=self.params,
            macs=self.macs,
            window=self.windows[0] if len(self.windows) == 1 else None,
            rf_in=self.field_in and self.field_in[0],
            rf_out=self.field_out and self.field_out[0],
            rf_probed=False,
            jump_in=self.field_in and self.field_in[1],
            jump_out=self.field_out and self.field_out[1],
        )


def _layers(traced: Trace) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """The rows of the layer table and the notes."""
    propagation = FieldPropagation(traced.image)
    uncounted = _UncountedParameters(traced.weights)
    rows: list[_Row] = []
    calls: list[tuple[Enter, _Row | None]] = [(Enter("", "", False, ()), None)]
    for event in traced.events:
        if isinstance(event, Enter):
            row = None
            if event.is_leaf or uncounted.owns(event.path):
                # a module with submodules has its receptive fields in their rows
                field_in = propagation.field(event.inputs) if event.is_leaf else None
                row = _Row(event.path, event.type, event.inputs, field_in)
                row.params = uncounted.count_owned(event.path)
                rows.append(row)
            calls.append((event, row))
        elif isinstance(event, Exit):
            call, row = calls.pop()
            if row is not None:
                row.outputs = event.outputs
                row.field_out = propagation.field(event.outputs) if call.is_leaf else None
        else:
            call, row = calls[-1]
            leaf = row if call.is_leaf else None
            row = _operator_row(event, call.path, leaf, traced, propagation, uncounted)
            if row is not None and row is not leaf:
                rows.append(row)
    layers = tuple(row.layer(number) for number, row in enumerate(rows, start=1))
    return layers, (*propagation.notes, *uncounted.notes())


def _operator_row(
    operator: Operator,
    path: str,
    leaf: _Row | None,
    traced: Trace,
    propagation: FieldPropagation,
    uncounted: "_UncountedParameters",
) -> _Row | None:
    """The row that counts the operator: that of its leaf module, a new one, or None."""
    inputs = tuple(value for value in operator.inputs if value.storage not in traced.stored)
    row = leaf or _Row(path, _readable(operator), inputs, propagation.field(inputs))
    multiplies, window = _macs(operator, traced), window_of(operator)
    sees_whole_map = propagation.apply(operator)
    params = 0 if _is_view(operator) else uncounted.count_read(operator)
    if leaf is None:
        if not (multiplies or window or sees_whole_map or params):
            return None
        row.outputs, row.field_out = operator.outputs, propagation.field(operator.outputs[:1])
    row.macs += multiplies
    row.params += params
    if window is not None:
        row.windows.append(window)
    return row


_READABLE = {
    "max_pool2d_with_indices": "max_pool2d",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "native_batch_norm": "batch_norm",
    "native_group_norm": "group_norm",
    "native_layer_norm": "layer_norm",
    "addmm": "linear",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "_scaled_dot_product_flash_attention_for_cpu": "attention",
}


def _readable(operator: Operator) -> str:
    """The name of the function in torch.nn.functional, where it differs from the operator's."""
    if operator.name == "convolution":
        transposed = "_transpose" if operator.arguments["transposed"] else ""
        return f"conv{transposed}{len(operator.arguments['weight'].shape) - 2}d"
    return _READABLE.get(operator.name, operator.name)


def _is_view(operator: Operator) -> bool:
    return bool(operator.overload.is_view)


def _macs(operator: Operator, traced: Trace) -> int:
    """Multiply-adds; ModelError for an unknown operator of both parameters and activations."""
    weights = {weight.storage for weight in traced.weights}
    if (
        operator.name not in COUNTED
        and rule_for(operator) is None
        and not _is_view(operator)
        and any(value.storage in weights for value in operator.inputs)
        and any(value.storage not in traced.stored for value in operator.inputs)
    ):
        raise unknown_macs(operator.name)
    return count_macs(operator)


class _UncountedParameters:
    """The parameters that no row has counted yet."""

    def __init__(self, weights: tuple[Weight, ...]) -> None:
        self._owners = {weight.owner for weight in weights}
        self._left = {weight.name: weight for weight in weights}

    def owns(self, path: str) -> bool:
        """Whether the module at `path` owns parameters itself."""
        return path in self._owners

    def count_owned(self, path: str) -> int:
        """Count those that the module at `path` owns itself."""
        return self._count([w for w in self._left.values() if w.owner == path])

    def count_read(self, operator: Operator) -> int:
        """Count those that the operator reads."""
        read = {value.storage for value in operator.inputs}
        return self._count([w for w in self._left.values() if w.storage in read])

    def _count(self, weights: list[Weight]) -> int:
        for weight in weights:
            del self._left[weight.name]
        return sum(weight.size for weight in weights)

    def notes(self) -> list[str]:
        """A sentence for each module that owns unused parameters."""
        unused: dict[str, int] = {}
        for weight in self._left.values():
            unused[weight.owner] = unused.get(weight.owner, 0) + weight.size
        return [
            f"{path or 'A parameter of the network'} is never used: {size:,} parameters."
            for path, size in unused.items()
        ]
