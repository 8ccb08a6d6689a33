"""The figures of one run: plain data in, matplotlib figures out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smidgen.record import CalibrationBin, Epoch, Profile, Score
from smidgen.report.canvas import COLOURS, INK, MARKERS, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = tuple[tuple[int, ...], ...]

_LETTERS = 25  # of a class name beside a picture
_SIDE = 96  # pixels of an image on a page: more would not be seen, but make it large


def loss_curves(epochs: Sequence[Epoch]) -> "Figure":
    """Cross-entropy by epoch, on a logarithmic axis."""
    with canvas(4.6, 3.2) as figure:
        axes = figure.subplots()
        for number, (name, points) in enumerate(_series(epochs).items()):
            draw_line(axes, number, name, [(epoch, score.loss) for epoch, score in points])
        axes.set(xlabel="epoch", ylabel="cross-entropy", title="Loss")
        if any(score.loss > 0 for points in _series(epochs).values() for _, score in points):
            axes.set_yscale("log")
        _finish(axes)
        return figure


def accuracy_curves(epochs: Sequence[Epoch], target: float | None) -> "Figure":
    """Accuracy by epoch from where it becomes interesting, with the target as a dashed line."""
    with canvas(4.6, 3.2) as figure:
        axes = figure.subplots()
        best = 0.0
        for number, (name, points) in enumerate(_series(epochs).items()):
            shown = [(epoch, 100 * score.accuracy) for epoch, score in points]
            draw_line(axes, number, name, shown)
            best = max(best, *(accuracy for _, accuracy in shown))
        draw_target(axes, target, best)
        axes.set(xlabel="epoch", ylabel="accuracy, %", title="Accuracy")
        _finish(axes)
        return figure


def draw_target(axes: "Axes", target: float | None, best: float) -> None:
    """The target's line, and an axis cut some points below it and below the best percentage."""
    bottom = best - 3
    if target is not None:
        bottom = min(bottom, 100 * target - 1)
        axes.axhline(100 * target, color=INK, linestyle="--", linewidth=1)
        axes.annotate(
            f"target {100 * target:.2f} %",
            (0, 100 * target),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize="small",
        )
    top = 100 + max(0.1, (100 - bottom) * 0.03)
    axes.set_ylim(max(0, bottom), top)


def learning_rate(epochs: Sequence[Epoch]) -> "Figure":
    """The learning rate at the end of each epoch."""
    with canvas(4.6, 3.2) as figure:
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
    with canvas(7.4, 7.4 * len(rows) / across + 0.5) as figure:
        for axes, row, name in zip(
            figure.subplots(len(rows), squeeze=False).flat, rows, names, strict=False
        ):
            _picture(axes, _side_by_side(row), title=name)
        return figure


def names(classes: Sequence[str]) -> list[str]:
    """Class names as labels: the middle of long ones is left out, and none is taken for a formula.

    >>> names(["cat", "$5", "a dog that is not a cat, but a dog"])
    ['cat', '\\\\$5', 'a dog that is…t, but a dog']
    """
    short = [name if len(name) <= _LETTERS else f"{name[:13]}…{name[-11:]}" for name in classes]
    return [name.replace("$", r"\$") for name in short]


