"""The blocks that the diagram of a network shows, from its profile."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from smidgen.record import Layer, Pair, Profile

_MOST = 40  # blocks


@dataclass(slots=True)
class Block:
    """The input, or a layer that is more than pointwise, with the pointwise layers after it."""

    name: str
    details: list[str]
    shape: tuple[int, ...]
    """Of the output."""
    params: int = 0
    macs: int = 0
    pointwise: list[str] = field(default_factory=list)
    seen: Pair | None = (1, 1)
    """Receptive field, in pixels of the image; None if unknown."""
    corner: Pair = (0, 0)
    """Top and left of the receptive field of the unit in the middle."""
    probed: bool = False

    def is_clipped(self, image: Sequence[int]) -> bool:
        """Whether it sees more than an image of this height and width."""
        return self.seen is not None and any(map(int.__gt__, self.seen, image))


def find_blocks(profile: Profile) -> list[Block]:
    """The blocks in the order of execution; of very many, the first and the last."""
    blocks = [Block("input", [], profile.input_shape)]
    if len(profile.input_shape) == 3:
        blocks[0].corner = (profile.input_shape[1] - 1) // 2, (profile.input_shape[2] - 1) // 2
    start: Pair | None = (0, 0)
    state: tuple[int, Pair | None, Pair | None] = (prod(profile.input_shape), (1, 1), (1, 1))
    for layer in profile.layers:
        follows = state == (prod(layer.input_shape), layer.rf_in, layer.jump_in)
        start = _start(layer, start) if follows and start else None
        if _is_pointwise(layer):
            blocks[-1].pointwise.append(layer.operation.removesuffix("2d"))
        else:
            block = _block(layer, follows)
            block.seen, block.probed = layer.rf_out, layer.rf_probed
            block.corner = _corner(layer, start, profile.input_shape)
            blocks.append(block)
        blocks[-1].params += layer.params
        blocks[-1].macs += layer.macs
        state = (prod(layer.output_shape), layer.rf_out, layer.jump_out)
    if len(blocks) > _MOST:
        ends = _MOST // 2
        middle = blocks[ends:-ends]
        params, macs = sum(one.params for one in middle), sum(one.macs for one in middle)
        name = f"{len(middle)} more"
        blocks[ends:-ends] = [Block(name, [], (), params=params, macs=macs, seen=None)]
    return blocks


def _is_pointwise(layer: Layer) -> bool:
    """Whether it neither multiplies nor slides nor changes height, width or receptive field."""
    resizes = layer.input_shape[1:] != layer.output_shape[1:] and len(layer.output_shape) > 1
    return not (layer.window or layer.macs or resizes or layer.rf_in != layer.rf_out)


def _block(layer: Layer, follows: bool) -> Block:
    details = [] if follows else [f"from {times(layer.input_shape)}"]  # the input of a branch
    window = layer.window
    if window is not None:
        stride = "" if window.stride == (1, 1) else f", stride {_side(window.stride)}"
        details.append(times(window.kernel) + stride)
        if window.padding != (0, 0):
            details.append(f"padding {_side(window.padding)}")
        if window.dilation != (1, 1):
            details.append(f"dilation {_side(window.dilation)}")
    elif "adaptive" in layer.operation.lower():
        details.append(f"to {times(layer.output_shape[1:])}")
    name = layer.operation.replace("Adaptive", "").replace("adaptive_", "")
    return Block(name, details, layer.output_shape)


def _start(layer: Layer, start: Pair) -> Pair | None:
    """Top and left of what the first unit of the output sees, from the input's; None if unknown."""
    if layer.window is not None and layer.jump_in is not None:
        (top, left), (down, right) = layer.window.padding, layer.jump_in
        return start[0] - top * down, start[1] - left * right
    sees_all = prod(layer.output_shape[1:]) == 1
    return start if sees_all or layer.input_shape[1:] == layer.output_shape[1:] else None


def _corner(layer: Layer, start: Pair | None, image: tuple[int, ...]) -> Pair:
    """Top and left of what the unit in the middle sees; in the image's middle if unknown."""
    if len(image) != 3 or layer.rf_out is None:
        return 0, 0
    if start is None or layer.jump_out is None:
        return (image[1] - layer.rf_out[0]) // 2, (image[2] - layer.rf_out[1]) // 2
    rows, columns = layer.output_shape[1:] if len(layer.output_shape) == 3 else (1, 1)
    down, right = layer.jump_out
    return start[0] + (rows - 1) // 2 * down, start[1] + (columns - 1) // 2 * right


def times(sides: Sequence[int]) -> str:
    """The lengths of sides as one text.

    >>> times((10, 26, 26))
    '10×26×26'
    """
    return "×".join(map(str, sides))


def _side(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else times(pair)
