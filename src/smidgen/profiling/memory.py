"""Activations at inference: which of them live at once, and how many bytes that takes."""

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
    num_bytes: int
    born: int
    dies: int


def activation_bytes(trace: Trace) -> tuple[int, int]:
    """Peak bytes of all activations that live at once for one image, and of the largest of them.

    An activation lives from the operator that makes it to the last that reads it, the image from
    the first operator, the output to the last. Input and output of an operator live at once,
    except that a pointwise operator or a norm writes over an input that nobody reads later, where
    sizes agree. Views lie in their base. A second output that nobody reads (the places of a
    max-pool) takes nothing; parameters, buffers and the workspace inside an operator do not count.
    """
    operators = [event for event in trace.events if isinstance(event, Operator)]
    last_read = {value.storage: i for i, op in enumerate(operators) for value in op.inputs}
    last_read[trace.output.storage] = len(operators)
    image = trace.image
    buffers = {
        image.storage: _Buffer(image.storage_bytes, 0, last_read.get(image.storage, 0)),
    }
    lived = list(buffers.values())
    for i, operator in enumerate(operators):
        for rank, value in enumerate(operator.outputs):
            storage = value.storage
            unread = rank > 0 and storage not in last_read
            if storage in buffers or storage in trace.stored or unread:
                continue
            dies = last_read.get(storage, i)
            buffer = _reusable(operator, i, buffers, value.storage_bytes)
            if buffer is None:
                buffer = _Buffer(value.storage_bytes, i, dies)
                lived.append(buffer)
            buffer.dies = dies
            buffers[storage] = buffer
    moments = range(max(1, len(operators)))
    peak = max(sum(b.num_bytes for b in lived if b.born <= i <= b.dies) for i in moments)
    return peak, max(buffer.num_bytes for buffer in lived)


def _reusable(
    operator: Operator, moment: int, buffers: dict[int, _Buffer], num_bytes: int
) -> _Buffer | None:
    """The input that the operator may write over: read here for the last time, and in one order."""
    if not (operator.pointwise or operator.name in IN_PLACE_NORMS):
        return None
    for value in operator.inputs:
        buffer = buffers.get(value.storage)
        views = {other.key for other in operator.inputs if other.storage == value.storage}
        if (
            buffer is not None
            and buffer.dies == moment
            and buffer.num_bytes == num_bytes
            and len(views) == 1
        ):
            return buffer
    return None
