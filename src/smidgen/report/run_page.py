"""The report of one run: one HTML page that needs nothing else, and Markdown with pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from smidgen._storage.files import ensure_folder, write_atomic
from smidgen.formatting import capitalized, markdown_table, percent, seconds
from smidgen.record import PAGE, Epoch, RunRecord, Score, Times
from smidgen.record.profile import layer_table, receptive_field_table, totals
from smidgen.report import plots
from smidgen.report.observations import observations, result_sentence
from smidgen.report.run_folder import RunFolder
from smidgen.report.style import as_png, as_svg, is_wide

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("smidgen.report"),
    undefined=jinja2.StrictUndefined,
    autoescape=jinja2.select_autoescape(["html.jinja"]),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, its name as a file, and what it shows in words."""

    name: str
    alt: str
    draw: Callable[[], "Figure"]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence and the pictures below it."""

    title: str
    text: str
    pictures: tuple[Picture, ...]


Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def write_report(run: RunFolder, out: Path) -> Path:
    """Write report.html, report.md and figures/ into the folder `out`; the path of the page.

    Raises:
        SmidgenError: a file cannot be written.
    """
    sections = sections_of(run)
    pictures = [picture for section in sections for picture in section.pictures]
    figures = {picture.name: picture.draw() for picture in pictures}
    save_pictures({name: as_png(figure) for name, figure in figures.items()}, out)
    write_atomic(out / "report.md", _render("run.md.jinja", run, sections, {}))
    drawn = {p.name: drawing(figures[p.name], p.alt) for p in pictures}
    page = out / PAGE
    write_atomic(page, _render("run.html.jinja", run, sections, drawn))
    return page


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as it stands in a page."""

    svg: str
    wide: bool


def drawing(figure: "Figure", alt: str) -> Drawing:
    """The figure as SVG, said in words by `alt`."""
    return Drawing(as_svg(figure, alt), is_wide(figure))


def save_pictures(pictures: dict[str, bytes], out: Path) -> None:
    """Write the PNGs into figures/ below `out`."""
    folder = ensure_folder(out / "figures")
    for name, content in pictures.items():
        write_atomic(folder / f"{name}.png", content)


def _render(
    template: str, run: RunFolder, sections: Sequence[Section], drawn: dict[str, Drawing]
) -> str:
    record = run.record
    context: dict[str, Any] = {
        "run": run,
        "record": record,
        "experiment": run.experiment,
        "sections": sections,
        "drawn": drawn,
        "epochs": epoch_table(run.epochs, run.times),
        "markdown_table": markdown_table,
    }
    if record is not None:
        context |= {
            "result": result_sentence(record, run.times),
            "verdict": capitalized(record.verdict.status),
            "judged": {"inside the budget": "pass", "NOT inside the budget": "fail"}.get(
                record.verdict.status, ""
            ),
            "limits": (record.verdict.HEADER, record.verdict.rows),
            "observations": observations(record),
            "layers": layer_table(record.profile),
            "receptive_field": receptive_field_table(record.profile),
            "totals": totals(record.profile),
            "total_time": seconds(run.times.total_seconds) if run.times else "",
        }
    return TEMPLATES.get_template(template).render(context)


def epoch_table(epochs: Sequence[Epoch], times: Times | None = None) -> Table:
    """A row for each epoch; a column that would be empty is left out."""
    columns = {
        "epoch": [str(epoch.epoch) for epoch in epochs],
        "training loss": [f"{epoch.train.loss:.4f}" for epoch in epochs],
        "training accuracy": [percent(epoch.train.accuracy) for epoch in epochs],
        "validation loss": [_loss(epoch.validation) for epoch in epochs],
        "validation accuracy": [_accuracy(epoch.validation) for epoch in epochs],
        "test accuracy": [_accuracy(epoch.test) for epoch in epochs],
        "learning rate": [f"{epoch.lr:.5f}" for epoch in epochs],
        "seconds": [f"{taken:.1f}" for taken in times.epoch_seconds] if times else [],
    }
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    return tuple(filled), list(zip(*filled.values(), strict=True))


def _loss(score: Score | None) -> str:
    return f"{score.loss:.4f}" if score else ""


def _accuracy(score: Score | None) -> str:
    return percent(score.accuracy) if score else ""


def sections_of(run: RunFolder) -> list[Section]:
    """The sections with pictures that the run's folder has the material for."""
    sections = []
    if run.epochs:
        sections.append(_curves(run))
    if "samples" in run.diagnostics:
        sections.append(_samples(run))
    if run.record is not None:
        sections.append(_mistakes(run, run.record))
        if run.record.test.calibration:
            sections.append(_confidence(run.record))
    inside = _inside(run)
    if inside.pictures:
        sections.append(inside)
    return sections


