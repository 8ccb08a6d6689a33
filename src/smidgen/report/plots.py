"""The plots of a run: plain data in, matplotlib figures out."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from smidgen.formatting import counted, percent
from smidgen.record import CalibrationBin, Epoch, Score
from smidgen.report.style import (
    COLORS,
    INK,
    LOW,
    NARROW,
    add_legend,
    add_title,
    line_style,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_TITLES = 60  # in one figure: more would be too narrow to point at
Points = Sequence[tuple[float, float]]


def loss_curves(epochs: Sequence[Epoch]) -> "Figure":
    """Cross-entropy by epoch, on a logarithmic axis."""
    lines = [(name, [(x, score.loss) for x, score in points]) for name, points in _series(epochs)]
    return curves(lines, title="Loss", ylabel="cross-entropy")


def accuracy_curves(epochs: Sequence[Epoch], target: float | None) -> "Figure":
    """Accuracy by epoch, with the target as a dotted line."""
    lines = [
        (name, [(x, 100 * score.accuracy) for x, score in points])
        for name, points in _series(epochs)
    ]
    return curves(lines, title="Accuracy", ylabel="accuracy, %", target=target)


def learning_rate(epochs: Sequence[Epoch]) -> "Figure":
    """The learning rate at the end of each epoch, or by step."""
    points = [(x, lr) for x, _, lr in _training(epochs)]
    figure = curves([("learning rate", points)], title="Learning rate", ylabel="learning rate")
    figure.axes[0].set_yscale("linear")
    figure.axes[0].set_ylim(bottom=0)
    return figure


def curves(
    lines: Sequence[tuple[str, Points]],
    *,
    title: str,
    ylabel: str,
    target: float | None = None,
    columns: int = 3,
    height: float = LOW,
) -> "Figure":
    """Named lines through (epoch, value) points, with a legend below the axes.

    An axis in percent is cut off below, at the target, the best values and the ends of the lines;
    any other is logarithmic. A `target` is a fraction. `columns` are those of the legend.
    """
    drawn = [points for _, points in lines if points]
    in_percent = "%" in ylabel
    with new_figure(NARROW, height) as figure:
        axes = figure.subplots()
        for number, (name, points) in enumerate(lines):
            if points:
                draw_line(axes, number, name, points)
        if in_percent:
            _limit_percentages(axes, target, drawn)
        elif any(value > 0 for points in drawn for _, value in points):
            _scale_by_logarithm(axes)
        axes.set(xlabel="epoch", ylabel=ylabel, title=title)
        _put_ticks_at_integers(axes)
        _add_values(axes, lines, in_percent)
        add_legend(figure, columns)
        return figure


def draw_line(axes: "Axes", number: int, name: str, points: Points) -> None:
    """Draw a named line through (x, y) points, in the style of its number."""
    look: Any = line_style(number) | {"label": name.replace("$", r"\$")}
    if any(x % 1 for x, _ in points):  # by step
        look["marker"] = ""
    axes.plot(*zip(*points, strict=True), markersize=4, linewidth=1.6, **look)


def _limit_percentages(axes: "Axes", target: float | None, lines: Sequence[Points]) -> None:
    highest = max((value for points in lines for _, value in points), default=0.0)
    lowest = min((points[-1][1] for points in lines), default=0.0)
    bottom = min(highest - 3, lowest - max(1, (100 - lowest) * 0.05))
    if target is not None:
        bottom = min(bottom, 100 * target - 1)
        name = f"target {100 * target:.2f} %"
        axes.axhline(100 * target, color=INK, linestyle=(0, (1, 2)), linewidth=1.5, label=name)
    axes.set_ylim(max(0, bottom), 100 + max(0.1, (100 - bottom) * 0.03))


def _scale_by_logarithm(axes: "Axes") -> None:
    """A logarithmic y axis, labelled with plain numbers, which are faster to draw than powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _put_ticks_at_integers(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_xlim()
    # there is no epoch 2.5, not even between 0.9 and 1.1
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if high - low < 1:
        axes.set_xticks([round((low + high) / 2)])


def _add_values(axes: "Axes", lines: Sequence[tuple[str, Points]], in_percent: bool) -> None:
    """Show the values of all lines when the pointer is above their epoch."""
    found: dict[float, list[str]] = {}
    for name, points in lines:
        for x, value in points:
            shown = f"{value:.2f} %" if in_percent else f"{value:.4g}"
            found.setdefault(x, []).append(f"{name} {shown}")
    _add_titles(axes, {x: f"epoch {x:.3g}: {'; '.join(words)}" for x, words in found.items()})


def _add_titles(axes: "Axes", titles: Mapping[float, str]) -> None:
    """Show each title when the pointer is above or below its x; of very many, a part."""
    from matplotlib.patches import Rectangle

    xs = sorted(titles)[:: -(-len(titles) // _MOST_TITLES)]
    edges = [(left + right) / 2 for left, right in pairwise(xs)]
    if edges:
        edges = [2 * xs[0] - edges[0], *edges, 2 * xs[-1] - edges[-1]]
    for x, (left, right) in zip(xs, pairwise(edges or axes.get_xlim()), strict=True):
        column = Rectangle(
            (left, 0), right - left, 1, alpha=0, zorder=0.5, transform=axes.get_xaxis_transform()
        )
        add_title(column, titles[x])
        axes.add_artist(column)


def reliability_diagram(bins: Sequence[CalibrationBin]) -> "Figure":
    """Accuracy against confidence, by bin."""
    filled = [b for b in bins if b.num_images]
    with new_figure(NARROW, LOW) as figure:
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=INK, linestyle="--", linewidth=1, label="calibrated")
        points = [(100 * b.confidence, 100 * b.accuracy) for b in filled]
        axes.plot(*zip(*points, strict=True), color=COLORS[0], marker="o", label="this network")
        axes.set(xlabel="confidence, %", ylabel="accuracy, %", title="Calibration")
        axes.set(xlim=(0, 101), ylim=(0, 102))
        _add_titles(axes, {100 * b.confidence: _words(b) for b in filled})
        add_legend(figure, 2)
        return figure


def _words(found: CalibrationBin) -> str:
    return (
        f"{counted(found.num_images, 'image')}: confidence {percent(found.confidence)}, "
        f"accuracy {percent(found.accuracy)}"
    )


def _training(epochs: Sequence[Epoch]) -> list[tuple[float, Score, float]]:
    """Epochs done, training score and learning rate: by step if the run has that, or by epoch."""
    found: list[tuple[float, Score, float]] = []
    for epoch in epochs:
        if epoch.steps:
            before, last = epoch.epoch - 1, epoch.steps[-1].step
            found += [(before + at.step / last, at.train, at.lr) for at in epoch.steps]
        else:
            found.append((epoch.epoch, epoch.train, epoch.lr))
    return found


def _series(epochs: Sequence[Epoch]) -> list[tuple[str, list[tuple[float, Score]]]]:
    """Training, validation and test scores by epoch, those that the run has."""
    series: list[tuple[str, list[tuple[float, Score]]]] = [
        ("training", [(x, score) for x, score, _ in _training(epochs)]),
        ("validation", [(e.epoch, e.validation) for e in epochs if e.validation]),
        ("test", [(e.epoch, e.test) for e in epochs if e.test]),
    ]
    return [(name, points) for name, points in series if points]
