"""What is known of a network without training it, and how that reads as text and as HTML.

Sizes are (height, width) in pixels; shapes leave out the batch.
"""

import textwrap
from dataclasses import dataclass

from smidgen.formatting import html_table, narrowed, ruled_table

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The sliding window of a convolution or pooling layer; pairs are (vertical, horizontal)."""

    kernel: Pair
    """Size of the kernel, in pixels of the input."""
    stride: Pair
    """Pixels between two positions of the window."""
    padding: Pair
    """Pixels added on each side."""
    dilation: Pair
    """Pixels between two taps of the kernel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One row of the layer table: a module that ran, or a function that is not just pointwise."""

    name: str
    """Type and number in the order of execution, such as Conv2d-1."""
    path: str
    """The module's dotted name in the network."""
    operation: str
    """The type alone, such as Conv2d."""
    input_shape: tuple[int, ...]
    """Without the batch."""
    output_shape: tuple[int, ...]
    """Without the batch."""
    params: int
    """Parameters that no earlier row has counted."""
    macs: int
    """Multiply-adds for one image."""
    window: Window | None
    """None if nothing slides over the input."""
    rf_in: Pair | None
    """Receptive field of the input, in pixels of the image; None if undefined or unknown."""
    rf_out: Pair | None
    """Receptive field of the output, likewise."""
    rf_probed: bool
    """Whether rf_out was measured by a probe, which cannot see beyond the image's borders."""
    jump_in: Pair | None
    """Distance of two neighbors of the input, in pixels of the image."""
    jump_out: Pair | None
    """Distance of two neighbors of the output, likewise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What can be known of a network without training it; docs/definitions.md defines each number.

    As text and in a notebook it shows layers, receptive fields and totals.
    """

    input_shape: tuple[int, ...]
    """Without the batch."""
    output_shape: tuple[int, ...]
    """Without the batch."""
    layers: tuple[Layer, ...]
    """In the order of execution."""
    num_params: int
    """Parameters, trainable or not; shared ones count once."""
    num_trainable_params: int
    """Parameters that have gradients."""
    macs: int
    """Multiply-adds for one image."""
    weight_bytes: int
    """Bytes of parameters and buffers."""
    peak_activation_bytes: int
    """Most bytes of activations alive at once, for one image at inference."""
    largest_buffer_bytes: int
    """Bytes of the largest activation."""
    notes: tuple[str, ...]
    """One sentence for each thing that the profile could not determine."""

    def __str__(self) -> str:
        return self.text()

    def text(self, max_width: int | None = None) -> str:
        """Layers, receptive fields and totals as text; tables leave out columns to fit."""
        return "\n\n".join(
            [
                layer_table(self, max_width),
                receptive_field_table(self, max_width),
                totals(self, min(max_width or 99, 99)),
            ]
        )

    def _repr_html_(self) -> str:
        """Layers, receptive fields and totals as tables, for notebooks."""
        tables = (layer_rows(self), receptive_field_rows(self), (("", ""), total_rows(self)))
        notes = (("note",), [(note,) for note in self.notes])
        return "\n".join(html_table(*table) for table in (*tables, notes) if table[1])


Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""The header and the rows of a table."""

_LAYER_TABLE_WIDTHS = (20, 20, 10, 12, 6)
_LAYER_TABLE_WIDTH = sum(_LAYER_TABLE_WIDTHS) + 2 * 4


def layer_table(profile: Profile, max_width: int | None = None) -> str:
    """A row for each layer: type and number, output shape, parameters, MACs, receptive field.

    The receptive field is "-" if it is undefined or unknown.
    """
    table = layer_rows(profile)
    if max_width is None or max_width >= _LAYER_TABLE_WIDTH:
        return ruled_table(*table, min_widths=_LAYER_TABLE_WIDTHS)
    return ruled_table(*narrowed(*table, max_width, ("MACs", "RF")))


def layer_rows(profile: Profile) -> Table:
    """Header and rows of the layer table."""
    rows: list[tuple[str, ...]] = [
        (
            layer.name,
            str([-1, *layer.output_shape]),
            f"{layer.params:,}",
            f"{layer.macs:,}",
            (square(layer.rf_out) if layer.rf_out else "-") + "*" * layer.rf_probed,
        )
        for layer in profile.layers
    ]
    return ("Layer (type)", "Output Shape", "Param #", "MACs", "RF"), rows


def receptive_field_table(profile: Profile, max_width: int | None = None) -> str:
    """How the receptive field grows: a row for each layer with a window, or that widens it.

    Kernel, stride and padding are "-" for a layer that sees the whole map; "?" is unknown.
    """
    optional = ("Layer", "Input", "RF In", "Jump In", "Padding", "Stride")
    return ruled_table(*narrowed(*receptive_field_rows(profile), max_width, optional))


def receptive_field_rows(profile: Profile) -> Table:
    """Header and rows of the receptive field table."""
    header = (
        *("Layer", "Operation", "Kernel", "Stride", "Padding", "Input", "Output"),
        *("RF In", "RF Out", "Jump In", "Jump Out"),
    )
    rows: list[tuple[str, ...]] = []
    for layer in profile.layers:
        if layer.window is None and layer.rf_in == layer.rf_out:
            continue
        window = layer.window
        rows.append(
            (
                str(len(rows) + 1),
                layer.operation,
                _size(window.kernel) if window else "-",
                square(window.stride) if window else "-",
                square(window.padding) if window else "-",
                _map_size(layer.input_shape),
                _map_size(layer.output_shape),
                square(layer.rf_in),
                square(layer.rf_out) + "*" * layer.rf_probed,
                square(layer.jump_in),
                square(layer.jump_out),
            )
        )
    return header, rows


def totals(profile: Profile, max_width: int = 99) -> str:
    """Parameters, multiply-adds and bytes, one line each; then the profile's notes."""
    lines = []
    for name, total in total_rows(profile):
        number, *rest = total.split(" ", 1)
        lines.append(" ".join([f"{name:<26}{number:>14}", *rest]))
    notes = [
        textwrap.fill(f"Note: {note}", max_width, subsequent_indent="  ") for note in profile.notes
    ]
    return "\n".join([*lines, *notes])


def total_rows(profile: Profile) -> list[tuple[str, ...]]:
    """Name and value of each total."""
    counts = {
        "Total params": profile.num_params,
        "Trainable params": profile.num_trainable_params,
        "Non-trainable params": profile.num_params - profile.num_trainable_params,
        "MACs (one image)": profile.macs,
    }
    sizes = {
        "Weights (bytes)": profile.weight_bytes,
        "Peak activations (bytes)": profile.peak_activation_bytes,
        "Largest buffer (bytes)": profile.largest_buffer_bytes,
    }
    return [
        *((name, f"{count:,}") for name, count in counts.items()),
        *((name, f"{size:,} ({size / 1024:,.1f} KiB)") for name, size in sizes.items()),
    ]


def square(pair: Pair | None) -> str:
    """A size as one number if both sides agree; "?" if it is unknown.

    >>> square((22, 22)), square((22, 14)), square(None)
    ('22', '22x14', '?')
    """
    if pair is None:
        return "?"
    return str(pair[0]) if pair[0] == pair[1] else _size(pair)


def _size(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"


def _map_size(shape: tuple[int, ...]) -> str:
    """Height and width of a map; the shape itself if it is none."""
    return "x".join(map(str, shape[1:] if len(shape) == 3 else shape)) or "-"
