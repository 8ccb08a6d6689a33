"""From a network to its profile: one forward pass, then arithmetic on what it wrote down."""

from dataclasses import dataclass, replace

from torch import nn

from smidgen.errors import ModelError
from smidgen.profiling.macs import KNOWN, macs
from smidgen.profiling.memory import activation_bytes
from smidgen.profiling.receptive_field.probe import probe
from smidgen.profiling.receptive_field.propagation import FieldPropagation
from smidgen.profiling.receptive_field.rules import rule_for, window_of
from smidgen.profiling.trace import Enter, Exit, Operator, Trace, Value, Weight, trace
from smidgen.record import Layer, Pair, Profile, Window


def profile(module: nn.Module, input_shape: tuple[int, ...]) -> Profile:
    """What can be known of `module` without training it; docs/definitions.md defines each figure.

    Measured by one forward pass of one image of random pixels in eval mode on the CPU. A row stands
    for each call of a module without parts, of a module that owns parameters directly, and of a
    function that multiplies, slides a window, sees the whole map or reads parameters that no
    row above has. The module, its buffers and the global random numbers stay as they are.

    Args:
        module: any network that takes one batch of tensors and returns one tensor.
        input_shape: of one image, without batch: (channels, height, width).

    Raises:
        ModelError: forward fails (with the layers that ran and the one that failed), its result is
            no tensor with the batch first, or an operator multiplies in a way that is not known.
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
    """The layers with the receptive fields that no rule gives, measured; and the notes."""
    channels, height, width = input_shape
    found = probe(module, (channels, height, width))
    measured = tuple(
        replace(layer, rf_out=found[layer.path], rf_probed=True)
        if layer.rf_out is None and layer.path in found
        else layer
        for layer in layers
    )
    if measured == layers:
        return layers, notes
    return measured, (*notes, PROBED)


PROBED = "Receptive fields marked * are measured by a probe; the borders of the image cut them off."


def check_output(profile: Profile, num_classes: int) -> None:
    """Nothing, where the network gives one score for each class.

    Raises:
        ModelError: the output is not (batch, classes); says both shapes.
    """
    if profile.output_shape != (num_classes,):
        sides = ", ".join(["batch", *map(str, profile.output_shape)])
        raise ModelError(
            f"The network returns ({sides}); it must return (batch, {num_classes}), one score for "
            "each class."
        )


def _weight_bytes(module: nn.Module) -> int:
    """Of what state_dict would save, each storage once."""
    tensors = [t for t in module.state_dict().values() if hasattr(t, "untyped_storage")]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


@dataclass(slots=True)
class _Row:
    """A layer in the making."""

    path: str
    operation: str
    inputs: tuple[Value, ...]
    seen: tuple[Pair, Pair] | None
    outputs: tuple[Value, ...] = ()
    gives: tuple[Pair, Pair] | None = None
    params: int = 0
    macs: int = 0
    windows: int = 0
    window: Window | None = None

    def layer(self, number: int) -> Layer:
        return Layer(
            name=f"{self.operation}-{number}",
            path=self.path,
            operation=self.operation,
            input_shape=self.inputs[0].shape[1:] if self.inputs else (),
            output_shape=self.outputs[0].shape[1:] if self.outputs else (),
            params=self.params,
            macs=self.macs,
            window=self.window if self.windows == 1 else None,
            rf_in=self.seen and self.seen[0],
            rf_out=self.gives and self.gives[0],
            rf_probed=False,
            jump_in=self.seen and self.seen[1],
            jump_out=self.gives and self.gives[1],
        )


def _layers(traced: Trace) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """The rows of the layer table and the notes."""
    lookout = FieldPropagation(traced.image)
    ledger = _Ledger(traced.weights)
    rows: list[_Row] = []
    calls: list[tuple[Enter, _Row | None]] = [(Enter("", "", False, ()), None)]
    for event in traced.events:
        if isinstance(event, Enter):
            row = None
            if event.is_leaf or ledger.owns(event.path):
                seen = (
                    lookout.field(event.inputs) if event.is_leaf else None
                )  # its parts' rows say it
                row = _Row(event.path, event.type, event.inputs, seen)
                row.params = ledger.claim_of(event.path)
                rows.append(row)
            calls.append((event, row))
        elif isinstance(event, Exit):
            call, row = calls.pop()
            if row is not None:
                row.outputs = event.outputs
                row.gives = lookout.field(event.outputs) if call.is_leaf else None
        else:
            call, row = calls[-1]
            inside = row if call.is_leaf else None
            row = _operator_row(event, call.path, inside, traced, lookout, ledger)
            if row is not None and row is not inside:
                rows.append(row)
    layers = tuple(row.layer(number) for number, row in enumerate(rows, start=1))
    return layers, (*lookout.notes, *ledger.notes())


def _operator_row(
    operator: Operator,
    path: str,
    leaf: _Row | None,
    traced: Trace,
    lookout: FieldPropagation,
    ledger: "_Ledger",
) -> _Row | None:
    """The row that counts the operator: its leaf module's, one of its own, or none."""
    inputs = tuple(value for value in operator.inputs if value.storage not in traced.stored)
    row = leaf or _Row(path, _readable(operator), inputs, lookout.field(inputs))
    multiplies, window = _macs(operator, traced), window_of(operator)
    sees_all = lookout.apply(operator)
    params = 0 if _is_view(operator) else ledger.claim_read(operator)
    if leaf is None:
        if not (multiplies or window or sees_all or params):
            return None
        row.outputs, row.gives = operator.outputs, lookout.field(operator.outputs[:1])
    row.macs += multiplies
    row.params += params
    if window is not None:
        row.windows, row.window = row.windows + 1, window
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
    """The name of the function that people call, as far as it tells."""
    if operator.name == "convolution":
        transposed = "_transpose" if operator.arguments["transposed"] else ""
        return f"conv{transposed}{len(operator.arguments['weight'].shape) - 2}d"
    return _READABLE.get(operator.name, operator.name)


