"""Messages for a forward pass that failed: which layer, what it expected and what it got."""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Shape = tuple[int, ...]


def failure_message(
    error: Exception,
    module: nn.Module | None,
    path: str,
    shape: Shape,
    operator: tuple[str, list[Shape]] | None,
    ran: Sequence[tuple[str, str, Shape]],
) -> str:
    """A first line that says what failed, then a line for each layer that ran before.

    Args:
        error: the exception that forward raised.
        module: the innermost module that was running; None before any.
        path: its dotted name.
        shape: of its first input, batch included.
        operator: the operator that raised, if one did, and the shapes of its inputs.
        ran: type, path and output shape without batch of the layers that ran.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    place = f" ({path})" if path else ""
    if module is None:
        head = f"The network's forward raised: {reason}."
    elif next(module.children(), None) is None:
        problem = shape_mismatch(module, shape) or f"forward raised: {reason}"
        name = f"{type(module).__name__}-{len(ran) + 1}{place}"
        head = f"{name} does not fit its input of {shape[1:]}: {problem}."
    else:
        head = f"The forward of {type(module).__name__}{place} failed"
        if operator is not None:
            name, shapes = operator
            head += f" at {name} of {' and '.join(map(str, shapes))}"
        head += f": {reason}."
    layers = [
        f"  {kind}-{number}{f' ({at})' if at else ''} returned {out}"
        for number, (kind, at, out) in enumerate(ran, start=1)
    ]
    return "\n".join([head, "Layers that ran before it:" if layers else "No layer ran.", *layers])


def shape_mismatch(module: nn.Module, shape: Shape) -> str | None:
    """What `module` expected of an input and what it got, `shape` with batch.

    None if the shape fits, or if the module is not one of torch's convolutions, pools, norms and
    linear layers.

    >>> shape_mismatch(nn.Conv2d(16, 8, 3), (1, 10, 3, 3))
    'expected 16 channels, got 10'
    >>> shape_mismatch(nn.Conv2d(10, 8, 5), (1, 10, 3, 3))
    'its window of 5x5 does not fit into 3x3'
    """
    rank = _spatial_rank(module)
    if rank is not None and len(shape) != rank + 2:
        sides = {1: "length", 2: "height, width", 3: "depth, height, width"}[rank]
        return f"expected (channels, {sides})"
    if isinstance(module, nn.BatchNorm2d) and len(shape) != 4:
        return "expected (channels, height, width)"
    channels = _num_channels(module)
    if channels is not None and shape[1:2] != (channels,):
        given = shape[1] if len(shape) > 1 else "none"
        return f"expected {channels} channel{'s' * (channels != 1)}, got {given}"
    if rank is not None:
        return _window_mismatch(module, shape[2:])
    if isinstance(module, nn.Linear) and shape[-1] != module.in_features:
        return f"expected {module.in_features} features in the last dimension, got {shape[-1]}"
    if isinstance(module, nn.LayerNorm):
        sizes = tuple(module.normalized_shape)
        if shape[-len(sizes) :] != sizes:
            return f"expected {sizes} as the last dimensions, got {shape[-len(sizes) :]}"
    return None


def _spatial_rank(module: nn.Module) -> int | None:
    if isinstance(module, nn.Conv1d | nn.MaxPool1d | nn.AvgPool1d):
        return 1
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return 2
    if isinstance(module, nn.Conv3d | nn.MaxPool3d | nn.AvgPool3d):
        return 3
    return None


def _num_channels(module: nn.Module) -> int | None:
    if isinstance(module, _ConvNd):
        return module.in_channels
    if isinstance(module, _NormBase):
        return module.num_features
    return module.num_channels if isinstance(module, nn.GroupNorm) else None


def _window_mismatch(module: nn.Module, size: Shape) -> str | None:
    kernel = _for_each_side(module.kernel_size, len(size))
    dilation = _for_each_side(getattr(module, "dilation", 1), len(size))
    padding = _for_each_side(module.padding, len(size))
    window = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    padded = tuple(side + 2 * p for side, p in zip(size, padding, strict=True))
    if all(w <= side for w, side in zip(window, padded, strict=True)):
        return None
    room = "x".join(map(str, padded)) + (", padding included" if any(padding) else "")
    return f"its window of {'x'.join(map(str, window))} does not fit into {room}"


def _for_each_side(value: object, sides: int) -> Shape:
    """`value` for each side; 0 for padding in words ("same", "valid")."""
    if isinstance(value, int):
        return (value,) * sides
    return tuple(value) if isinstance(value, tuple | list) else (0,) * sides
