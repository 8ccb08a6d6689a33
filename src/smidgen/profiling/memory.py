"""Memory of the activations at inference: the peak of those alive at once, and the largest."""

from dataclasses import dataclass

from smidgen.profiling.trace import Operator, Trace

IN_PLACE_NORMS = {
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "native_group_norm",
    "native_layer_norm",
    "_softmax",
    "_log_softmax",
}


@dataclass(slots=True)
class _Buffer:
    """Memory that one activation after another uses, from operator number `first` to `last`."""

    num_bytes: int
    first: int
    last: int


def activation_bytes(trace: Trace) -> tuple[int, int]:
    """Peak bytes of all activations alive at once for one image, and bytes of the largest one.

    An activation is alive from the operator that makes it to the last one that reads it; the image
    from the first operator on, the output to the last. An operator's inputs and outputs are alive
    together, except that a pointwise operator or a norm overwrites an input of the same size that
    is not read later. Views share the memory of their base. A second output that is never read
    (the indices of a max-pool) takes no memory. Parameters, buffers and the workspace inside an
    operator are not counted.
    """
    operators = [event for event in trace.events if isinstance(event, Operator)]
    last_read = {value.storage: i for i, op in enumerate(operators) for value in op.inputs}
    last_read[trace.output.storage] = len(operators)
    image = trace.image
    allocated = [_Buffer(image.storage_bytes, 0, last_read.get(image.storage, 0))]
    buffers = {image.storage: allocated[0]}
    for i, operator in enumerate(operators):
        for rank, value in enumerate(operator.outputs):
            storage = value.storage
            unread = rank > 0 and storage not in last_read
            if storage in buffers or storage in trace.stored or unread:
                continue
            buffer = _reusable(operator, i, buffers, value.storage_bytes)
            if buffer is None:
                buffer = _Buffer(value.storage_bytes, i, i)
                allocated.append(buffer)
            buffer.last = last_read.get(storage, i)
            buffers[storage] = buffer
    steps = range(max(1, len(operators)))
    peak = max(sum(b.num_bytes for b in allocated if b.first <= i <= b.last) for i in steps)
    return peak, max(buffer.num_bytes for buffer in allocated)


def _reusable(
    operator: Operator, step: int, buffers: dict[int, _Buffer], num_bytes: int
) -> _Buffer | None:
    """An input of the same size that the operator may overwrite: read last here, by one view."""
    if not (operator.pointwise or operator.name in IN_PLACE_NORMS):
        return None
    for value in operator.inputs:
        buffer = buffers.get(value.storage)
        views = {other.key for other in operator.inputs if other.storage == value.storage}
        if (
            buffer is not None
            and buffer.last == step
            and buffer.num_bytes == num_bytes
            and len(views) == 1
        ):
            return buffer
    return None
