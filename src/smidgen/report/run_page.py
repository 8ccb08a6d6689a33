"""The report of one run: an HTML page that needs no other file, and Markdown with PNGs."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from smidgen.config import Augment
from smidgen.errors import ConfigError
from smidgen.formatting import capitalized, percent, seconds
from smidgen.record import Epoch, RunRecord, Score, Times
from smidgen.report import plots
from smidgen.report.image_grid import arrange, colored
from smidgen.report.mistakes import mistakes
from smidgen.report.network import network
from smidgen.report.observations import data_sentence, observations, provenance, result_sentence
from smidgen.report.page import (
    Drawing,
    Images,
    Plot,
    Section,
    Table,
    Tile,
    write_markdown,
    write_page,
)
from smidgen.report.recipe import recipe_table
from smidgen.report.run_folder import RunFolder, read_run

D = TypeVar("D", bound=Drawing)
_SMALL = ("accuracy", "loss", "calibration", "network", "filters", "worst-predictions")


def write_report(
    run: "RunFolder | str | os.PathLike[str]", out: Path | None = None, markdown: bool = False
) -> Path:
    """Write report.html, report.md and figures/ about a run; the path of the HTML page.

    `run` is a run's folder or what was read from it; the page goes there unless `out` is given.
    With `markdown`, there is only report.md, with the smaller plots: a page for a repository.

    Raises:
        RecordError: the folder has no run, or a file of it is damaged.
        SmidgenError: a file cannot be written.
    """
    if not isinstance(run, RunFolder):
        run = read_run(Path(run))
    sections = sections_of(run)
    if markdown:
        sections = [replace(s, plots=_small(s.plots), images=_small(s.images)) for s in sections]
        sections = [s for s in sections if s.drawings or s.tables or s.mistakes]
    record = run.record
    context: dict[str, Any] = {
        "run": run,
        "record": record,
        "experiment": run.experiment,
        "tiles": tiles(run),
        "sections": sections,
        "epochs": epoch_table(run.epochs, run.times),
        "notes": (*run.missing, *(record.data.notes + record.warnings if record else ())),
        "recipe": None
        if record and record.trained_elsewhere
        else recipe_table(run.experiment, record),
    }
    if record is not None:
        context |= {
            "result": result_sentence(record, run.times),
            "status": capitalized(record.verdict.status),
            "data": data_sentence(record),
            "observations": observations(record),
            "provenance": provenance(record, run.times),
        }
    drawings = [drawing for section in sections for drawing in section.drawings]
    write = write_markdown if markdown else write_page
    return write("run", context, drawings, out or run.folder)


def _small(drawings: Sequence[D]) -> list[D]:
    return [drawing for drawing in drawings if drawing.name in _SMALL]


def find_drawing(run: RunFolder, name: str) -> Drawing:
    """What the report shows under this name: a plot, or images.

    Raises:
        ConfigError: the report has none of this name; the message lists them.
    """
    found = {drawing.name: drawing for section in sections_of(run) for drawing in section.drawings}
    if name not in found:
        raise ConfigError(
            f"the report of {run.folder} has no plot {name!r}; it has {', '.join(found)}."
        )
    return found[name]


def tiles(run: RunFolder) -> list[Tile]:
    """The numbers that matter most, each with the limit that the budget sets for it."""
    record, times = run.record, run.times
    done = f"{len(run.epochs)} of {run.experiment.train.epochs}"
    if record is None:
        return [("epochs", done, "", "")]
    values = {
        "test accuracy": percent(record.test.score.accuracy),
        "parameters": f"{record.profile.num_params:,}",
        "multiply-adds": f"{record.profile.macs:,}",
        "epochs": str(record.num_epochs) if record.num_epochs is not None else "not known",
    }
    limits = {name: (allowed, word.lower()) for name, allowed, _, word in record.verdict.rows}
    shown = [(name, value, *limits.get(name, ("", ""))) for name, value in values.items()]
    if times and run.epochs:
        shown.append(("training", seconds(times.train_seconds), "", ""))
    if not record.trained_elsewhere:
        shown.append(("seed", str(record.seed), "", ""))
    return shown


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
    return Table(tuple(filled), list(zip(*filled.values(), strict=True)))


def _loss(score: Score | None) -> str:
    return f"{score.loss:.4f}" if score else ""


def _accuracy(score: Score | None) -> str:
    return percent(score.accuracy) if score else ""


def sections_of(run: RunFolder) -> list[Section]:
    """The sections that the run has the data for."""
    sections = []
    if run.epochs:
        sections.append(_curves(run))
    if run.record is not None:
        sections.append(mistakes(run.record, run.diagnostics))
        if run.record.test.calibration:
            sections.append(_calibration(run.record))
    if (found := network(run)) is not None:
        sections.append(found)
    if "samples" in run.diagnostics:
        sections.append(_samples(run))
    return sections


def _curves(run: RunFolder) -> Section:
    target = run.experiment.budget.min_accuracy
    splits = ["Training"]
    splits += ["validation"] if any(epoch.validation for epoch in run.epochs) else []
    splits += ["test"] if any(epoch.test for epoch in run.epochs) else []
    which = " and ".join(filter(None, [", ".join(splits[:-1]), splits[-1]]))
    line = "" if target is None else ", with the target as a dotted line"
    conditions = "".join(f"{condition}, " for condition in _training_conditions(run))
    over = "a few steps" if run.epochs[0].steps else "the epoch"
    text = (
        f"Training loss and accuracy are averages over {over}: {conditions}while the weights "
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
    unused = run.experiment.model.args.get("dropout") == 0  # its layers pass everything on
    if any("Dropout" in layer.operation for layer in layers) and not unused:
        conditions.append("with dropout")
    return conditions


def _augments(augment: Augment) -> bool:
    return any((augment.rotate, augment.translate, augment.scale, augment.shear))


def _samples(run: RunFolder) -> Section:
    samples = colored(run.diagnostics["samples"])
    augmented = run.diagnostics.get("augmented")
    if augmented is not None and _augments(run.experiment.data.augment):
        text = "Training images, each with one random augmentation below it."
        caption = "Training images and the same images augmented"
        pairs = zip(samples, colored(augmented), strict=False)
        samples = np.stack([arrange([one[None], other[None]]) for one, other in pairs])
    else:
        text, caption = "Training images as they are.", "Training images"
    return Section("Samples", text, images=[Images("samples", caption, samples, size=56)])


def _calibration(record: RunRecord) -> Section:
    error = record.test.expected_calibration_error
    text = (
        f"Expected calibration error: {100 * error:.2f} points, the mean distance between "
        "confidence and accuracy over bins of equal width, weighted by images."
    )
    caption = "Accuracy against confidence, by bin"
    figure = plots.reliability_diagram(record.test.calibration)
    bins = record.test.calibration
    rows = [
        (
            f"{percent(number / len(bins))[:-5]} to {percent((number + 1) / len(bins))[:-5]} %",
            f"{found.num_images:,}",
            percent(found.confidence),
            percent(found.accuracy),
        )
        for number, found in enumerate(bins)
        if found.num_images
    ]
    table = Table(("bin", "images", "confidence", "accuracy"), rows)
    return Section(
        "Calibration", text, plots=[Plot("calibration", caption, figure)], tables=[table]
    )
