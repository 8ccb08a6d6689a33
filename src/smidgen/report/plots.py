"""The plots of a run: plain data in, matplotlib figures out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smidgen.record import CalibrationBin, Epoch, Profile, Score
from smidgen.report.image_grid import arrange, draw_images, image_grid
from smidgen.report.style import COLORS, INK, NARROW, line_style, new_figure, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[int, float]]
Confusion = tuple[tuple[int, ...], ...]
"""Images by true class (row) and predicted class (column)."""

_MOST_MAPS = 32  # filters and feature maps that are shown
_DIAGONAL = "#cfe8dc"  # of a confusion matrix
_DARK, _PALE = "#000000", "#ffffff"  # text on colored cells, whatever the page's color


def loss_curves(epochs: Sequence[Epoch]) -> "Figure":
    """Cross-entropy by epoch, on a logarithmic axis."""
    lines = [
        (name, [(epoch, score.loss) for epoch, score in points]) for name, points in _series(epochs)
    ]
    return curves(lines, title="Loss", ylabel="cross-entropy")


def accuracy_curves(epochs: Sequence[Epoch], target: float | None) -> "Figure":
    """Accuracy by epoch, with the target as a dotted line."""
    lines = [
        (name, [(epoch, 100 * score.accuracy) for epoch, score in points])
        for name, points in _series(epochs)
    ]
    return curves(lines, title="Accuracy", ylabel="accuracy, %", target=target)


def curves(
    lines: Sequence[tuple[str, Points]],
    *,
    title: str,
    ylabel: str,
    target: float | None = None,
    columns: int = 3,
    height: float = 3.4,
) -> "Figure":
    """Named lines through (epoch, value) points, with a legend below the axes.

    An axis in percent is cut off below, at the target, the best values and the ends of the lines;
    any other is logarithmic. A `target` is a fraction. `columns` are those of the legend.
    """
    with new_figure(NARROW, height) as figure:
        axes = figure.subplots()
        for number, (name, points) in enumerate(lines):
            if points:
                draw_line(axes, number, name, points)
        drawn = [points for _, points in lines if points]
        if "%" in ylabel:
            _limit_percentages(axes, target, drawn)
        elif any(value > 0 for points in drawn for _, value in points):
            axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel=ylabel, title=title)
        _put_ticks_at_integers(axes)
        add_legend(figure, columns)
        return figure


def learning_rate(epochs: Sequence[Epoch]) -> "Figure":
    """The learning rate at the end of each epoch."""
    with new_figure(NARROW, 3.4) as figure:
        axes = figure.subplots()
        draw_line(axes, 0, "learning rate", [(epoch.epoch, epoch.lr) for epoch in epochs])
        axes.set(xlabel="epoch", ylabel="learning rate", title="Learning rate")
        axes.set_ylim(bottom=0)
        _put_ticks_at_integers(axes)
        return figure


def draw_line(axes: "Axes", number: int, name: str, points: Points) -> None:
    """Draw a named line through (x, y) points, in the style of its number."""
    look: Any = line_style(number)
    axes.plot(*zip(*points, strict=True), markersize=4, linewidth=1.6, label=name, **look)


def add_legend(figure: "Figure", columns: int) -> None:
    """Add a legend below the axes, where no curve crosses it, in rows of `columns` entries."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    # matplotlib fills a legend column by column, readers go row by row
    order = [i for column in range(columns) for i in range(column, len(labels), columns)]
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside lower center",
        ncols=columns,
        fontsize=9 if len(labels) > 4 else 10,
        columnspacing=1 if columns > 3 else 2,
        handlelength=1.8 if columns > 3 else 2.2,
    )


def _limit_percentages(axes: "Axes", target: float | None, lines: Sequence[Points]) -> None:
    highest = max((value for points in lines for _, value in points), default=0.0)
    lowest = min((points[-1][1] for points in lines), default=0.0)
    bottom = min(highest - 3, lowest - max(1, (100 - lowest) * 0.05))
    if target is not None:
        bottom = min(bottom, 100 * target - 1)
        name = f"target {100 * target:.2f} %"
        axes.axhline(100 * target, color=INK, linestyle=(0, (1, 2)), linewidth=1.5, label=name)
    axes.set_ylim(max(0, bottom), 100 + max(0.1, (100 - bottom) * 0.03))


