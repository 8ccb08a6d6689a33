"""Several runs side by side: what changed from one to the next, and what it gave."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen._storage.files import write_atomic
from smidgen._storage.serialization import to_plain
from smidgen.config import Experiment
from smidgen.formatting import markdown_table, percent, seconds
from smidgen.record import PAGE
from smidgen.report.observations import first_epoch_at
from smidgen.report.plots import draw_line, draw_target, style, whole_numbers
from smidgen.report.run_folder import RunFolder
from smidgen.report.run_page import TEMPLATES, Picture, drawing, save_pictures
from smidgen.report.style import INK, NARROW, as_png, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = (
    "run", "parameters", "epochs", "test accuracy", "first at target", "seconds", "verdict",
    "what changed",
)  # fmt: skip
_NAMED = 6  # runs whose names stand in a figure; of more, it shows the numbers in the table


def write_comparison(runs: Sequence[RunFolder], out: Path) -> Path:
    """Write report.html, report.md and figures/ over all `runs` into the folder `out`.

    The path of the HTML page.

    Raises:
        SmidgenError: a file cannot be written.
    """
    pictures = _pictures(runs)
    figures = {picture.name: picture.draw() for picture in pictures}
    save_pictures({name: as_png(figure) for name, figure in figures.items()}, out)
    context: dict[str, Any] = {
        "runs": runs,
        "header": HEADER,
        "rows": comparison_rows(runs),
        "numbered": len(runs) > _NAMED,
        "texts": _texts(runs),
        "pictures": pictures,
        "markdown_table": markdown_table,
        "drawn": {p.name: drawing(figures[p.name], p.alt) for p in pictures},
    }
    write_atomic(out / "report.md", TEMPLATES.get_template("compare.md.jinja").render(context))
    page = out / PAGE
    write_atomic(page, TEMPLATES.get_template("compare.html.jinja").render(context))
    return page


def comparison_rows(runs: Sequence[RunFolder]) -> list[tuple[str, ...]]:
    """A row of HEADER's cells for each run; what its folder does not tell is a dash."""
    rows: list[tuple[str, ...]] = []
    before: RunFolder | None = None
    for run, name in zip(runs, _names(runs), strict=True):
        record, target = run.record, run.experiment.budget.min_accuracy
        first = first_epoch_at(run.epochs, target)
        rows.append(
            (
                name,
                f"{record.profile.num_params:,}" if record else "-",
                f"{len(run.epochs)}",
                percent(record.test.score.accuracy) if record else "-",
                str(first) if first else "-",
                seconds(run.times.train_seconds) if run.times else "-",
                _VERDICTS[record.verdict.status] if record else "not finished",
                "" if before is None else _change(before, run),
            )
        )
        before = run
    return rows


_VERDICTS = {
    "inside the budget": "pass",
    "NOT inside the budget": "FAIL",
    "no limits to judge": "no limits to judge",
}


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """The runs' titles, numbered where there are many."""
    if len(runs) <= _NAMED:
        return [run.title for run in runs]
    return [f"{number}. {run.title}" for number, run in enumerate(runs, start=1)]


def _change(before: RunFolder, after: RunFolder) -> str:
    """What differs from one run to the next, as far as their folders tell."""
    if found := changes(before.experiment, after.experiment):
        return "; ".join(found)
    if before.record is None or after.record is None:
        return "nothing in the experiment"
    return "the seed" if before.record.seed != after.record.seed else "nothing"


Text = tuple[str, str]


def _texts(runs: Sequence[RunFolder]) -> list[tuple[str, list[Text]]]:
    """Headings with what was written about the runs or is missing: whose it is, and the text."""
    found = {
        "Target": [run.experiment.target for run in runs],
        "Analysis": [run.experiment.analysis for run in runs],
        "What is missing": [" ".join(run.missing) for run in runs],
    }
    return [(name, _grouped(runs, texts)) for name, texts in found.items() if any(texts)]


def _grouped(runs: Sequence[RunFolder], texts: Sequence[str]) -> list[Text]:
    """Each text once, with the runs that it is about."""
    about: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        if text:
            about.setdefault(text, []).append(number)

    def whose(numbers: list[int]) -> str:
        if len(numbers) == len(runs):
            return "all runs"
        if len(runs) > _NAMED:
            return ("runs " if numbers[1:] else "run ") + ", ".join(str(n + 1) for n in numbers)
        return "; ".join(runs[n].title for n in numbers)

    return [(whose(numbers), text) for text, numbers in about.items()]


