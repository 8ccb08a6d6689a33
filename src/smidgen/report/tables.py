"""A profile as text: layer table, receptive field table, totals; and tables for reports."""

import textwrap
from collections.abc import Sequence

from smidgen.record import Pair, Profile


def layer_table(profile: Profile) -> str:
    """A row for each layer: type and number, output shape, parameters, MACs, receptive field.

    The receptive field is "-" where it is not defined or not known.
    """
    header = ("Layer (type)", "Output Shape", "Param #", "MACs", "RF")
    rows = [
        (
            layer.name,
            str([-1, *layer.output_shape]),
            f"{layer.params:,}",
            f"{layer.macs:,}",
            (square(layer.rf_out) if layer.rf_out else "-") + "*" * layer.rf_probed,
        )
        for layer in profile.layers
    ]
    return _ruled(header, rows, minimum=(20, 20, 10, 12, 6))


def receptive_field_table(profile: Profile) -> str:
    """How the square that an output sees grows: a row where a window or the whole map widens it.

    Kernel, stride and padding are "-" for what looks at the whole map; "?" is not known.
    """
    header, rows = receptive_field_rows(profile)
    return _ruled(header, rows, minimum=(0,) * len(header))


def receptive_field_rows(profile: Profile) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and cells of the receptive field table."""
    header: tuple[str, ...] = (
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


def totals(profile: Profile) -> str:
    """Parameters, multiply-adds and bytes, a line each; then what could not be determined."""
    fixed = profile.num_params - profile.num_trainable_params
    lines = [
        f"{'Total params':<26}{profile.num_params:>14,}",
        f"{'Trainable params':<26}{profile.num_trainable_params:>14,}",
        f"{'Non-trainable params':<26}{fixed:>14,}",
        f"{'MACs (one image)':<26}{profile.macs:>14,}",
        _bytes_line("Weights", profile.weight_bytes),
        _bytes_line("Peak activations", profile.peak_activation_bytes),
        _bytes_line("Largest buffer", profile.largest_buffer_bytes),
        *(textwrap.fill(f"Note: {note}", 99, subsequent_indent="  ") for note in profile.notes),
    ]
    return "\n".join(lines)


def summary(profile: Profile) -> str:
    """Layer table, receptive field table and totals."""
    return "\n\n".join([layer_table(profile), receptive_field_table(profile), totals(profile)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned in the text too; bars in cells are escaped.

    >>> print(markdown_table(["layer", "params"], [["Conv2d-1", "90"]]))
    | layer    | params |
    |----------|--------|
    | Conv2d-1 | 90     |
    """
    cells = [[_cell(text) for text in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def square(pair: Pair | None) -> str:
    """A size in one number where both sides agree; "?" where it is not known.

    >>> square((22, 22)), square((22, 14)), square(None)
    ('22', '22x14', '?')
    """
    if pair is None:
        return "?"
    return str(pair[0]) if pair[0] == pair[1] else _size(pair)


def _size(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"


def _map_size(shape: tuple[int, ...]) -> str:
    """Of a map (channels, height, width); the shape as it is where there is none."""
    return "x".join(map(str, shape[1:] if len(shape) == 3 else shape)) or "-"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _bytes_line(name: str, count: int) -> str:
    return f"{name + ' (bytes)':<26}{count:>14,} ({count / 1024:,.1f} KiB)"


def _ruled(header: Sequence[str], rows: Sequence[Sequence[str]], minimum: Sequence[int]) -> str:
    """Columns to the right between a rule of dashes, one of equals signs and one below."""
    columns = zip(header, *rows, strict=True)
    widths = [max(m, *map(len, column)) for m, column in zip(minimum, columns, strict=True)]
    gap = 2 if sum(widths) + 2 * len(widths) <= 100 else 1
    lines = [
        (" " * gap).join(text.rjust(w) for text, w in zip(row, widths, strict=True))
        for row in (header, *rows)
    ]
    length = sum(widths) + gap * (len(widths) - 1)
    return "\n".join(["-" * length, lines[0], "=" * length, *lines[1:], "-" * length])
