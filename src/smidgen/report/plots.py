"""The figures of one run: plain data in, matplotlib figures out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smidgen.record import CalibrationBin, Epoch, Profile, Score
from smidgen.report.image_grid import ImageGrid, mosaic
from smidgen.report.style import COLOURS, INK, LINES, MARKERS, NARROW, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = tuple[tuple[int, ...], ...]

_LETTERS = 25  # of a class name beside a picture
_RIGHT = "#cfe8dc"  # the diagonal of a confusion matrix
_DARK, _PALE = "#000000", "#ffffff"  # letters on coloured cells, whatever the page's colour


def loss_curves(epochs: Sequence[Epoch]) -> "Figure":
    """Cross-entropy by epoch, on a logarithmic axis."""
    with canvas(NARROW, 3.4) as figure:
        axes = figure.subplots()
        for number, (name, points) in enumerate(_series(epochs).items()):
            draw_line(axes, number, name, [(epoch, score.loss) for epoch, score in points])
        axes.set(xlabel="epoch", ylabel="cross-entropy", title="Loss")
        if any(score.loss > 0 for points in _series(epochs).values() for _, score in points):
            axes.set_yscale("log")
        _finish(figure, axes)
        return figure


def accuracy_curves(epochs: Sequence[Epoch], target: float | None) -> "Figure":
    """Accuracy by epoch from where it becomes interesting, with the target as a dashed line."""
    with canvas(NARROW, 3.4) as figure:
        axes = figure.subplots()
        curves = []
        for number, (name, points) in enumerate(_series(epochs).items()):
            curves.append([(epoch, 100 * score.accuracy) for epoch, score in points])
            draw_line(axes, number, name, curves[-1])
        draw_target(axes, target, curves)
        axes.set(xlabel="epoch", ylabel="accuracy, %", title="Accuracy")
        _finish(figure, axes)
        return figure


def draw_target(
    axes: "Axes", target: float | None, curves: Sequence[Sequence[tuple[int, float]]]
) -> None:
    """The target's line, and an axis that shows it, the best percentages and where curves end."""
    highest = max((accuracy for points in curves for _, accuracy in points), default=0.0)
    lowest = min((points[-1][1] for points in curves), default=0.0)
    bottom = min(highest - 3, lowest - max(1, (100 - lowest) * 0.05))
    if target is not None:
        bottom = min(bottom, 100 * target - 1)
        name = f"target {100 * target:.2f} %"
        axes.axhline(100 * target, color=INK, linestyle=(0, (1, 2)), linewidth=1.5, label=name)
    top = 100 + max(0.1, (100 - bottom) * 0.03)
    axes.set_ylim(max(0, bottom), top)


def learning_rate(epochs: Sequence[Epoch]) -> "Figure":
    """The learning rate at the end of each epoch."""
    with canvas(NARROW, 3.4) as figure:
        axes = figure.subplots()
        draw_line(axes, 0, "learning rate", [(epoch.epoch, epoch.lr) for epoch in epochs])
        axes.set(xlabel="epoch", ylabel="learning rate", title="Learning rate")
        axes.set_ylim(bottom=0)
        whole_numbers(axes)
        return figure


