"""The diagram of a network: its layers as blocks, and what one unit of each sees of an image."""

import textwrap
from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from smidgen.errors import ConfigError
from smidgen.record import Pair, Profile
from smidgen.report.image_grid import Pixels, colored
from smidgen.report.network_blocks import Block, find_blocks, times
from smidgen.report.page import Plot
from smidgen.report.style import COLORS, add_title, new_figure, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACROSS = 11  # blocks in a row
_LETTERS = 14  # in a line of text
_COLORS = {"input": "#888888", "conv": COLORS[0], "pool": COLORS[2], "linear": COLORS[3]}
_SEEN = COLORS[4]

# Lengths are in inches; positions are measured from the figure's top left.
_COLUMN, _LINE, _GAP, _MARGIN = 1.09, 0.17, 0.16, 0.12
_IMAGE, _FACE, _DEPTH = 0.92, 0.62, 0.34  # the longest sides of an image and of a block
_MOST_CHANNELS, _MOST_PIXELS = 48, 16  # that lines separate
Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""
Texts = list[tuple[str, str]]
"""Lines, each with its weight."""


def network_plot(profile: Profile, image: Pixels | None = None, title: str = "") -> Plot:
    """Draw the layers as blocks and, below each, the receptive field of one unit of its output.

    The unit is in the middle. Pointwise layers belong to the block before them; branches come one
    after the other, in the order of execution.

    Args:
        profile: what smidgen.profile returns, or a record's.
        image: an input of the network, (channels, height, width); a grid if None.
        title: above the blocks.

    Raises:
        ConfigError: the image is not an input of the network.
    """
    if image is not None and image.shape != profile.input_shape:
        raise ConfigError(
            f"the image is {image.shape}; an input of this network is {profile.input_shape}."
        )
    blocks = find_blocks(profile)
    caption = (
        "The layers with the shapes of their outputs and, below, what the unit in the middle of "
        "each output sees of the image: its receptive field, in pixels"
    )
    image_shape = profile.input_shape
    if len(image_shape) != 3:
        caption = "The layers with the shapes of their outputs"
    elif any(block.is_clipped(image_shape[1:]) for block in blocks):
        caption += "; clipped where it is larger than the image"
    if any(block.probed for block in blocks):
        caption += "; * measured by a probe, which cannot see beyond the image"
    return Plot("network", caption, _draw(blocks, image_shape, image, title))


