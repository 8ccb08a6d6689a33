"""The mistakes on the test set: confusion matrix, scores by class, confused pairs, images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from smidgen.formatting import counted, percent
from smidgen.record import RunRecord
from smidgen.report.image_grid import Pixels, colored, data_uri
from smidgen.report.page import Images, Section, Table
from smidgen.report.run_folder import Arrays
from smidgen.report.style import short_name

Confusion = tuple[tuple[int, ...], ...]
"""Images by true class (row) and predicted class (column)."""

_MOST_NUMBERED = 20  # classes up to which the cells of a confusion matrix have numbers
_MOST_CLASSES = 100  # up to which there is one
_MOST_PAIRS = 6


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the confusion matrix."""

    text: str
    title: str
    """What the cell says, in words; empty for no images."""
    share: float
    """Square root of the share of the true class's images."""
    right: bool
    """Whether the prediction is correct."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A class that is predicted as another one."""

    true: str
    predicted: str
    count: str
    images: tuple[str, ...]
    """Addresses of examples."""


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What the page shows besides tables and images."""

    classes: Sequence[str]
    matrix: Sequence[Sequence[Cell]]
    """By true class (row) and predicted class (column); empty for too many classes."""
    markdown: tuple[Sequence[str], Sequence[Sequence[str]]] | None
    """Header and rows of the same; None for too many classes."""
    pairs: Sequence[Pair]
    """The most frequent ones first."""

    @property
    def small(self) -> bool:
        """Whether there is no room for numbers in the matrix."""
        return len(self.classes) > _MOST_NUMBERED

    @property
    def vertical(self) -> bool:
        """Whether the names above the columns are too long to be horizontal."""
        return self.small or max(map(len, self.classes)) > 4


def mistakes(record: RunRecord, diagnostics: Arrays) -> Section:
    """The section about the test images that are misclassified."""
    test, classes = record.test, [short_name(name) for name in record.data.classes]
    wrong = test.num_images - test.num_correct
    text = f"Misclassified: {wrong:,} of {counted(test.num_images, 'test image')}."
    worst = _worst(diagnostics, classes)
    return Section(
        "Mistakes",
        text,
        tables=[class_table(test.confusion, classes)],
        images=[worst] if worst else [],
        mistakes=Mistakes(
            classes=classes,
            matrix=confusion_matrix(test.confusion, classes),
            markdown=_markdown(test.confusion, classes),
            pairs=confused_pairs(test.confusion, classes, diagnostics),
        ),
    )


def confusion_matrix(confusion: Confusion, classes: Sequence[str]) -> list[list[Cell]]:
    """The cells by true class (row) and predicted class (column).

    The shade of a cell grows with the square root of its share of the true class's images: one
    mistake in a thousand is visible, and one in 35 is still far from a class that is lost.
    """
    if len(classes) > _MOST_CLASSES:
        return []
    numbered = len(classes) <= _MOST_NUMBERED
    matrix = []
    for true, row in enumerate(confusion):
        total = max(1, sum(row))
        cells = []
        for predicted, count in enumerate(row):
            words = (
                f"true {classes[true]}, predicted {classes[predicted]}: "
                f"{counted(count, 'image')} ({percent(count / total)})"
            )
            cells.append(
                Cell(
                    text=f"{count:,}" if numbered and count else "",
                    title=words if count else "",
                    share=sqrt(max(0, count) / total),
                    right=true == predicted,
                )
            )
        matrix.append(cells)
    return matrix


def _markdown(
    confusion: Confusion, classes: Sequence[str]
) -> tuple[Sequence[str], Sequence[Sequence[str]]] | None:
    if len(classes) > _MOST_NUMBERED:
        return None
    rows = [
        [name, *(f"{count:,}" if count else "" for count in row)]
        for name, row in zip(classes, confusion, strict=True)
    ]
    return ["true \\ predicted", *classes], rows


def class_table(confusion: Confusion, classes: Sequence[str]) -> Table:
    """Images, misses, precision, recall and F1 by class; "-" for a ratio of nothing."""
    counts = np.array(confusion, dtype=float)
    right, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    rows = [
        (
            name,
            f"{true[i]:,.0f}",
            f"{true[i] - right[i]:,.0f}",
            _ratio(right[i], predicted[i]),
            _ratio(right[i], true[i]),
            _ratio(2 * right[i], true[i] + predicted[i]),
        )
        for i, name in enumerate(classes)
    ]
    misses = true - right
    return Table(
        ("class", "images", "misclassified", "precision", "recall", "F1"),
        rows,
        title="Scores by class",
        bars={2: list(misses / max(1.0, misses.max()))},
    )


def _ratio(count: float, of: float) -> str:
    return percent(count / of) if of else "-"


def confused_pairs(confusion: Confusion, classes: Sequence[str], diagnostics: Arrays) -> list[Pair]:
    """The most frequent pairs of true and predicted class, with the images that there are."""
    found = sorted(
        (-count, true, predicted)
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count > 0
    )
    return [
        Pair(
            true=classes[true],
            predicted=classes[predicted],
            count=f"{counted(-count, 'image')} ({percent(-count / sum(confusion[true]))})",
            images=tuple(map(data_uri, _examples(diagnostics, true, predicted))),
        )
        for count, true, predicted in found[:_MOST_PAIRS]
    ]


def _examples(diagnostics: Arrays, true: int, predicted: int) -> Pixels:
    """Colored images of one pair; older runs have only those with the highest loss."""
    if "pairs" in diagnostics:
        images, labels = diagnostics["pairs"], diagnostics["pairs_labels"]
        guesses = diagnostics["pairs_predicted"]
    elif len(diagnostics.get("wrong", ())):
        images, labels = diagnostics["wrong"], diagnostics["wrong_labels"]
        guesses = diagnostics["wrong_shares"].argmax(1)
    else:
        return np.zeros((0, 1, 1, 4), np.uint8)
    size = min(len(images), len(labels), len(guesses))
    chosen = (labels[:size] == true) & (guesses[:size] == predicted)
    return colored(images[:size][chosen])


def _worst(diagnostics: Arrays, classes: Sequence[str]) -> Images | None:
    """The misclassified images with the highest loss, each with its classes; None without any."""
    found = [diagnostics.get(name) for name in ("wrong", "wrong_labels", "wrong_shares")]
    images, labels, probabilities = found
    if images is None or labels is None or probabilities is None or not len(images):
        return None
    captions = [
        f"{classes[label]}, predicted {classes[values.argmax()]} ({100 * values.max():.1f} %)"
        for label, values in zip(labels, probabilities, strict=False)
    ]
    caption = (
        "The misclassified test images with the highest loss: true class, predicted class and its "
        "probability"
    )
    return Images("worst-predictions", caption, colored(images), captions, size=112)