def pictures(rows: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> "Figure":
    """Rows of images (n, channels, height, width), one below the other, each under its name."""
    rows = [row for row in rows if len(row)]
    across = max(len(row) for row in rows)
    with canvas(NARROW, NARROW * len(rows) / across + 0.6) as figure:
        for axes, row, name in zip(
            figure.subplots(len(rows), squeeze=False).flat, rows, names, strict=False
        ):
            _picture(axes, [row], title=name)
        return figure


def names(classes: Sequence[str]) -> list[str]:
    """Class names as labels: the middle of long ones is left out, and a dollar starts no formula.

    >>> names(["cat", "a dog that is not a cat, but a dog"])
    ['cat', 'a dog that is…, but a dog']
    """
    short = [name if len(name) <= _LETTERS else f"{name[:13]}…{name[-11:]}" for name in classes]
    return [name.replace("$", r"\$") for name in short]


def confusion(table: Table, classes: Sequence[str]) -> "Figure":
    """Test images by true class (row) and predicted class (column); errors stand out."""
    from matplotlib import colormaps

    longest = max(map(len, names(classes)))
    side = min(9.0, max(NARROW, 0.8 + 0.07 * longest + 0.36 * len(classes)))
    counts = np.array(table, dtype=float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, np.nan)
    cmap = colormaps["Oranges"].with_extremes(bad=_RIGHT)
    with canvas(side, side) as figure:
        axes = figure.subplots()
        top = max(np.nanmax(shares, initial=0), 1e-9)
        image: Any = axes.imshow(shares, cmap=cmap, vmin=0, vmax=top, interpolation="nearest")
        axes.set(
            xticks=range(len(classes)),
            yticks=range(len(classes)),
            xticklabels=names(classes),
            yticklabels=names(classes),
            xlabel="taken for",
            ylabel="is",
            title="Confusion matrix",
        )
        axes.grid(visible=False)
        if max(map(len, classes)) > 2:
            axes.tick_params(axis="x", rotation=60)
        if len(classes) <= 20:
            cells = image.cmap(image.norm(image.get_array()))
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    axes.text(
                        column,
                        row,
                        f"{count:.0f}",
                        ha="center",
                        va="center",
                        fontsize=9,
                        color=_letters(cells[row, column]),
                    )
        return figure


def _letters(cell: Sequence[float]) -> str:
    """The colour that stands out from a cell's, by their relative luminance (WCAG 2)."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in cell[:3]]
    bright = float(np.dot(parts, [0.2126, 0.7152, 0.0722]))
    return _DARK if bright > 0.179 else _PALE


def class_accuracy(table: Table, classes: Sequence[str]) -> "Figure":
    """Accuracy by class, from the confusion matrix."""
    counts = np.array(table, dtype=float)
    shares = 100 * counts.diagonal() / np.maximum(counts.sum(1), 1)
    with canvas(NARROW, max(3.2, 0.9 + 0.24 * len(classes))) as figure:
        axes = figure.subplots()
        axes.barh(range(len(classes)), shares, color=COLOURS[0])
        for place, share in enumerate(shares):
            axes.text(share, place, f" {share:.2f}", va="center", fontsize=8)
        axes.set(
            yticks=range(len(classes)),
            yticklabels=names(classes),
            xlim=(max(0, shares.min() - 1.5), 100 + (101.5 - shares.min()) * 0.12),
            xlabel="accuracy, %",
            title="Accuracy by class",
        )
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        return figure


def most_wrong(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    shares: NDArray[np.float32],
    classes: Sequence[str],
) -> "Figure":
    """Misclassified images, each beside bars of the three most likely classes and the true one."""
    columns = 2
    rows = -(-len(images) // columns)
    longest = max(map(len, names(classes)))
    with canvas(NARROW + 0.14 * max(0, longest - 6), 1.15 * rows + 0.2) as figure:
        grid = figure.subplots(rows, 2 * columns, width_ratios=[1, 1.3] * columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for number, (image, label, share) in enumerate(zip(images, labels, shares, strict=True)):
            row, column = divmod(number, columns)
            _picture(grid[row, 2 * column], [image[None]])
            bars = grid[row, 2 * column + 1]
            bars.set_axis_on()
            likely = list(np.argsort(-share)[:3])
            if label not in likely:
                likely[-1] = label
            colours = [COLOURS[2] if c == label else COLOURS[1] for c in likely]
            bars.barh(range(len(likely)), [100 * share[c] for c in likely], color=colours)
            bars.set(yticks=range(len(likely)), yticklabels=names([classes[c] for c in likely]))
            bars.set(xlim=(0, 100), xticks=[0, 100], xticklabels=["0", "100 %"])
            bars.tick_params(labelsize=10, length=0)
            bars.invert_yaxis()
            bars.grid(visible=False)
        return figure


def reliability(bins: Sequence[CalibrationBin]) -> "Figure":
    """Accuracy against confidence, with a bar for the images of each bin."""
    filled = [b for b in bins if b.num_images]
    middle = [100 * b.confidence for b in filled]
    with canvas(NARROW, 3.6) as figure:
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=INK, linestyle="--", linewidth=1, label="calibrated")
        axes.plot(
            middle,
            [100 * b.accuracy for b in filled],
            color=COLOURS[0],
            marker="o",
            label="this network",
        )
        counts = axes.twinx()
        counts.bar(middle, [b.num_images for b in filled], width=3, color=COLOURS[4], alpha=0.5)
        counts.set(yscale="log", ylabel="images")
        counts.grid(visible=False)
        axes.set(xlabel="confidence, %", ylabel="accuracy, %", title="Calibration")
        axes.set(xlim=(0, 101), ylim=(0, 102))
        figure.legend(loc="outside lower center", ncols=2, fontsize=10)
        return figure


def filters(weights: NDArray[np.float32]) -> "Figure":
    """The first convolution's kernels, (filters, channels, height, width): negative to positive."""
    kernels = weights[:32].transpose(0, 2, 3, 1)
    if kernels.shape[-1] != 3:
        kernels = kernels.mean(-1, keepdims=True)
    reach = float(np.abs(kernels).max()) or 1.0
    scaled = np.round((kernels / reach + 1) * 127.5).astype(np.uint8)
    figure = _in_rows(scaled.transpose(0, 3, 1, 2), "Filters of the first convolution", "PuOr")
    _outline(figure.axes[0], mosaic(_rows(scaled.transpose(0, 3, 1, 2))), len(scaled))
    return figure


def feature_maps(maps: NDArray[np.float16]) -> "Figure":
    """What the first convolution makes of one image, each map on its own scale."""
    shown = maps.astype(np.float32)
    low = shown.min((1, 2), keepdims=True)
    span = np.maximum(shown.max((1, 2), keepdims=True) - low, 1e-6)
    scaled = np.round((shown - low) / span * 255).astype(np.uint8)
    return _in_rows(scaled[:, None], "What they make of one image", "gray")


def cost_by_layer(profile: Profile) -> "Figure":
    """What each layer that has any takes of all parameters and of all multiply-adds."""
    rows = [layer for layer in profile.layers if layer.params or layer.macs]
    longest = max((len(layer.name) for layer in rows), default=0)
    with canvas(NARROW + 0.07 * max(0, longest - 18), 1.2 + 0.42 * len(rows)) as figure:
        axes = figure.subplots()
        most = 1.0
        for name, values, colour, offset in (
            ("parameters", [layer.params for layer in rows], COLOURS[0], -0.2),
            ("multiply-adds", [layer.macs for layer in rows], COLOURS[1], 0.2),
        ):
            shares = [100 * value / max(1, sum(values)) for value in values]
            places = [place + offset for place in range(len(rows))]
            axes.barh(places, shares, height=0.38, color=colour, label=name)
            for place, value, share in zip(places, values, shares, strict=True):
                if value:
                    axes.text(share, place, f" {_short(value)}", va="center", fontsize=9)
            most = max(most, *shares)
        axes.set(title="Where the cost is", xlabel="% of the network", xlim=(0, 1.18 * most))
        axes.set(yticks=range(len(rows)), yticklabels=[layer.name for layer in rows])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower center", ncols=2, fontsize=10)
        return figure


def _short(value: float) -> str:
    """A count in three digits or so.

    >>> _short(850), _short(7518), _short(118_240), _short(1_250_000)
    ('850', '7.52k', '118k', '1.25M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def _series(epochs: Sequence[Epoch]) -> dict[str, list[tuple[int, Score]]]:
    """Training, validation and test scores by epoch, as far as they are there."""
    series: dict[str, list[tuple[int, Score]]] = {}
    for name in ("train", "validation", "test"):
        points = [(epoch.epoch, getattr(epoch, name)) for epoch in epochs]
        if shown := [(epoch, score) for epoch, score in points if score is not None]:
            series["training" if name == "train" else name] = shown
    return series


def style(number: int) -> dict[str, str]:
    """Colour, marker and line of the curve with that number: no two of the first 36 are alike."""
    turn = number // len(COLOURS)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[(number + turn) % len(MARKERS)],
        "linestyle": LINES[turn % len(LINES)],
    }


def draw_line(axes: "Axes", number: int, name: str, points: Sequence[tuple[int, float]]) -> None:
    """A named line through the points, in the style of its number."""
    across, up = [x for x, _ in points], [y for _, y in points]
    look: Any = style(number)
    axes.plot(across, up, markersize=4, linewidth=1.6, label=name, **look)


def _finish(figure: "Figure", axes: "Axes") -> None:
    whole_numbers(axes)
    if axes.lines:  # below the axes, where no curve crosses it
        columns = 2 if len(axes.lines) == 4 else 3
        figure.legend(loc="outside lower center", ncols=columns, fontsize=10)


def whole_numbers(axes: "Axes") -> None:
    """Ticks of the horizontal axis at whole numbers only: there is no epoch 2.5."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _rows(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [images[start : start + 8] for start in range(0, len(images), 8)]


def _outline(axes: "Axes", tiles: ImageGrid, number: int) -> None:
    """A line around each tile: one may be as pale as the page in its middle."""
    from matplotlib.patches import Rectangle

    high, wide = tiles.tile
    for place in range(number):
        row, column = divmod(place, len(tiles.middle_columns))
        corner = (tiles.middle_columns[column] - wide / 2, tiles.middle_rows[row] - high / 2)
        axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor="#888888", linewidth=1))


def _in_rows(images: NDArray[np.uint8], title: str, cmap: str) -> "Figure":
    """Images (n, channels, height, width) in rows of up to eight."""
    rows = _rows(images)
    height, width = mosaic(rows).sheet.shape[:2]
    with canvas(NARROW, NARROW * height / width + 0.4) as figure:
        _picture(figure.subplots(), rows, title, cmap)
        return figure


def _picture(
    axes: "Axes", rows: Sequence[NDArray[np.uint8]], title: str = "", cmap: str = "gray"
) -> None:
    axes.imshow(mosaic(rows, cmap).sheet, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title, loc="left", fontsize=10)
