"""A report over several runs: what changed from one to the next, and what it changed."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from smidgen.config import Experiment
from smidgen.formatting import percent, seconds
from smidgen.record import PAGE, RunRecord
from smidgen.report.grouping import distinct_names, fields_of, group_key
from smidgen.report.observations import first_epoch_at
from smidgen.report.page import Plot, write_page
from smidgen.report.plots import add_legend, curves
from smidgen.report.run_folder import RunFolder, read_run
from smidgen.report.style import INK, NARROW, add_title, line_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = (
    "run", "seed", "data", "parameters", "epochs", "test accuracy", "first at target", "training",
    "verdict",
)  # fmt: skip
GROUP_HEADER = (
    "experiment", "runs", "parameters", "epochs", "test accuracy", "lowest", "highest", "training",
    "verdict",
)  # fmt: skip
_MOST_NAMED = 12  # experiments whose names fit into a legend; more are numbered as in the table

Runs = Sequence[RunFolder]
Points = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one experiment."""

    name: str
    """The experiment's, with what tells it apart from others of that name."""
    runs: list[RunFolder]


def write_comparison(runs: "Sequence[RunFolder | str | os.PathLike[str]]", out: Path) -> Path:
    """Write report.html, report.md and figures/ over all `runs` into the folder `out`.

    `runs` are the runs' folders, or what was read from them. Runs of one experiment are shown
    together. Returns the path of the HTML page.

    Raises:
        RecordError: a folder has no run, or a file of it is damaged.
        SmidgenError: a file cannot be written.
    """
    read = [run if isinstance(run, RunFolder) else read_run(Path(run)) for run in runs]
    groups = group_runs(read)
    ordered = [run for group in groups for run in group.runs]
    plots = _plots(groups)
    context: dict[str, Any] = {
        "title": _title(groups),
        "status": _status(ordered),
        "header": HEADER,
        "rows": comparison_rows(ordered),
        "links": [_link(run, out) for run in ordered],
        "group_header": GROUP_HEADER,
        "group_rows": group_rows(groups) if len(groups) < len(ordered) else [],
        "numbered": len(groups) > _MOST_NAMED,
        "texts": _texts(groups),
        "plots": plots,
    }
    return write_page("comparison", context, plots, out)


def group_runs(runs: Runs) -> list[Group]:
    """The runs by experiment, in the order of the first run of each."""
    params = {
        run.experiment.without_texts().to_toml(): run.record.profile.num_params
        for run in runs
        if run.record
    }
    groups: dict[tuple[str, int | None], list[RunFolder]] = {}
    for run in runs:
        # an unfinished run belongs to the finished ones of its experiment
        known = params.get(run.experiment.without_texts().to_toml())
        num_params = run.record.profile.num_params if run.record else known
        groups.setdefault(group_key(run.experiment, num_params), []).append(run)
    names = distinct_names([g[0].experiment for g in groups.values()], [key[1] for key in groups])
    return [Group(name, found) for name, found in zip(names, groups.values(), strict=True)]


def _title(groups: Sequence[Group]) -> str:
    count = sum(len(group.runs) for group in groups)
    experiments = "1 experiment" if len(groups) == 1 else f"{len(groups)} experiments"
    return f"{count} runs of {experiments}" if len(groups) < count else f"{count} runs"


def _status(runs: Runs) -> str:
    judged = [run.record.verdict for run in runs if run.record and run.record.verdict.limits]
    passed = sum(verdict.passed for verdict in judged)
    unfinished = sum(run.record is None for run in runs)
    return f"{passed} of {len(judged)} are inside their budget." + (
        f" {unfinished} did not finish." if unfinished else ""
    )


def _link(run: RunFolder, out: Path) -> str:
    """The address of the run's page, relative to `out`; empty if it has none."""
    page = run.folder.resolve() / PAGE
    if not page.is_file():
        return ""
    try:
        return quote(Path(os.path.relpath(page, out.resolve())).as_posix())
    except ValueError:  # on another drive
        return page.as_uri()


def comparison_rows(runs: Runs) -> list[tuple[str, ...]]:
    """A row of HEADER's cells for each run; what its folder does not tell is a dash."""
    rows: list[tuple[str, ...]] = []
    for run in runs:
        record = run.record
        first = first_epoch_at(run.epochs, run.experiment.budget.min_accuracy)
        data = run.experiment.data
        rows.append(
            (
                run.title,
                str(record.seed) if record else "-",
                record.data.name if record else data.name or data.path or "-",
                f"{record.profile.num_params:,}" if record else "-",
                "-" if record and not run.epochs else str(len(run.epochs)),
                percent(record.test.score.accuracy) if record else "-",
                str(first) if first else "-",
                seconds(run.times.train_seconds) if run.times else "-",
                _verdict(record) if record else "not finished",
            )
        )
    return rows


