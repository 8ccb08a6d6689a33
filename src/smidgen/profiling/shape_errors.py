"""Why a network does not take its input: the layer that failed, what it got and what it wanted."""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Shape = tuple[int, ...]


def describe_failure(
    error: Exception,
    module: nn.Module | None,
    path: str,
    shape: Shape,
    operator: tuple[str, list[Shape]] | None,
    ran: Sequence[tuple[str, str, Shape]],
) -> str:
    """A first line that names what failed, then a line for each layer that ran before.

    Args:
        error: what forward raised.
        module: the innermost module that was running, None before any.
        path: its dotted name.
        shape: of its first input, batch included.
        operator: the operator that raised, with the shapes of its inputs, if it was one.
        ran: type, path and output shape without batch of the layers that ran.
    """
    first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if module is None:
        head = f"The network does not run: {first}."
    elif next(module.children(), None) is None:
        place = f" ({path})" if path else ""
        wants = wanted(module, shape) or f"it fails: {first}"
        head = f"{type(module).__name__}-{len(ran) + 1}{place} got {shape[1:]}; {wants}."
    else:
        place = f" ({path})" if path else ""
        head = f"The forward of {type(module).__name__}{place} fails"
        if operator is not None:
            name, shapes = operator
            head += f" at {name}, which got {' and '.join(map(str, shapes))}"
        head += f": {first}."
    lines = [
        f"  {kind}-{number}{f' ({at})' if at else ''} gave {out}"
        for number, (kind, at, out) in enumerate(ran, start=1)
    ]
    return "\n".join(
        [head, *(["Before it ran:", *lines] if lines else ["No layer ran before it."])]
    )


def wanted(module: nn.Module, shape: Shape) -> str | None:
    """What `module` wants where an input of `shape` (batch included) does not suit it.

    None where the shape is not what is wrong with it, or the module is of no known kind.

    >>> wanted(nn.Conv2d(16, 8, 3), (1, 10, 3, 3))
    'it wants 16 channels'
    >>> wanted(nn.Conv2d(10, 8, 5), (1, 10, 3, 3))
    'its window of 5x5 does not fit into 3x3'
    """
    sides = _sides(module)
    if sides is not None and len(shape) != sides + 2:
        places = {1: "length", 2: "height, width", 3: "depth, height, width"}[sides]
        return f"it wants (channels, {places})"
    if isinstance(module, _ConvNd) and shape[1] != module.in_channels:
        return f"it wants {module.in_channels} channels"
    if sides is not None:
        return _window_fits(module, shape[2:])
    if isinstance(module, nn.Linear) and shape[-1:] != (module.in_features,):
        return f"it wants {module.in_features} features in the last place"
    if isinstance(module, _NormBase) and shape[1:2] != (module.num_features,):
        return f"it wants {module.num_features} channels"
    if isinstance(module, _NormBase) and isinstance(module, nn.BatchNorm2d) and len(shape) != 4:
        return "it wants (channels, height, width)"
    if isinstance(module, nn.GroupNorm) and shape[1:2] != (module.num_channels,):
        return f"it wants {module.num_channels} channels"
    if isinstance(module, nn.LayerNorm):
        sizes = tuple(module.normalized_shape)
        if shape[-len(sizes) :] != sizes:
            return f"it wants {sizes} in the last places"
    return None


def _sides(module: nn.Module) -> int | None:
    if isinstance(module, nn.Conv1d | nn.MaxPool1d | nn.AvgPool1d):
        return 1
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return 2
    if isinstance(module, nn.Conv3d | nn.MaxPool3d | nn.AvgPool3d):
        return 3
    return None


def _window_fits(module: nn.Module, size: Shape) -> str | None:
    kernel = _each(module.kernel_size, len(size))
    dilation = _each(getattr(module, "dilation", 1), len(size))
    padding = _each(module.padding, len(size))
    window = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    padded = tuple(side + 2 * p for side, p in zip(size, padding, strict=True))
    if all(w <= side for w, side in zip(window, padded, strict=True)):
        return None
    room = "x".join(map(str, padded)) + (" with its padding" if any(padding) else "")
    return f"its window of {'x'.join(map(str, window))} does not fit into {room}"


def _each(value: object, number: int) -> Shape:
    """`value` for each side; padding in words ("same", "valid") as none."""
    if isinstance(value, int):
        return (value,) * number
    return tuple(value) if isinstance(value, tuple | list) else (0,) * number
