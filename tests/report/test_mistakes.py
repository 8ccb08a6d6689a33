import re
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import smidgen.report
from smidgen.record import RunRecord
from smidgen.report.mistakes import class_table, confused_pairs, confusion_matrix, mistakes

TABLE = ((35, 1, 0), (0, 20, 0), (4, 1, 995))
CLASSES = ["a", "b", "c"]


def test_a_cell_says_what_it_counts() -> None:
    matrix = confusion_matrix(TABLE, CLASSES)
    assert [[cell.text for cell in row] for row in matrix] == [
        ["35", "1", ""],
        ["", "20", ""],
        ["4", "1", "995"],
    ]
    assert matrix[2][0].title == "true c, predicted a: 4 images (0.40 %)"
    assert matrix[0][1].title == "true a, predicted b: 1 image (2.78 %)"
    assert matrix[0][2].title == ""
    assert [[cell.right for cell in row] for row in matrix] == np.eye(3, dtype=bool).tolist()


def test_one_mistake_of_many_is_paler_than_many() -> None:
    """The shade depends on the class's images, not on the largest number of the matrix."""
    matrix = confusion_matrix(TABLE, CLASSES)
    assert matrix[0][1].share == pytest.approx(sqrt(1 / 36))
    assert matrix[2][0].share == pytest.approx(sqrt(4 / 1000))
    assert confusion_matrix(((0, 7), (0, 3)), ["a", "b"])[0][1].share == 1


def test_a_large_matrix_has_no_numbers_and_a_huge_one_is_left_out() -> None:
    def cells(size: int) -> Any:
        table = tuple(tuple(3 * (i == j) for j in range(size)) for i in range(size))
        return confusion_matrix(table, [str(n) for n in range(size)])

    assert cells(20)[0][0].text == "3"
    assert cells(21)[0][0].text == ""
    assert cells(21)[0][0].title == "true 0, predicted 0: 3 images (100.00 %)"
    assert len(cells(100)) == 100
    assert cells(101) == []


def test_precision_recall_and_f1_of_each_class() -> None:
    table = class_table(TABLE, CLASSES)
    assert table.header == ("class", "images", "misclassified", "precision", "recall", "F1")
    assert list(table.rows) == [
        ("a", "36", "1", "89.74 %", "97.22 %", "93.33 %"),
        ("b", "20", "0", "90.91 %", "100.00 %", "95.24 %"),
        ("c", "1,000", "5", "100.00 %", "99.50 %", "99.75 %"),
    ]
    assert table.bars[2] == [0.2, 0, 1]


def test_a_class_without_images_or_predictions_has_no_ratio() -> None:
    rows = class_table(((0, 0), (3, 0)), ["a", "b"]).rows
    assert list(rows) == [
        ("a", "0", "0", "0.00 %", "-", "0.00 %"),
        ("b", "3", "3", "-", "0.00 %", "0.00 %"),
    ]


def test_the_most_confused_pairs_come_first() -> None:
    found = confused_pairs(TABLE, CLASSES, {})
    assert [(pair.true, pair.predicted, pair.count) for pair in found] == [
        ("c", "a", "4 images (0.40 %)"),
        ("a", "b", "1 image (2.78 %)"),
        ("c", "b", "1 image (0.10 %)"),
    ]
    assert confused_pairs(((3, 0), (0, 4)), CLASSES[:2], {}) == []


def test_pairs_of_an_older_run_have_the_worst_predictions_as_examples() -> None:
    shares = np.eye(3, dtype=np.float32)[[0, 0, 1, 0]]
    older = {
        "wrong": np.zeros((4, 1, 8, 8), np.uint8),
        "wrong_labels": np.array([2, 2, 2, 1]),
        "wrong_shares": shares,
    }
    assert [len(pair.images) for pair in confused_pairs(TABLE, CLASSES, older)] == [2, 0, 1]


def test_a_worst_prediction_names_both_classes(record: RunRecord) -> None:
    shares = np.zeros((1, 10), np.float32)
    shares[0, 3] = 0.999
    diagnostics = {
        "wrong": np.zeros((1, 1, 8, 8), np.uint8),
        "wrong_labels": np.array([5]),
        "wrong_shares": shares,
    }
    (images,) = mistakes(record, diagnostics).images
    assert images.captions == ["5, predicted 3 (99.9 %)"]
    assert not mistakes(record, {}).images


def luminance(color: Any) -> float:
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("kind", "strength"), [("right", 0.5), ("wrong", 0.6)])
def test_counts_are_readable_on_the_darkest_cell(dark: bool, kind: str, strength: float) -> None:
    css = (Path(smidgen.report.__file__).parent / "templates" / "style.css").read_text()
    values = dict(re.findall(r"--(\w+): ([^;]+);", css.split("@media")[dark]))
    assert f"--{kind}) / calc(.06 + .{round(100 * strength) - 6} * var(--share))" in css
    hue = np.array(values[kind].split(), dtype=float) / 255
    cell = strength * hue + (1 - strength) * np.array(to_rgb(values["paper"]))
    low, high = sorted([luminance(cell), luminance(to_rgb(values["ink"]))])
    assert (high + 0.05) / (low + 0.05) > 4.5