def _draw(
    blocks: Sequence[Block], shape: tuple[int, ...], image: Pixels | None, title: str
) -> "Figure":
    """The blocks in rows of about equal length."""
    across = -(-len(blocks) // -(-len(blocks) // _ACROSS))
    width, bottom = across * _COLUMN + 2 * _MARGIN, _MARGIN
    with new_figure(width, 1) as figure:
        axes: Any = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        if title:
            bottom += _LINE
            axes.text(_MARGIN, bottom, *short_names([title]), fontsize=12, fontweight="bold")
        for at in range(0, len(blocks), across):
            bottom = _draw_row(axes, blocks[at : at + across], shape, image, bottom + _MARGIN)
        figure.set_size_inches(width, bottom)
        axes.set(xlim=(0, width), ylim=(bottom, 0), aspect="auto")
        return figure


def _draw_row(
    axes: "Axes",
    blocks: Sequence[Block],
    shape: tuple[int, ...],
    image: Pixels | None,
    top: float,
) -> float:
    """Draw blocks next to each other, below `top`; where they end."""
    size = shape[1:] if len(shape) == 3 else ()
    names, notes = [_names(block) for block in blocks], [_notes(block, size) for block in blocks]
    faces = [_face(block.shape, size, number) for number, block in enumerate(blocks)]
    y = top + max(
        _LINE * len(lines) - face[1] + depth / 2
        for lines, (face, depth) in zip(names, faces, strict=True)
    )
    below = y + _GAP + (_IMAGE * size[0] / max(size) + _GAP / 2 if size else 0)
    for number, (block, (face, depth)) in enumerate(zip(blocks, faces, strict=True)):
        face = face[0], face[1] + y, face[2], face[3] + y
        x = _MARGIN + (number + 0.5) * _COLUMN
        if block.shape:
            _draw_block(axes, block, face, depth)
        lift = depth / 2 + _LINE * (len(names[number]) - 0.6)
        _write(axes, x, face[1] - lift, names[number])
        _write(axes, x, below + 0.7 * _LINE, notes[number])
        if size and block.shape:
            pixels = _pixels(shape, image)
            if block.name == "input":
                _show(axes, pixels, face)
            _draw_seen(axes, block, (x, y + _GAP), size, pixels, _unit(block.shape, face))
    return below + _LINE * max(map(len, notes)) + _MARGIN


def _names(block: Block) -> Texts:
    """The lines above a block."""
    shape = [(times(block.shape), "bold")] if block.shape else []
    details = [(line, "normal") for line in block.details]
    return [(_shortened(block.name), "bold"), *details, *shape]


def _notes(block: Block, image: Sequence[int]) -> Texts:
    """The lines below a block, or below its image."""
    seen = []
    if image and block.shape:
        field = "?" if block.seen is None else times(block.seen) + "*" * block.probed
        seen = [(f"sees {field}", "bold")]
        if block.is_clipped(image):
            seen.append(("(clipped)", "normal"))
    params = [f"{block.params:,} params"] if block.params else []
    others = textwrap.wrap(", ".join(map(_shortened, block.pointwise)), _LETTERS)
    return seen + [(line, "normal") for line in [*params, *others]]


def _shortened(name: str) -> str:
    return name if len(name) < _LETTERS else f"{name[: _LETTERS - 2]}…"


def _write(axes: "Axes", x: float, y: float, lines: Texts) -> None:
    """Write lines below each other, the first on the baseline y, centered at x."""
    for number, (text, weight) in enumerate(lines):
        shown = text.replace("$", r"\$")
        axes.text(x, y + number * _LINE, shown, fontsize=10, fontweight=weight, ha="center")


def _pixels(shape: tuple[int, ...], image: Pixels | None) -> Pixels:
    """The image, or a grid of its size, (height, width, 4)."""
    if image is None:
        rows, columns = np.indices(shape[1:]) // max(1, max(shape[1:]) // 14)
        image = np.where((rows + columns) % 2, 140, 180).astype(np.uint8)[None]
    pixels: Pixels = colored(image[None])[0]
    return pixels


def _grid(shape: tuple[int, ...]) -> Pair:
    """Rows and columns of a block's front: the pixels of a map, or the numbers of a vector."""
    return (shape[-2], shape[-1]) if len(shape) > 1 else ((*shape, 1)[0], 1)


def _face(shape: tuple[int, ...], image: Sequence[int], column: int) -> tuple[Box, float]:
    """The front of a block that stands at height 0, and its depth, which grows with the channels.

    Sides grow with the square root of the pixels: 1x1 would not be visible next to 28x28.
    """
    is_map = len(shape) == 3
    full = image if is_map and image else (64, 64)
    high, wide = (
        _FACE * sqrt(min(1.2 * most, count) / max(full))
        for count, most in zip(_grid(shape), full, strict=True)
    )
    depth = min(_DEPTH, 0.03 + 0.01 * shape[0]) if is_map else 0.06
    left = _MARGIN + (column + 0.5) * _COLUMN - (wide + depth) / 2
    return (left, -high, left + wide, 0.0), depth


def _unit(shape: tuple[int, ...], face: Box) -> Box:
    """The box of the unit in the middle of a block's front."""
    left, top, right, bottom = face
    rows, columns = _grid(shape)
    high, wide = (bottom - top) / rows, (right - left) / columns
    x, y = left + (columns - 1) // 2 * wide, top + (rows - 1) // 2 * high
    return x, y, x + wide, y + high


def _draw_block(axes: "Axes", block: Block, face: Box, depth: float) -> None:
    """Draw a box with lines between its channels and, if they are few, its pixels."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Polygon

    left, top, right, bottom = face
    (rows, columns), maps = _grid(block.shape), block.shape[0] if len(block.shape) == 3 else 1
    front = [(left, top), (right, top), (right, bottom), (left, bottom)]
    color = next((_COLORS[kind] for kind in _COLORS if kind in block.name.lower()), COLORS[5])
    behind = [(x + depth, y - depth / 2) for x, y in front]
    for corners, shade, strength in (
        (front, "white", 0.0),
        ([front[0], behind[0], behind[1], front[1]], "white", 0.4),
        ([front[1], behind[1], behind[2], front[2]], "black", 0.25),
    ):
        side = Polygon(corners, facecolor=color, linewidth=0)
        add_title(side, f"{block.name}: {block.params:,} parameters, {block.macs:,} multiply-adds")
        axes.add_artist(side)
        axes.add_artist(Polygon(corners, facecolor=shade, alpha=strength, linewidth=0))
    lines: list[list[tuple[float, float]]] = []
    if maps <= _MOST_CHANNELS:
        steps = [depth * number / maps for number in range(1, maps)]
        lines += [[(x + step, y - step / 2) for x, y in front[:3]] for step in steps]
    if max(rows, columns) <= _MOST_PIXELS:
        xs = [left + (right - left) * number / columns for number in range(1, columns)]
        ys = [top + (bottom - top) * number / rows for number in range(1, rows)]
        lines += [[(x, top), (x, bottom)] for x in xs] + [[(left, y), (right, y)] for y in ys]
    axes.add_artist(LineCollection(lines, colors="white", linewidths=0.4, alpha=0.5))


def _draw_seen(
    axes: "Axes",
    block: Block,
    place: tuple[float, float],
    size: Sequence[int],
    pixels: Pixels,
    unit: Box,
) -> None:
    """Draw the image below `place`, bright where the unit sees it, and the lines between."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Polygon, Rectangle

    scale = _IMAGE / max(size)
    left, top = place[0] - scale * size[1] / 2, place[1]
    shown = pixels.copy()
    shown[..., 3] = 60
    if block.seen is not None:
        (up, down), (west, east) = (
            (max(0, at), min(side, at + seen))
            for at, seen, side in zip(block.corner, block.seen, size, strict=True)
        )
        step = -(-size[0] // len(pixels))
        shown[up // step : -(-down // step), west // step : -(-east // step), 3] = 255
    _show(axes, shown, (left, top, left + scale * size[1], top + scale * size[0]))
    if block.seen is None:
        return
    box = (left + scale * west, top + scale * up, left + scale * east, top + scale * down)
    beam = [(unit[0], unit[3]), (unit[2], unit[3]), (box[2], box[1]), (box[0], box[1])]
    axes.add_artist(Polygon(beam, facecolor=_SEEN, alpha=0.25, linewidth=0))
    lines = [[beam[0], beam[3]], [beam[1], beam[2]]]
    axes.add_artist(LineCollection(lines, colors=_SEEN, linewidths=0.7))
    for x, y, right, bottom, fill in ((*unit, True), (*box, False)):
        axes.add_artist(
            Rectangle(
                (x, y),
                right - x,
                bottom - y,
                fill=fill,
                facecolor=_SEEN,
                edgecolor=_SEEN,
                linewidth=0.7 + (not fill),
            )
        )


def _show(axes: "Axes", pixels: Pixels, box: Box) -> None:
    left, top, right, bottom = box
    axes.imshow(pixels, extent=(left, right, bottom, top), interpolation="none", zorder=1)
