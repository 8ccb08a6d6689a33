from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from smidgen.record import RunRecord
from smidgen.report import plots
from smidgen.report.image_grid import arrange
from smidgen.report.style import NARROW, as_svg


def luminance(color: Any) -> float:
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))


def contrast(one: Any, other: Any) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_counts_are_readable_on_every_cell() -> None:
    """Text and cells have fixed colors, so that light or dark pages make no difference."""
    table = tuple(tuple(90 if i == j else i * j // 3 for j in range(10)) for i in range(10))
    figure = plots.confusion_matrix(table, [str(n) for n in range(10)])
    (axes,) = figure.axes
    image: Any = axes.images[0]
    assert image.get_alpha() in (None, 1)
    cells = image.cmap(image.norm(image.get_array()))
    assert (cells[..., 3] == 1).all()
    assert axes.texts
    assert {text.get_color() for text in axes.texts} == {"#000000", "#ffffff"}
    for text in axes.texts:
        column, row = map(round, text.get_position())
        assert contrast(text.get_color(), cells[row, column, :3]) > 4.5


def test_a_perfect_confusion_matrix_is_drawn() -> None:
    plots.confusion_matrix(((3, 0), (0, 4)), ["a", "b"])


def test_nothing_is_written_across_the_curves(record: RunRecord) -> None:
    (axes,) = plots.accuracy_curves(record.epochs, 0.95).axes
    assert not axes.texts
    assert axes.get_legend() is None
    assert "target 95.00 %" in axes.get_legend_handles_labels()[1]


def test_figures_of_a_run_with_short_names_suit_a_phone(record: RunRecord) -> None:
    classes = record.data.classes
    probabilities = np.full((12, 10), 0.1, np.float32)
    images, labels = np.zeros((12, 1, 8, 8), np.uint8), np.zeros(12, np.int64)
    for figure in (
        plots.worst_predictions(images, labels, probabilities, classes),
        plots.cost_by_layer(record.profile),
        plots.confusion_matrix(record.test.confusion, classes),
    ):
        assert figure.get_figwidth() == NARROW
        assert "min-width" not in as_svg(figure, "a figure")


def test_a_wide_figure_is_not_made_smaller_than_it_is() -> None:
    size = range(30)
    table = tuple(tuple(int(i == j) for j in size) for i in size)
    svg = as_svg(plots.confusion_matrix(table, [f"class {n}" for n in size]), 'a <wide> "one"')
    assert 'style="min-width:' in svg
    assert 'aria-label="a &lt;wide&gt; &quot;one&quot;"' in svg


@pytest.mark.parametrize("channels", [1, 3])
def test_the_page_shows_between_the_images_of_a_grid(channels: int) -> None:
    images = np.full((3, channels, 4, 5), 128, np.uint8)
    made = arrange([images, images[:2]])
    assert made.pixels.shape == (2 * 4 + 1, 3 * 5 + 2, 4)
    alpha = made.pixels[..., 3]
    assert (alpha[4] == 0).all()
    assert (alpha[:, [5, 11]] == 0).all()
    assert (alpha[5:, 12:] == 0).all()
    assert (alpha > 0).sum() == 5 * 4 * 5
    assert (made.pixels[alpha > 0] == [128, 128, 128, 255]).all()
    assert list(made.column_centres) == [2, 8, 14]
    assert list(made.row_centres) == [1.5, 6.5]


def test_the_axes_of_the_confusion_matrix_are_predicted_and_true() -> None:
    figure = plots.confusion_matrix(((3, 1), (0, 4)), ["a", "b"])
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    (one,) = [text for text in axes.texts if text.get_text() == "1"]
    assert one.get_position() == (1, 0)  # of true class a, predicted as b