def _curves(run: RunFolder) -> Section:
    target = run.experiment.budget.min_accuracy
    parts = ["in training"]
    if any(epoch.validation for epoch in run.epochs):
        parts.append("in validation")
    if any(epoch.test for epoch in run.epochs):
        parts.append("on the test images")
    where = " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
    line = "" if target is None else ", with the target as a line"
    conditions = "".join(f"{condition}, " for condition in _conditions(run))
    return Section(
        "Curves",
        f"Training figures are taken as the epoch ran: {conditions}while the weights moved. The "
        "last epoch counts.",
        (
            Picture(
                "accuracy",
                f"Accuracy by epoch {where}{line}",
                lambda: plots.accuracy_curves(run.epochs, target),
            ),
            Picture(
                "loss",
                f"Loss by epoch {where}",
                lambda: plots.loss_curves(run.epochs),
            ),
            Picture(
                "learning-rate",
                "Learning rate by epoch",
                lambda: plots.learning_rate(run.epochs),
            ),
        ),
    )


def _conditions(run: RunFolder) -> list[str]:
    """What makes training figures worse than others, as far as the folder tells."""
    said = []
    if _augments(run) or run.experiment.data.transforms:
        clean = run.experiment.data.augment.no_aug_epochs
        last = "the last epoch" if clean == 1 else f"the last {clean} epochs"
        said.append("on augmented images" + (f" but in {last}" if clean else ""))
    layers = run.record.profile.layers if run.record else ()
    if any("Dropout" in layer.operation for layer in layers):
        said.append("with dropout")
    return said


def _augments(run: RunFolder) -> bool:
    settings = run.experiment.data.augment
    return any((settings.rotate, settings.translate, settings.scale, settings.shear))


def _samples(run: RunFolder) -> Section:
    samples = run.diagnostics["samples"]
    half = -(-len(samples) // 2)
    if _augments(run) and "augmented" in run.diagnostics:
        augmented = run.diagnostics["augmented"]
        rows = [samples[:half], augmented[:half], samples[half:], augmented[half:]]
        return Section(
            "Samples",
            "Training images, each with one draw of the augmentation below it.",
            (
                Picture(
                    "samples",
                    "Training images and the same images augmented",
                    lambda: plots.pictures(rows, ["as they are", "augmented"] * 2),
                ),
            ),
        )
    return Section(
        "Samples",
        "Training images as they are.",
        (
            Picture(
                "samples",
                "Training images",
                lambda: plots.pictures([samples[:half], samples[half:]], ["", ""]),
            ),
        ),
    )


def _mistakes(run: RunFolder, record: RunRecord) -> Section:
    test, classes = record.test, record.data.classes
    pictures = [
        Picture(
            "confusion",
            "Confusion matrix of the test images: true class by predicted class",
            lambda: plots.confusion(test.confusion, classes),
        ),
        Picture(
            "class-accuracy",
            "Test accuracy of each class",
            lambda: plots.class_accuracy(test.confusion, classes),
        ),
    ]
    if len(run.diagnostics.get("wrong", ())) and {"wrong_labels", "wrong_shares"} <= set(
        run.diagnostics
    ):
        wrong, labels = run.diagnostics["wrong"], run.diagnostics["wrong_labels"]
        pictures.append(
            Picture(
                "most-wrong",
                "The misclassified test images with the highest loss, with the probabilities of "
                "the likeliest classes; the true class in green",
                lambda: plots.most_wrong(wrong, labels, run.diagnostics["wrong_shares"], classes),
            )
        )
    wrong_count = test.num_images - test.num_correct
    return Section(
        "Mistakes",
        f"{wrong_count:,} of {test.num_images:,} test images are misclassified. The darker a "
        "cell, the larger its share of the images of a class; green: the true class.",
        tuple(pictures),
    )


def _confidence(record: RunRecord) -> Section:
    error = record.test.expected_calibration_error
    return Section(
        "Calibration",
        f"Expected calibration error: {100 * error:.2f} points, the mean distance between "
        "confidence and accuracy over bins of equal width, weighted by images.",
        (
            Picture(
                "calibration",
                "Accuracy against confidence, by bin, with the number of images",
                lambda: plots.reliability(record.test.calibration),
            ),
        ),
    )


def _inside(run: RunFolder) -> Section:
    pictures = []
    filters, record = run.filters, run.record
    if record is not None:
        pictures.append(
            Picture(
                "cost",
                "What share of the parameters and of the multiply-adds each layer takes",
                lambda: plots.cost_by_layer(record.profile),
            )
        )
    if filters is not None:
        pictures.append(
            Picture(
                "filters",
                "Filters of the first convolution",
                lambda: plots.filters(filters),
            )
        )
    if "maps" in run.diagnostics:
        pictures.append(
            Picture(
                "feature-maps",
                "Feature maps of the first convolution for one image",
                lambda: plots.feature_maps(run.diagnostics["maps"]),
            )
        )
    sees = filters is not None or "maps" in run.diagnostics
    text = "Where its cost is" if record is not None else ""
    if sees:
        text += ", and what it sees" if text else "What it sees"
    return Section("Inside the network", f"{text}.", tuple(pictures))
