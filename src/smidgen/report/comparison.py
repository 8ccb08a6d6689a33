"""A report over several runs: what changed from one to the next, and what it changed."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen._storage.serialization import to_plain
from smidgen.config import Experiment
from smidgen.formatting import percent, seconds
from smidgen.record import RunRecord
from smidgen.report.observations import first_epoch_at
from smidgen.report.page import Plot, write_page
from smidgen.report.plots import add_legend, curves
from smidgen.report.run_folder import RunFolder, read_run
from smidgen.report.style import INK, NARROW, line_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = (
    "run", "parameters", "epochs", "test accuracy", "first at target", "seconds", "verdict",
    "what changed",
)  # fmt: skip
_MOST_NAMED = 6  # runs whose names fit into a figure; more are numbered as in the table

Runs = Sequence[RunFolder]


def write_comparison(runs: "Sequence[RunFolder | str | os.PathLike[str]]", out: Path) -> Path:
    """Write report.html, report.md and figures/ over all `runs` into the folder `out`.

    `runs` are the runs' folders, or what was read from them. Returns the path of the HTML page.

    Raises:
        RecordError: a folder has no run, or a file of it is damaged.
        SmidgenError: a file cannot be written.
    """
    read = [run if isinstance(run, RunFolder) else read_run(Path(run)) for run in runs]
    plots = _plots(read)
    context: dict[str, Any] = {
        "runs": read,
        "header": HEADER,
        "rows": comparison_rows(read),
        "numbered": len(read) > _MOST_NAMED,
        "texts": _texts(read),
        "plots": plots,
    }
    return write_page("comparison", context, plots, out)


def comparison_rows(runs: Runs) -> list[tuple[str, ...]]:
    """A row of HEADER's cells for each run; what its folder does not tell is a dash."""
    rows: list[tuple[str, ...]] = []
    for number, run in enumerate(runs):
        record = run.record
        first = first_epoch_at(run.epochs, run.experiment.budget.min_accuracy)
        rows.append(
            (
                run.title if len(runs) <= _MOST_NAMED else f"{number + 1}. {run.title}",
                f"{record.profile.num_params:,}" if record else "-",
                str(len(run.epochs)),
                percent(record.test.score.accuracy) if record else "-",
                str(first) if first else "-",
                seconds(run.times.train_seconds) if run.times else "-",
                _verdict(record) if record else "not finished",
                _change(runs[number - 1], run) if number else "",
            )
        )
    return rows


def _verdict(record: RunRecord) -> str:
    if not record.verdict.limits:
        return record.verdict.status
    return "pass" if record.verdict.passed else "FAIL"


def _change(before: RunFolder, after: RunFolder) -> str:
    """What differs from one run to the next, as far as their folders tell."""
    if found := changes(before.experiment, after.experiment):
        return "; ".join(found)
    if before.record is None or after.record is None:
        return "nothing in the experiment"
    return "the seed" if before.record.seed != after.record.seed else "nothing"


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
    old, new = (
        dict(_flat({name: to_plain(getattr(e, name)) for name in _COMPARED}))
        for e in (before, after)
    )
    return [
        f"{key} {old.get(key, 'none')} → {new.get(key, 'none')}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


_COMPARED = ("budget", "model", "data", "train")


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


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


def _texts(runs: Runs) -> list[tuple[str, list[Text]]]:
    """Headings, and below each what was written about the runs or is missing."""
    found = {
        "Target": [run.experiment.target for run in runs],
        "Analysis": [run.experiment.analysis for run in runs],
        "What is missing": [" ".join(run.missing) for run in runs],
    }
    return [(name, _grouped(runs, texts)) for name, texts in found.items() if any(texts)]


def _grouped(runs: Runs, texts: Sequence[str]) -> list[Text]:
    """Each text once, with the runs that have it."""
    about: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        if text:
            about.setdefault(text, []).append(number)

    def whose(numbers: list[int]) -> str:
        if len(numbers) == len(runs):
            return "all runs"
        if len(runs) > _MOST_NAMED:
            return ("runs " if numbers[1:] else "run ") + ", ".join(str(n + 1) for n in numbers)
        return "; ".join(runs[n].title for n in numbers)

    return [(whose(numbers), text) for text, numbers in about.items()]


def _plots(runs: Runs) -> list[Plot]:
    plots = []
    if any(run.epochs for run in runs):
        caption = "Accuracy by epoch of all runs, on the validation split if there is one"
        plots.append(Plot("accuracy", caption, _accuracy(runs)))
        plots.append(Plot("loss", "Training loss by epoch of all runs", _loss(runs)))
    if any(run.record for run in runs):
        caption = "Test accuracy against parameters; the line joins the runs that no other beats"
        plots.append(Plot("pareto", caption, _pareto(runs)))
    return plots


def _accuracy(runs: Runs) -> "Figure":
    points = [[(e.epoch, 100 * (e.validation or e.train).accuracy) for e in r.epochs] for r in runs]
    targets = {run.experiment.budget.min_accuracy for run in runs} - {None}
    target = targets.pop() if len(targets) == 1 else None
    lines = [*zip(_labels(runs), points, strict=True)]
    return curves(
        lines,
        title="Accuracy",
        ylabel="accuracy, %",
        target=target,
        columns=_columns(runs),
        height=_height(runs),
    )


def _loss(runs: Runs) -> "Figure":
    points = [[(e.epoch, e.train.loss) for e in run.epochs] for run in runs]
    lines = [*zip(_labels(runs), points, strict=True)]
    columns, height = _columns(runs), _height(runs)
    return curves(lines, title="Loss", ylabel="training loss", columns=columns, height=height)


def _pareto(runs: Runs) -> "Figure":
    labels = _labels(runs)
    finished = [(number, run.record) for number, run in enumerate(runs) if run.record]
    points = [(r.profile.num_params, r.test.score.accuracy) for _, r in finished]
    front = pareto_front(points)
    with new_figure(NARROW, _height(runs)) as figure:
        axes = figure.subplots()
        for (number, record), (params, accuracy) in zip(finished, points, strict=True):
            look: Any = line_style(number) | {"linestyle": "none"}
            look["fillstyle"] = "full" if record.verdict.passed else "none"
            axes.plot(params, 100 * accuracy, label=labels[number], **look)
        x, y = [points[i][0] for i in front], [100 * points[i][1] for i in front]
        line: Any = {"color": INK, "linewidth": 1, "linestyle": "--", "zorder": 1}
        axes.plot(x, y, label="Pareto front", **line)
        axes.set(xlabel="parameters", ylabel="test accuracy, %", title="Accuracy by parameters")
        add_legend(figure, _columns(runs))
        return figure


def _labels(runs: Runs) -> list[str]:
    """The runs' names in a figure: titles, or numbers if there are many."""
    if len(runs) > _MOST_NAMED:
        return [str(number) for number in range(1, len(runs) + 1)]
    return [run.title.replace("$", r"\$") for run in runs]


def _columns(runs: Runs) -> int:
    """Of a legend."""
    return 1 if len(runs) <= _MOST_NAMED else 6


def _height(runs: Runs) -> float:
    """Of a figure with room for the legend below the axes, in inches."""
    return 3.2 + 0.2 * (len(runs) + 1 if len(runs) <= _MOST_NAMED else 2 + len(runs) // 6)
