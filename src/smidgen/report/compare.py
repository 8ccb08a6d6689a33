"""Several runs side by side: what changed from one to the next, and what it gave."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.config import Experiment
from smidgen.files import write_whole
from smidgen.report.canvas import COLOURS, INK, MARKERS, as_png, as_svg, canvas
from smidgen.report.figures import first_epoch_at, percent, seconds
from smidgen.report.folder import RunFolder
from smidgen.report.page import TEMPLATES, Picture, save_pictures
from smidgen.report.plots import draw_line, draw_target, whole_numbers
from smidgen.report.tables import markdown_table
from smidgen.schema import to_plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = (
    "run", "parameters", "epochs", "test accuracy", "first at target", "seconds", "verdict",
    "what changed",
)  # fmt: skip


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
        "pictures": pictures,
        "markdown_table": markdown_table,
        "drawn": {p.name: as_svg(figures[p.name], p.alt) for p in pictures},
    }
    write_whole(out / "report.md", TEMPLATES.get_template("compare.md.jinja").render(context))
    page = out / "report.html"
    write_whole(page, TEMPLATES.get_template("compare.html.jinja").render(context))
    return page


def comparison_rows(runs: Sequence[RunFolder]) -> list[tuple[str, ...]]:
    """A row of HEADER's cells for each run; what its folder does not tell is a dash."""
    rows: list[tuple[str, ...]] = []
    before: Experiment | None = None
    for run in runs:
        record, target = run.record, run.experiment.budget.min_accuracy
        first = first_epoch_at(run.epochs, target)
        rows.append(
            (
                run.title,
                f"{record.profile.num_params:,}" if record else "-",
                f"{len(run.epochs)}",
                percent(record.test.score.accuracy) if record else "-",
                str(first) if first else "-",
                seconds(record.train_seconds) if record else "-",
                ("pass" if record.verdict.passed else "FAIL") if record else "not finished",
                "" if before is None else "; ".join(changes(before, run.experiment)) or "the seed",
            )
        )
        before = run.experiment
    return rows


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
        dict(_flat(to_plain({part: getattr(e, part) for part in ("model", "data", "train")})))
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
    with canvas(6.4, 4.2) as figure:
        axes = figure.subplots()
        best = 0.0
        for number, run in enumerate(runs):
            scores = [(e.epoch, (e.validation or e.train).accuracy * 100) for e in run.epochs]
            if scores:
                draw_line(axes, number, run.title, scores)
                best = max(best, *(accuracy for _, accuracy in scores))
        targets = {run.experiment.budget.min_accuracy for run in runs} - {None}
        draw_target(axes, targets.pop() if len(targets) == 1 else None, best)
        axes.set(xlabel="epoch", ylabel="accuracy, %", title="Accuracy")
        whole_numbers(axes)
        _legend(figure, len(runs))
        return figure


def _loss(runs: Sequence[RunFolder]) -> "Figure":
    with canvas(6.4, 4.2) as figure:
        axes = figure.subplots()
        for number, run in enumerate(runs):
            if run.epochs:
                draw_line(axes, number, run.title, [(e.epoch, e.train.loss) for e in run.epochs])
        axes.set(xlabel="epoch", ylabel="training loss", yscale="log", title="Loss")
        whole_numbers(axes)
        _legend(figure, len(runs))
        return figure


def _legend(figure: "Figure", number: int) -> None:
    figure.legend(loc="outside lower center", ncols=2 if number > 3 else 1, fontsize=8)


def _pareto(runs: Sequence[RunFolder]) -> "Figure":
    done = [(number, run.title, run.record) for number, run in enumerate(runs) if run.record]
    points = [(r.profile.num_params, r.test.score.accuracy) for _, _, r in done]
    front = pareto_front(points)
    with canvas(6.4, 4.2) as figure:
        axes = figure.subplots()
        axes.plot(
            [points[i][0] for i in front],
            [100 * points[i][1] for i in front],
            color=INK,
            linewidth=1,
            linestyle="--",
            label="Pareto front",
        )
        for (number, title, record), (params, accuracy) in zip(done, points, strict=True):
            axes.plot(
                params,
                100 * accuracy,
                MARKERS[number % len(MARKERS)],
                color=COLOURS[number % len(COLOURS)],
                label=title,
                fillstyle="full" if record.verdict.passed else "none",
            )
        axes.set(xlabel="parameters", ylabel="test accuracy, %", title="What a parameter buys")
        _legend(figure, len(done) + 1)
        return figure