def confusion(table: Table, classes: Sequence[str]) -> "Figure":
    """Test images by true class (row) and predicted class (column); errors stand out."""
    side = min(9.0, max(4.6, 2.2 + 0.42 * len(classes)))
    counts = np.array(table, dtype=float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    with canvas(side, side) as figure:
        axes = figure.subplots()
        top = max(shares.max(), 1e-9)
        axes.imshow(shares, cmap="Oranges", vmin=0, vmax=top, alpha=0.8)
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
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    dark = shares[row, column] < 0.6 * top
                    axes.text(
                        column,
                        row,
                        f"{count:.0f}",
                        ha="center",
                        va="center",
                        fontsize=8,
                        color=INK if dark else "black",
                    )
        return figure


def class_accuracy(table: Table, classes: Sequence[str]) -> "Figure":
    """Accuracy by class, from the confusion matrix."""
    counts = np.array(table, dtype=float)
    shares = 100 * counts.diagonal() / np.maximum(counts.sum(1), 1)
    with canvas(4.6, max(3.2, 0.9 + 0.24 * len(classes))) as figure:
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
    columns = 3
    rows = -(-len(images) // columns)
    with canvas(7.4, 1.15 * rows + 0.2) as figure:
        grid = figure.subplots(rows, 2 * columns, width_ratios=[1, 1.3] * columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for number, (image, label, share) in enumerate(zip(images, labels, shares, strict=True)):
            row, column = divmod(number, columns)
            _picture(grid[row, 2 * column], _side_by_side(image[None]))
            bars = grid[row, 2 * column + 1]
            bars.set_axis_on()
            likely = list(np.argsort(-share)[:3])
            if label not in likely:
                likely[-1] = label
            colours = [COLOURS[2] if c == label else COLOURS[1] for c in likely]
            bars.barh(range(len(likely)), [100 * share[c] for c in likely], color=colours)
            bars.set(yticks=range(len(likely)), yticklabels=names([classes[c] for c in likely]))
            bars.set(xlim=(0, 100), xticks=[0, 100])
            bars.tick_params(labelsize=8, length=0)
            bars.invert_yaxis()
            bars.grid(visible=False)
        return figure


def reliability(bins: Sequence[CalibrationBin]) -> "Figure":
    """Accuracy against confidence, with a bar for the images of each bin."""
    filled = [b for b in bins if b.num_images]
    middle = [100 * b.confidence for b in filled]
    with canvas(4.6, 3.6) as figure:
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
        axes.legend(loc="upper left")
        return figure


def filters(weights: NDArray[np.float32]) -> "Figure":
    """The first convolution's kernels, (filters, channels, height, width): negative to positive."""
    kernels = weights[:32].transpose(0, 2, 3, 1)
    if kernels.shape[-1] != 3:
        kernels = kernels.mean(-1, keepdims=True)
    reach = float(np.abs(kernels).max()) or 1.0
    scaled = np.round((kernels / reach + 1) * 127.5).astype(np.uint8)
    return _mosaic(scaled.transpose(0, 3, 1, 2), "Filters of the first convolution", "PuOr")


def feature_maps(maps: NDArray[np.float16]) -> "Figure":
    """What the first convolution makes of one image, each map on its own scale."""
    shown = maps.astype(np.float32)
    low = shown.min((1, 2), keepdims=True)
    span = np.maximum(shown.max((1, 2), keepdims=True) - low, 1e-6)
    scaled = np.round((shown - low) / span * 255).astype(np.uint8)
    return _mosaic(scaled[:, None], "What they make of one image", "gray")


def cost_by_layer(profile: Profile) -> "Figure":
    """Parameters and multiply-adds of each layer that has any."""
    rows = [layer for layer in profile.layers if layer.params or layer.macs]
    with canvas(7.4, 1.1 + 0.27 * len(rows)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, name, values, colour in (
            (left, "parameters", [layer.params for layer in rows], COLOURS[0]),
            (right, "multiply-adds", [layer.macs for layer in rows], COLOURS[1]),
        ):
            axes.barh(range(len(rows)), values, color=colour)
            total = max(1, sum(values))
            for place, value in enumerate(values):
                if value:
                    axes.text(value, place, f" {value / total:.0%}", va="center", fontsize=8)
            axes.set(title=name, xlim=(0, 1.15 * max(1, *values)))
            axes.xaxis.set_major_formatter(_short)
            axes.grid(visible=False, axis="y")
        left.set(yticks=range(len(rows)), yticklabels=[layer.name for layer in rows])
        left.invert_yaxis()
        return figure


def _short(value: float, position: int | None) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _series(epochs: Sequence[Epoch]) -> dict[str, list[tuple[int, Score]]]:
    """Training, validation and test scores by epoch, as far as they are there."""
    series: dict[str, list[tuple[int, Score]]] = {}
    for name in ("train", "validation", "test"):
        points = [(epoch.epoch, getattr(epoch, name)) for epoch in epochs]
        if shown := [(epoch, score) for epoch, score in points if score is not None]:
            series["training" if name == "train" else name] = shown
    return series


def draw_line(axes: "Axes", number: int, name: str, points: Sequence[tuple[int, float]]) -> None:
    """A named line through the points, in the colour and with the marker of its number."""
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        linewidth=1.6,
        label=name,
    )


def _finish(axes: "Axes") -> None:
    whole_numbers(axes)
    if axes.lines:
        axes.legend()


def whole_numbers(axes: "Axes") -> None:
    """Ticks of the horizontal axis at whole numbers only: there is no epoch 2.5."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _side_by_side(images: NDArray[np.uint8], gap: int = 1) -> NDArray[np.uint8]:
    """Images (n, channels, height, width) in a row, (height, width, 1 or 3), large ones thinned."""
    step = -(-max(images.shape[2:]) // _SIDE)
    images = images[:, :, ::step, ::step]
    n, channels, height, width = images.shape
    canvas_ = np.full((height, n * (width + gap) - gap, channels), 128, dtype=np.uint8)
    for place, image in enumerate(images):
        left = place * (width + gap)
        canvas_[:, left : left + width] = image.transpose(1, 2, 0)
    return canvas_


def _mosaic(images: NDArray[np.uint8], title: str, cmap: str) -> "Figure":
    """Images (n, channels, height, width) in rows of up to eight."""
    across = min(8, len(images))
    rows = -(-len(images) // across)
    filled = np.full((rows * across, *images.shape[1:]), 128, dtype=np.uint8)
    filled[: len(images)] = images
    lines = [_side_by_side(row) for row in filled.reshape(rows, across, *images.shape[1:])]
    gap = np.full((1, *lines[0].shape[1:]), 128, dtype=np.uint8)
    stacked = np.concatenate([part for line in lines for part in (line, gap)][:-1])
    with canvas(4.6, 4.6 * stacked.shape[0] / stacked.shape[1] + 0.4) as figure:
        _picture(figure.subplots(), stacked, title, cmap)
        return figure


def _picture(axes: Any, image: NDArray[np.uint8], title: str = "", cmap: str = "gray") -> None:
    grey = image[..., 0] if image.shape[-1] == 1 else image
    axes.imshow(grey, cmap=cmap, vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title, loc="left", fontsize=10)