def _is_view(operator: Operator) -> bool:
    return bool(operator.overload.is_view)


def _macs(operator: Operator, traced: Trace) -> int:
    """Multiply-adds; refuses what takes weights and activations and is not known."""
    weights = {weight.storage for weight in traced.weights}
    if (
        operator.name not in KNOWN
        and rule_for(operator) is None
        and not _is_view(operator)
        and any(value.storage in weights for value in operator.inputs)
        and any(value.storage not in traced.stored for value in operator.inputs)
    ):
        raise ModelError(
            f"The multiply-adds of {operator.name}, which reads parameters, are not known to "
            "smidgen; build the network of convolutions, linear layers, matrix products and "
            "attention."
        )
    return macs(operator)


class _Ledger:
    """Which parameters a row has counted already."""

    def __init__(self, weights: tuple[Weight, ...]) -> None:
        self._owners = {weight.owner for weight in weights}
        self._left = {weight.name: weight for weight in weights}

    def owns(self, path: str) -> bool:
        return path in self._owners

    def claim_of(self, path: str) -> int:
        """Parameters of the module at `path` itself that no row has counted."""
        return self._claim([w for w in self._left.values() if w.owner == path])

    def claim_read(self, operator: Operator) -> int:
        """Parameters that the operator reads and that no row has counted."""
        read = {value.storage for value in operator.inputs}
        return self._claim([w for w in self._left.values() if w.storage in read])

    def _claim(self, weights: list[Weight]) -> int:
        for weight in weights:
            del self._left[weight.name]
        return sum(weight.size for weight in weights)

    def notes(self) -> list[str]:
        """A sentence for each module whose parameters nobody read."""
        unused: dict[str, int] = {}
        for weight in self._left.values():
            unused[weight.owner] = unused.get(weight.owner, 0) + weight.size
        return [
            f"{path or 'A parameter of the network'} is never used: {size:,} parameters."
            for path, size in unused.items()
        ]
