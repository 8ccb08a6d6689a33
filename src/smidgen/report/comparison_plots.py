"""The plots of a comparison: a curve or a color for each experiment."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from smidgen.formatting import percent
from smidgen.report.grouping import Group
from smidgen.report.page import Plot
from smidgen.report.plots import curves
from smidgen.report.run_folder import RunFolder
from smidgen.report.style import (
    INK,
    LEGEND_LINE,
    LOW,
    NARROW,
    add_legend,
    add_title,
    line_style,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = list[tuple[int, float]]

MOST_NAMED = 12  # experiments whose names fit into a legend; more are numbered as in the table


def comparison_plots(groups: Sequence[Group]) -> list[Plot]:
    """Accuracy and loss by epoch, and accuracy against parameters; those that the runs have."""
    runs = [run for group in groups for run in group.runs]
    several = any(len(group.runs) > 1 for group in groups)
    mean = ": mean of each experiment's runs, and one standard deviation" if several else ""
    plots = []
    if any(run.epochs for run in runs):
        kind = common_split(runs)
        caption = f"{kind.capitalize()} accuracy by epoch{mean}"
        if kind == "training" and any(_has_validation(run) for run in runs):
            caption += "; faint and dashed, validation accuracy of the runs that have it"
        plots.append(Plot("accuracy", caption, _accuracy(groups)))
        plots.append(Plot("loss", f"Training loss by epoch{mean}", _loss(groups)))
    if any(run.record for run in runs):
        caption = (
            "Test accuracy against parameters; hollow points miss their budget, and the line joins "
            "the runs that no other beats"
        )
        plots.append(Plot("pareto", caption, _pareto(groups)))
    return plots


def common_split(runs: Sequence[RunFolder]) -> str:
    """The split whose accuracy every run has: validation, or else training."""
    return "validation" if all(_has_validation(r) for r in runs if r.epochs) else "training"


def _has_validation(run: RunFolder) -> bool:
    return bool(run.epochs) and all(epoch.validation for epoch in run.epochs)


def _accuracy(groups: Sequence[Group]) -> "Figure":
    runs = [run for group in groups for run in group.runs]
    training = common_split(runs) == "training"

    def points(run: RunFolder, on_train: bool) -> Points:
        scores = [(e.epoch, e.train if on_train else e.validation) for e in run.epochs]
        return [(epoch, 100 * score.accuracy) for epoch, score in scores if score]

    targets = {run.experiment.budget.min_accuracy for run in runs} - {None}
    target = targets.pop() if len(targets) == 1 else None
    lines = [[points(run, training) for run in group.runs] for group in groups]
    figure = _mean_curves(groups, lines, "Accuracy", "accuracy, %", target)
    for number, group in enumerate(groups if training else ()):
        other = [(x, y) for x, y, _ in _mean_and_deviation([points(r, False) for r in group.runs])]
        look: Any = {"color": line_style(number)["color"], "linestyle": (0, (4, 2)), "alpha": 0.5}
        if other:
            figure.axes[0].plot(*zip(*other, strict=True), linewidth=1, **look)
    return figure


def _loss(groups: Sequence[Group]) -> "Figure":
    lines = [[[(e.epoch, e.train.loss) for e in r.epochs] for r in g.runs] for g in groups]
    return _mean_curves(groups, lines, "Loss", "training loss", None)


def _mean_curves(
    groups: Sequence[Group],
    lines: Sequence[Sequence[Points]],
    title: str,
    ylabel: str,
    target: float | None,
) -> "Figure":
    """A line for each group, the mean of its runs, in a band of one standard deviation."""
    means = [_mean_and_deviation(points) for points in lines]
    drawn = [[(x, mean) for x, mean, _ in points] for points in means]
    named = [*zip(_labels(groups), drawn, strict=True)]
    columns, height = _legend_layout(groups)
    figure = curves(
        named, title=title, ylabel=ylabel, target=target, columns=columns, height=height
    )
    shown = [(group, line) for group, line in zip(groups, drawn, strict=True) if line]
    for artist, (group, line) in zip(figure.axes[0].lines, shown, strict=False):
        values = "; ".join(f"epoch {epoch}: {value:.4g}" for epoch, value in line)
        add_title(artist, f"{group.name}: {values}")
    for number, points in enumerate(means):
        band = [(x, mean - sd, mean + sd) for x, mean, sd in points if sd]
        if band:
            color = line_style(number)["color"]
            x, low, high = zip(*band, strict=True)
            figure.axes[0].fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    return figure


def _mean_and_deviation(lines: Sequence[Points]) -> list[tuple[int, float, float]]:
    """By epoch, mean and standard deviation (0 for one value) over the lines that reach it.

    >>> _mean_and_deviation([[(1, 80.0), (2, 90.0)], [(1, 82.0)]])
    [(1, 81.0, 1.4142135623730951), (2, 90.0, 0.0)]
    """
    values: dict[int, list[float]] = {}
    for points in lines:
        for epoch, value in points:
            values.setdefault(epoch, []).append(value)
    return [
        (epoch, fmean(found), stdev(found) if len(found) > 1 else 0.0)
        for epoch, found in sorted(values.items())
    ]


def _pareto(groups: Sequence[Group]) -> "Figure":
    columns, height = _legend_layout(groups)
    points = []
    with new_figure(NARROW, height) as figure:
        axes = figure.subplots()
        for number, (label, group) in enumerate(zip(_labels(groups), groups, strict=True)):
            for run in group.runs:
                if (record := run.record) is None:
                    continue
                point = (record.profile.num_params, record.test.score.accuracy)
                look: Any = line_style(number) | {"linestyle": "none"}
                look["fillstyle"] = "full" if record.verdict.passed else "none"
                look["label"] = label.replace("$", r"\$")
                (marker,) = axes.plot(point[0], 100 * point[1], **look)
                add_title(marker, f"{run.title}: {point[0]:,} parameters, {percent(point[1])}")
                points.append(point)
                label = ""  # one entry in the legend for each experiment
        front = [points[i] for i in pareto_front(points)]
        x, y = [params for params, _ in front], [100 * accuracy for _, accuracy in front]
        line: Any = {"color": INK, "linewidth": 1, "linestyle": "--", "zorder": 1}
        axes.plot(x, y, label="Pareto front", **line)
        axes.set(xlabel="parameters", ylabel="test accuracy, %", title="Accuracy by parameters")
        axes.ticklabel_format(useOffset=False)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        add_legend(figure, columns, left=0.95, right=0.3)
        return figure


def _labels(groups: Sequence[Group]) -> list[str]:
    """The experiments in a figure: by name, or by number if there are many."""
    if len(groups) > MOST_NAMED:
        return [str(number) for number in range(1, len(groups) + 1)]
    names = [group.name for group in groups]
    return [name if len(name) <= 45 else f"{name[:30]}…{name[-14:]}" for name in names]


def _legend_layout(groups: Sequence[Group]) -> tuple[int, float]:
    """Columns of the legend, and the height in inches of a figure with room for it."""
    labels = _labels(groups)
    extra = 1.2  # inches: the target or the Pareto front may make its column that much wider
    columns = max(1, int((NARROW - extra) / (0.6 + 0.09 * max(map(len, labels)))))
    rows = -(-(len(labels) + 1) // columns)
    return columns, LOW + LEGEND_LINE * (rows - 1)


def pareto_front(points: Sequence[tuple[int, float]]) -> list[int]:
    """The indices of (parameters, accuracy) points that no other beats, by parameters.

    >>> pareto_front([(8000, 0.99), (6000, 0.99), (9000, 0.995), (9500, 0.98)])
    [1, 2]
    """
    front = []
    best = -1.0
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            best = points[index][1]
            front.append(index)
    return front