def _put_ticks_at_integers(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 2.5


def confusion_matrix(confusion: Confusion, classes: Sequence[str]) -> "Figure":
    """Images by true class (row) and predicted class (column); errors stand out."""
    from matplotlib import colormaps

    labels = short_names(classes)
    side = min(9.0, max(NARROW, 0.8 + 0.07 * max(map(len, labels)) + 0.36 * len(classes)))
    counts = np.array(confusion, dtype=float)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(fractions, np.nan)
    cmap = colormaps["Oranges"].with_extremes(bad=_DIAGONAL)
    with new_figure(side, side) as figure:
        axes = figure.subplots()
        top = max(np.nanmax(fractions, initial=0), 1e-9)
        image: Any = axes.imshow(fractions, cmap=cmap, vmin=0, vmax=top, interpolation="nearest")
        axes.set_xticks(range(len(classes)), labels)
        axes.set_yticks(range(len(classes)), labels)
        axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
        axes.grid(visible=False)
        if max(map(len, classes)) > 2:
            axes.tick_params(axis="x", rotation=60)
        if len(classes) <= 20:
            cells = image.cmap(image.norm(image.get_array()))
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    color = _text_color(cells[row, column])
                    middle: Any = {"ha": "center", "va": "center"}
                    axes.text(column, row, f"{count:.0f}", fontsize=9, color=color, **middle)
        return figure


def _text_color(cell: Sequence[float]) -> str:
    """Black or white, whichever stands out from the cell by relative luminance (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in cell[:3]]
    luminance = float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
    return _DARK if luminance > 0.179 else _PALE


def class_accuracy(confusion: Confusion, classes: Sequence[str]) -> "Figure":
    """Accuracy by class, from the confusion matrix."""
    counts = np.array(confusion, dtype=float)
    accuracies = 100 * counts.diagonal() / np.maximum(counts.sum(1), 1)
    with new_figure(NARROW, max(3.2, 0.9 + 0.24 * len(classes))) as figure:
        axes = figure.subplots()
        bars: Any = axes.barh(range(len(classes)), accuracies, color=COLORS[0])
        axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
        axes.set_yticks(range(len(classes)), short_names(classes))
        lowest = accuracies.min()
        axes.set_xlim(max(0, lowest - 1.5), 100 + (101.5 - lowest) * 0.12)
        axes.set(xlabel="accuracy, %", title="Accuracy by class")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        return figure


def worst_predictions(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
) -> "Figure":
    """Misclassified images, each next to its most probable classes and the true one, as bars."""
    columns = 2
    rows = -(-len(images) // columns)
    longest = max(map(len, short_names(classes)))
    with new_figure(NARROW + 0.14 * max(0, longest - 6), 1.15 * rows + 0.2) as figure:
        grid = figure.subplots(rows, 2 * columns, width_ratios=[1, 1.3] * columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        places = grid.reshape(-1, 2)
        for (left, right), *prediction in zip(places, images, labels, probabilities, strict=False):
            image, label, values = prediction
            draw_images(left, arrange([image[None]]))
            _draw_probabilities(right, label, values, classes)
        return figure


def _draw_probabilities(
    axes: "Axes", label: int, probabilities: NDArray[np.float32], classes: Sequence[str]
) -> None:
    shown = list(np.argsort(-probabilities)[:3])
    if label not in shown:
        shown[-1] = label
    colors = [COLORS[2] if c == label else COLORS[1] for c in shown]
    axes.set_axis_on()
    axes.barh(range(len(shown)), [100 * probabilities[c] for c in shown], color=colors)
    axes.set_yticks(range(len(shown)), short_names([classes[c] for c in shown]))
    axes.set(xlim=(0, 100), xticks=[0, 100], xticklabels=["0", "100 %"])
    axes.tick_params(labelsize=10, length=0)
    axes.invert_yaxis()
    axes.grid(visible=False)


def reliability_diagram(bins: Sequence[CalibrationBin]) -> "Figure":
    """Accuracy against confidence, with a bar for the number of images in each bin."""
    filled = [b for b in bins if b.num_images]
    x = [100 * b.confidence for b in filled]
    y = [100 * b.accuracy for b in filled]
    with new_figure(NARROW, 3.6) as figure:
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=INK, linestyle="--", linewidth=1, label="calibrated")
        axes.plot(x, y, color=COLORS[0], marker="o", label="this network")
        counts = axes.twinx()
        counts.bar(x, [b.num_images for b in filled], width=3, color=COLORS[4], alpha=0.5)
        counts.set(yscale="log", ylabel="images")
        counts.grid(visible=False)
        axes.set(xlabel="confidence, %", ylabel="accuracy, %", title="Calibration")
        axes.set(xlim=(0, 101), ylim=(0, 102))
        figure.legend(loc="outside lower center", ncols=2, fontsize=10)
        return figure


def filters(weights: NDArray[np.float32]) -> "Figure":
    """The first convolution's kernels, (filters, channels, height, width): negative to positive."""
    kernels = weights[:_MOST_MAPS]
    if kernels.shape[1] != 3:
        kernels = kernels.mean(1, keepdims=True)
    largest = float(np.abs(kernels).max()) or 1.0
    scaled = np.round((kernels / largest + 1) * 127.5).astype(np.uint8)
    return image_grid(scaled, "Filters of the first convolution", "PuOr", outlined=True)


def feature_maps(maps: NDArray[np.float16]) -> "Figure":
    """The first convolution's output for one image (maps, height, width), each scaled by itself."""
    shown = np.nan_to_num(maps[:_MOST_MAPS].astype(np.float32))  # float16 may overflow
    low = shown.min((1, 2), keepdims=True)
    span = np.maximum(shown.max((1, 2), keepdims=True) - low, 1e-6)
    scaled = np.round((shown - low) / span * 255).astype(np.uint8)
    return image_grid(scaled[:, None], "Their output for one image")


def cost_by_layer(profile: Profile) -> "Figure":
    """Each layer's share of all parameters and of all multiply-adds."""
    rows = [layer for layer in profile.layers if layer.params or layer.macs]
    longest = max(len(layer.name) for layer in rows)
    with new_figure(NARROW + 0.07 * max(0, longest - 18), 1.2 + 0.42 * len(rows)) as figure:
        axes = figure.subplots()
        most = 1.0
        for name, values, color, offset in (
            ("parameters", [layer.params for layer in rows], COLORS[0], -0.2),
            ("multiply-adds", [layer.macs for layer in rows], COLORS[1], 0.2),
        ):
            percentages = [100 * value / max(1, sum(values)) for value in values]
            places = [place + offset for place in range(len(rows))]
            bars: Any = axes.barh(places, percentages, height=0.38, color=color, label=name)
            labels = [_short(value) if value else "" for value in values]
            axes.bar_label(bars, labels=labels, fontsize=9, padding=2)
            most = max(most, *percentages)
        axes.set(title="Cost by layer", xlabel="% of the network", xlim=(0, 1.18 * most))
        axes.set_yticks(range(len(rows)), [layer.name for layer in rows])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower center", ncols=2, fontsize=10)
        return figure


def _short(value: float) -> str:
    """A count in about three digits.

    >>> _short(850), _short(7518), _short(118_240), _short(1_250_000)
    ('850', '7.52k', '118k', '1.25M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def _series(epochs: Sequence[Epoch]) -> list[tuple[str, list[tuple[int, Score]]]]:
    """Training, validation and test scores by epoch, those that the run has."""
    series = [
        ("training", [(e.epoch, e.train) for e in epochs]),
        ("validation", [(e.epoch, e.validation) for e in epochs if e.validation]),
        ("test", [(e.epoch, e.test) for e in epochs if e.test]),
    ]
    return [(name, points) for name, points in series if points]