def changes(before: Experiment, after: Experiment) -> list[str]:
    """What differs from one experiment to the next, but for names and texts.

    >>> from smidgen.config import Data, Model, Optimizer, Train
    >>> def experiment(epochs):
    ...     sgd = Optimizer(name="sgd", lr=0.1)
    ...     return Experiment(name="x", model=Model(chain="8 G"), data=Data(name="mnist"),
    ...                       train=Train(epochs=epochs, batch_size=128, optimizer=sgd))
    >>> changes(experiment(5), experiment(9))
    ['train.epochs 5 → 9']
    """
    old, new = (
        dict(
            _flat(
                to_plain({part: getattr(e, part) for part in ("budget", "model", "data", "train")})
            )
        )
        for e in (before, after)
    )
    return [
        f"{key} {old.get(key, 'none')} → {new.get(key, 'none')}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def pareto_front(points: Sequence[tuple[int, float]]) -> list[int]:
    """The places of the points that no other beats: fewer parameters, or more accuracy.

    >>> pareto_front([(8000, 0.99), (6000, 0.99), (9000, 0.995), (9500, 0.98)])
    [1, 2]
    """
    front = []
    best = -1.0
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    for place in order:
        if points[place][1] > best:
            best = points[place][1]
            front.append(place)
    return front


def _pictures(runs: Sequence[RunFolder]) -> list[Picture]:
    pictures = []
    if any(run.epochs for run in runs):
        pictures.append(
            Picture(
                "accuracy",
                "Accuracy by epoch of all runs, on validation images where some were set aside",
                lambda: _accuracy(runs),
            )
        )
        pictures.append(Picture("loss", "Training loss by epoch of all runs", lambda: _loss(runs)))
    if any(run.record for run in runs):
        pictures.append(
            Picture(
                "pareto",
                "Test accuracy against parameters; the line joins the runs that no other beats",
                lambda: _pareto(runs),
            )
        )
    return pictures


def _accuracy(runs: Sequence[RunFolder]) -> "Figure":
    with _canvas(runs) as figure:
        axes = figure.subplots()
        curves = []
        for number, (run, label) in enumerate(zip(runs, _labels(runs), strict=True)):
            scores = [(e.epoch, (e.validation or e.train).accuracy * 100) for e in run.epochs]
            if scores:
                draw_line(axes, number, label, scores)
                curves.append(scores)
        targets = {run.experiment.budget.min_accuracy for run in runs} - {None}
        draw_target(axes, targets.pop() if len(targets) == 1 else None, curves)
        axes.set(xlabel="epoch", ylabel="accuracy, %", title="Accuracy")
        whole_numbers(axes)
        _legend(figure, runs)
        return figure


def _loss(runs: Sequence[RunFolder]) -> "Figure":
    with _canvas(runs) as figure:
        axes = figure.subplots()
        for number, (run, label) in enumerate(zip(runs, _labels(runs), strict=True)):
            if run.epochs:
                draw_line(axes, number, label, [(e.epoch, e.train.loss) for e in run.epochs])
        axes.set(xlabel="epoch", ylabel="training loss", yscale="log", title="Loss")
        whole_numbers(axes)
        _legend(figure, runs)
        return figure


def _labels(runs: Sequence[RunFolder]) -> list[str]:
    """What the runs are called in a figure."""
    if len(runs) > _NAMED:
        return [str(number) for number in range(1, len(runs) + 1)]
    return [run.title.replace("$", r"\$") for run in runs]


def _canvas(runs: Sequence[RunFolder]) -> AbstractContextManager["Figure"]:
    lines = len(runs) + 1 if len(runs) <= _NAMED else 2 + len(runs) // 6
    return canvas(NARROW, 3.2 + 0.2 * lines)


def _legend(figure: "Figure", runs: Sequence[RunFolder]) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = 1 if len(runs) <= _NAMED else 6
    # matplotlib fills a legend column by column, people read it row by row
    order = [i for column in range(columns) for i in range(column, len(labels), columns)]
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside lower center",
        ncols=columns,
        fontsize=9,
        columnspacing=1,
        handlelength=2.4 if columns == 1 else 1.8,
    )


def _pareto(runs: Sequence[RunFolder]) -> "Figure":
    labels = _labels(runs)
    done = [(number, run.record) for number, run in enumerate(runs) if run.record]
    points = [(r.profile.num_params, r.test.score.accuracy) for _, r in done]
    front = pareto_front(points)
    with _canvas(runs) as figure:
        axes = figure.subplots()
        for (number, record), (params, accuracy) in zip(done, points, strict=True):
            look: Any = style(number) | {"linestyle": "none"}
            fill: Any = "full" if record.verdict.passed else "none"
            axes.plot(params, 100 * accuracy, label=labels[number], fillstyle=fill, **look)
        axes.plot(
            [points[i][0] for i in front],
            [100 * points[i][1] for i in front],
            color=INK,
            linewidth=1,
            linestyle="--",
            label="Pareto front",
            zorder=1,
        )
        axes.set(xlabel="parameters", ylabel="test accuracy, %", title="What a parameter buys")
        _legend(figure, runs)
        return figure
