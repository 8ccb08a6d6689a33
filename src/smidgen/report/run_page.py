"""The report of one run: an HTML page that needs no other file, and Markdown with PNGs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smidgen.config import Augment
from smidgen.formatting import capitalized, percent
from smidgen.record import Epoch, RunRecord, Score, Times
from smidgen.record.profile import layer_table, receptive_field_table, totals
from smidgen.report import plots
from smidgen.report.image_grid import named_rows
from smidgen.report.observations import data_sentence, observations, provenance, result_sentence
from smidgen.report.page import Plot, Section, write_page
from smidgen.report.recipe import recipe_table
from smidgen.report.run_folder import RunFolder, read_run

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def write_report(run: "RunFolder | str | os.PathLike[str]", out: Path | None = None) -> Path:
    """Write report.html, report.md and figures/ about a run; the path of the HTML page.

    `run` is a run's folder or what was read from it; the page goes there unless `out` is given.

    Raises:
        RecordError: the folder has no run, or a file of it is damaged.
        SmidgenError: a file cannot be written.
    """
    if not isinstance(run, RunFolder):
        run = read_run(Path(run))
    sections = sections_of(run)
    record = run.record
    context: dict[str, Any] = {
        "run": run,
        "record": record,
        "experiment": run.experiment,
        "sections": sections,
        "epochs": epoch_table(run.epochs, run.times),
        "notes": (*run.missing, *(record.data.notes + record.warnings if record else ())),
    }
    if record is None or not record.trained_elsewhere:
        context["recipe"] = recipe_table(run.experiment, record)
    if record is not None:
        context |= {
            "result": result_sentence(record, run.times),
            "status": capitalized(record.verdict.status),
            "data": data_sentence(record),
            "observations": observations(record),
            "provenance": provenance(record, run.times),
            "layers": layer_table(record.profile),
            "receptive_field": receptive_field_table(record.profile),
            "totals": totals(record.profile),
        }
    shown = [plot for section in sections for plot in section.plots]
    return write_page("run", context, shown, out or run.folder)


def epoch_table(epochs: Sequence[Epoch], times: Times | None = None) -> Table:
    """Header and rows of a table of all epochs, without columns that would be empty."""
    columns = {
        "epoch": [str(epoch.epoch) for epoch in epochs],
        "training loss": [_loss(epoch.train) for epoch in epochs],
        "training accuracy": [_accuracy(epoch.train) for epoch in epochs],
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
    """The sections with plots that the run has the data for."""
    sections = []
    if run.epochs:
        sections.append(_curves(run))
    if "samples" in run.diagnostics:
        sections.append(_samples(run))
    if run.record is not None:
        sections.append(_mistakes(run, run.record))
        if run.record.test.calibration:
            sections.append(_calibration(run.record))
    if shown := _network_plots(run):
        text = "Where its parameters and multiply-adds are, and what its first convolution does."
        sections.append(Section("Inside the network", text, shown))
    return sections


def _curves(run: RunFolder) -> Section:
    target = run.experiment.budget.min_accuracy
    splits = ["Training"]
    splits += ["validation"] if any(epoch.validation for epoch in run.epochs) else []
    splits += ["test"] if any(epoch.test for epoch in run.epochs) else []
    which = " and ".join(filter(None, [", ".join(splits[:-1]), splits[-1]]))
    line = "" if target is None else ", with the target as a dotted line"
    conditions = "".join(f"{condition}, " for condition in _training_conditions(run))
    text = (
        f"Training loss and accuracy are averages over the epoch: {conditions}while the weights "
        "change. The last epoch counts."
    )
    accuracy = plots.accuracy_curves(run.epochs, target)
    return Section(
        "Curves",
        text,
        (
            Plot("accuracy", f"{which} accuracy by epoch{line}", accuracy),
            Plot("loss", f"{which} loss by epoch", plots.loss_curves(run.epochs)),
            Plot("learning-rate", "Learning rate by epoch", plots.learning_rate(run.epochs)),
        ),
    )


def _training_conditions(run: RunFolder) -> list[str]:
    """What makes training scores worse than others, as far as the folder shows."""
    conditions = []
    data = run.experiment.data
    if _augments(data.augment) or data.transforms:
        clean = data.augment.no_aug_epochs
        last = "the last epoch" if clean == 1 else f"the last {clean} epochs"
        conditions.append("on augmented images" + (f" except in {last}" if clean else ""))
    layers = run.record.profile.layers if run.record else ()
    if any("Dropout" in layer.operation for layer in layers):
        conditions.append("with dropout")
    return conditions


def _augments(augment: Augment) -> bool:
    return any((augment.rotate, augment.translate, augment.scale, augment.shear))


def _samples(run: RunFolder) -> Section:
    samples, augmented = run.diagnostics["samples"], run.diagnostics.get("augmented")
    middle = -(-len(samples) // 2)
    if augmented is not None and _augments(run.experiment.data.augment):
        text = "Training images, each with one random augmentation below it."
        caption = "Training images and the same images augmented"
        rows = [samples[:middle], augmented[:middle], samples[middle:], augmented[middle:]]
        names = ["original", "augmented"] * 2
    else:
        text, caption = "Training images as they are.", "Training images"
        rows, names = [samples[:middle], samples[middle:]], ["", ""]
    shown = [(row, name) for row, name in zip(rows, names, strict=True) if len(row)]
    figure = named_rows([row for row, _ in shown], [name for _, name in shown], cell=0.35)
    return Section("Samples", text, (Plot("samples", caption, figure),))


def _mistakes(run: RunFolder, record: RunRecord) -> Section:
    test, classes = record.test, record.data.classes
    shown = [
        Plot(
            "confusion",
            "Confusion matrix of the test images: true class by predicted class",
            plots.confusion_matrix(test.confusion, classes),
        ),
        Plot(
            "class-accuracy",
            "Test accuracy of each class",
            plots.class_accuracy(test.confusion, classes),
        ),
    ]
    worst = [run.diagnostics.get(name) for name in ("wrong", "wrong_labels", "wrong_shares")]
    images, labels, probabilities = worst
    if images is not None and labels is not None and probabilities is not None and len(images):
        caption = (
            "The misclassified test images with the highest loss, and the probabilities of their "
            "most probable classes; the true class in green"
        )
        figure = plots.worst_predictions(images, labels, probabilities, classes)
        shown.append(Plot("worst-predictions", caption, figure))
    text = (
        f"{test.num_images - test.num_correct:,} of {test.num_images:,} test images are "
        "misclassified. A darker cell stands for a larger share of the images of its true class; "
        "correct predictions are green."
    )
    return Section("Mistakes", text, tuple(shown))


def _calibration(record: RunRecord) -> Section:
    error = record.test.expected_calibration_error
    text = (
        f"Expected calibration error: {100 * error:.2f} points, the mean distance between "
        "confidence and accuracy over bins of equal width, weighted by images."
    )
    caption = "Accuracy against confidence, by bin, with the number of images"
    figure = plots.reliability_diagram(record.test.calibration)
    return Section("Calibration", text, (Plot("calibration", caption, figure),))


def _network_plots(run: RunFolder) -> tuple[Plot, ...]:
    shown = []
    if run.record is not None and any(row.params or row.macs for row in run.record.profile.layers):
        caption = "Each layer's share of the parameters and of the multiply-adds"
        shown.append(Plot("cost", caption, plots.cost_by_layer(run.record.profile)))
    if run.filters is not None:
        figure = plots.filters(run.filters)
        shown.append(Plot("filters", "Filters of the first convolution", figure))
    if "maps" in run.diagnostics:
        caption = "Feature maps of the first convolution for one image"
        figure = plots.feature_maps(run.diagnostics["maps"])
        shown.append(Plot("feature-maps", caption, figure))
    return tuple(shown)