def group_rows(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """A row of GROUP_HEADER's cells for each experiment, with mean and SD of its finished runs."""
    rows: list[tuple[str, ...]] = []
    for number, group in enumerate(groups):
        records = [run.record for run in group.runs if run.record]
        accuracies = [record.test.score.accuracy for record in records]
        spread = f" ± {100 * stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
        taken = [run.times.train_seconds for run in group.runs if run.times]
        passed = sum(record.verdict.passed for record in records)
        one = len({_verdict(record) for record in records}) == 1 and len(records) == len(group.runs)
        rows.append(
            (
                group.name if len(groups) <= _MOST_NAMED else f"{number + 1}. {group.name}",
                str(len(group.runs)),
                f"{records[0].profile.num_params:,}" if records else "-",
                str(max(len(run.epochs) for run in group.runs)),
                f"{100 * fmean(accuracies):.2f}{spread} %" if records else "-",
                percent(min(accuracies)) if records else "-",
                percent(max(accuracies)) if records else "-",
                seconds(fmean(taken)) if taken else "-",
                _verdict(records[0]) if one else f"{passed} of {len(group.runs)} pass",
            )
        )
    return rows


def _verdict(record: RunRecord) -> str:
    if not record.verdict.limits:
        return record.verdict.status
    return "pass" if record.verdict.passed else "FAIL"


def changes(before: Experiment, after: Experiment) -> list[str]:
    """The fields of budget, model, data and training that differ, each with both values.

    >>> from smidgen.config import Data, Model, Optimizer, Train
    >>> sgd = Optimizer(name="sgd", lr=0.1)
    >>> def experiment(epochs):
    ...     return Experiment(name="a", model=Model(chain="8 G"), data=Data(name="mnist"),
    ...                       train=Train(epochs=epochs, batch_size=128, optimizer=sgd))
    >>> changes(experiment(5), experiment(9))
    ['train.epochs 5 → 9']
    """
    old, new = fields_of(before), fields_of(after)
    return [
        f"{key} {old.get(key, 'none')} → {new.get(key, 'none')}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


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


Text = tuple[str, str]
"""Whose text it is, and the text."""


def _texts(groups: Sequence[Group]) -> list[tuple[str, list[Text]]]:
    """Headings, and below each what was written about the runs or is missing, each text once."""
    headings: dict[str, Callable[[RunFolder], str]] = {
        "Target": lambda run: run.experiment.target,
        "Analysis": lambda run: run.experiment.analysis,
        "What is missing": lambda run: " ".join(run.missing),
    }
    found = {heading: _grouped(groups, text) for heading, text in headings.items()}
    found["What changed from one experiment to the next"] = [
        (after.name, "; ".join(changed))
        for before, after in pairwise(groups)
        if (changed := changes(before.runs[0].experiment, after.runs[0].experiment))
    ]
    return [(heading, texts) for heading, texts in found.items() if texts]


def _grouped(groups: Sequence[Group], text_of: Callable[[RunFolder], str]) -> list[Text]:
    """Each text once, with the experiments or the runs that have it."""
    runs = [run for group in groups for run in group.runs]
    found = []
    for text in filter(None, dict.fromkeys(map(text_of, runs))):
        whose: list[str] = []
        for group in groups:
            those = [run for run in group.runs if text_of(run) == text]
            whose += [group.name] if those == group.runs else [run.title for run in those]
        more = f" and {len(whose) - 4} more" if len(whose) > 4 else ""
        everyone = all(text_of(run) == text for run in runs)
        found.append(("all runs" if everyone else "; ".join(whose[:4]) + more, text))
    return found


def _plots(groups: Sequence[Group]) -> list[Plot]:
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
        caption = "Test accuracy against parameters; the line joins the runs that no other beats"
        plots.append(Plot("pareto", caption, _pareto(groups)))
    return plots


def common_split(runs: Runs) -> str:
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
    columns, height = _columns(groups), _height(groups)
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
    points = []
    with new_figure(NARROW, _height(groups)) as figure:
        axes = figure.subplots()
        for number, (label, group) in enumerate(zip(_labels(groups), groups, strict=True)):
            for run in group.runs:
                if (record := run.record) is None:
                    continue
                point = (record.profile.num_params, record.test.score.accuracy)
                look: Any = line_style(number) | {"linestyle": "none"}
                look["fillstyle"] = "full" if record.verdict.passed else "none"
                (marker,) = axes.plot(point[0], 100 * point[1], label=label, **look)
                add_title(marker, f"{run.title}: {point[0]:,} parameters, {percent(point[1])}")
                points.append(point)
                label = ""  # one entry in the legend for each experiment
        front = [points[i] for i in pareto_front(points)]
        x, y = [params for params, _ in front], [100 * accuracy for _, accuracy in front]
        line: Any = {"color": INK, "linewidth": 1, "linestyle": "--", "zorder": 1}
        axes.plot(x, y, label="Pareto front", **line)
        axes.set(xlabel="parameters", ylabel="test accuracy, %", title="Accuracy by parameters")
        add_legend(figure, _columns(groups))
        return figure


def _labels(groups: Sequence[Group]) -> list[str]:
    """The experiments in a figure: by name, or by number if there are many."""
    if len(groups) > _MOST_NAMED:
        return [str(number) for number in range(1, len(groups) + 1)]
    names = [group.name for group in groups]
    shown = [name if len(name) <= 45 else f"{name[:30]}…{name[-14:]}" for name in names]
    return [name.replace("$", r"\$") for name in shown]


def _columns(groups: Sequence[Group]) -> int:
    """Of a legend."""
    return 1 if len(groups) <= _MOST_NAMED else 6


def _height(groups: Sequence[Group]) -> float:
    """Of a figure with room for the legend below the axes, in inches."""
    rows = len(groups) + 1 if len(groups) <= _MOST_NAMED else 2 + len(groups) // 6
    return 3.2 + 0.2 * rows
