from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from smidgen.record import CalibrationBin, RunRecord
from smidgen.report import plots
from smidgen.report.style import COLORS, INK, LOW, NARROW, as_png, as_svg, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def test_nothing_is_written_across_the_curves(record: RunRecord) -> None:
    (axes,) = plots.accuracy_curves(record.epochs, 0.95).axes
    assert not axes.texts
    assert axes.get_legend() is None
    assert "target 95.00 %" in axes.get_legend_handles_labels()[1]


def test_figures_of_a_run_suit_a_phone_and_make_even_rows(record: RunRecord) -> None:
    figures = [
        plots.accuracy_curves(record.epochs, 0.95),
        plots.loss_curves(record.epochs),
        plots.learning_rate(record.epochs),
        plots.reliability_diagram(record.test.calibration),
    ]
    for figure in figures:
        assert tuple(figure.get_size_inches()) == (NARROW, LOW)
        assert "min-width" not in as_svg(figure, "a figure")


def test_a_wide_figure_is_not_made_smaller_than_it_is() -> None:
    with new_figure(NARROW + 1, LOW) as figure:
        figure.subplots()
    svg = as_svg(figure, 'a <wide> "one"')
    assert 'style="min-width:' in svg
    assert 'aria-label="a &lt;wide&gt; &quot;one&quot;"' in svg


def test_a_figure_has_the_colors_of_the_page(record: RunRecord) -> None:
    svg = as_svg(plots.accuracy_curves(record.epochs, 0.95), "accuracy")
    assert f"var(--c0, {COLORS[0]})" in svg
    assert "currentColor" in svg
    assert COLORS[0].lower() not in svg
    assert INK not in svg


def as_svg_after_png(figure: "Figure") -> str:
    as_png(figure)
    return as_svg(figure, "accuracy")


def test_the_values_are_shown_under_the_pointer(record: RunRecord) -> None:
    epochs = [replace(epoch, steps=None) for epoch in record.epochs]
    svg = as_svg(plots.accuracy_curves(epochs, 0.95), "accuracy")
    for epoch in epochs:
        assert epoch.validation is not None
        shown = [f"{100 * score.accuracy:.2f} %" for score in (epoch.train, epoch.validation)]
        words = f"epoch {epoch.epoch}: training {shown[0]}; validation {shown[1]}"
        assert f"<title>{words}</title>" in svg
    assert svg == as_svg_after_png(plots.accuracy_curves(epochs, 0.95))
    one = as_svg(plots.loss_curves(epochs[:1]), "loss")
    assert "<title>epoch 1: training " in one


def test_the_calibration_shows_its_bins_under_the_pointer() -> None:
    bins = [CalibrationBin(num_images=1, confidence=0.9, accuracy=1.0)]
    svg = as_svg(plots.reliability_diagram(bins), "calibration")
    assert "<title>1 image: confidence 90.00 %, accuracy 100.00 %</title>" in svg


def test_a_run_of_few_epochs_is_drawn_by_step(record: RunRecord) -> None:
    steps = [epoch.steps or () for epoch in record.epochs]
    assert [len(found) for found in steps] == [36, 36]  # one for each batch of 32 images
    for figure, values in (
        (
            plots.accuracy_curves(record.epochs, None),
            [100 * s.train.accuracy for s in sum(steps, ())],
        ),
        (plots.learning_rate(record.epochs), [s.lr for s in sum(steps, ())]),
    ):
        line = figure.axes[0].lines[0]
        assert np.asarray(line.get_ydata()).tolist() == values
        assert np.asarray(line.get_xdata()).tolist() == pytest.approx(
            [n / 36 for n in range(1, 73)]
        )
    old = [replace(epoch, steps=None) for epoch in record.epochs]
    assert np.asarray(plots.loss_curves(old).axes[0].lines[0].get_xdata()).tolist() == [1, 2]


@pytest.mark.parametrize("count", [1, 2, 5, 14, 60])
def test_the_ticks_are_at_whole_epochs(record: RunRecord, count: int) -> None:
    epochs = [replace(record.epochs[0], epoch=n + 1, steps=None) for n in range(count)]
    figure = plots.loss_curves(epochs)
    figure.draw_without_rendering()
    ticks = figure.axes[0].get_xticks()
    assert all(float(tick).is_integer() for tick in ticks)
