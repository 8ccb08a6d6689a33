"""The curves of a run, drawn by matplotlib."""

import io
from typing import TYPE_CHECKING

from smidgen.record import RunRecord, Score
from smidgen.report.figures import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours of Okabe and Ito, which colour-blind people can tell apart, and a shape for each.
_LINES = {
    "training": ("#0072B2", "o"),
    "validation": ("#D55E00", "s"),
    "test": ("#009E73", "^"),
}


def curves_png(record: RunRecord) -> bytes:
    """Loss and accuracy by epoch, training, validation and test where known, as a PNG.

    The target is a dashed line; the accuracy axis is cut where the interesting part begins.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    series: dict[str, list[Score | None]] = {
        "training": [epoch.train for epoch in record.epochs],
        "validation": [epoch.validation for epoch in record.epochs],
        "test": [epoch.test for epoch in record.epochs],
    }
    for name, scores in series.items():
        points = [(epoch, score) for epoch, score in enumerate(scores, start=1) if score]
        if points:
            epochs = [epoch for epoch, _ in points]
            _draw(loss, name, epochs, [score.loss for _, score in points])
            _draw(accuracy, name, epochs, [100 * score.accuracy for _, score in points])
    loss.set(xlabel="epoch", ylabel="cross-entropy", yscale="log", title="Loss")
    target = record.experiment.budget.min_accuracy
    shown = [100 * score.accuracy for scores in series.values() for score in scores if score]
    bottom = min(max(shown) - 4, 100 * target - 1 if target else 100)
    accuracy.set(
        xlabel="epoch", ylabel="accuracy, %", ylim=(max(0, bottom), 100.1), title="Accuracy"
    )
    if target is not None:
        accuracy.axhline(100 * target, color="#555555", linestyle="--", linewidth=1)
        accuracy.annotate(
            f"target {percent(target)}",
            (1, 100 * target),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize="small",
        )
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: "Axes", name: str, epochs: list[int], values: list[float]) -> None:
    colour, marker = _LINES[name]
    axes.plot(epochs, values, color=colour, marker=marker, markersize=4, linewidth=1.5, label=name)
