import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from smidgen.record import Epoch, RunRecord, Score
from smidgen.report import plots
from smidgen.report.style import as_png

ZERO = Score(loss=0.0, accuracy=1.0)


def changed(epochs: tuple[Epoch, ...], name: str, score: Score | None) -> tuple[Epoch, ...]:
    change: dict[str, Any] = {name: score, "steps": None}
    return tuple(replace(epoch, **change) for epoch in epochs)


def drawn(epochs: tuple[Epoch, ...], target: float | None = 0.95) -> list[bytes]:
    return [as_png(plots.accuracy_curves(epochs, target)), as_png(plots.loss_curves(epochs))]


def test_a_plot_is_a_png_of_a_sensible_size(record: RunRecord) -> None:
    for content in drawn(record.epochs):
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert image.format == "PNG"
            assert 300 <= image.width <= 2000
            assert 200 <= image.height <= 1500
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20


def test_the_same_epochs_give_the_same_bytes(record: RunRecord) -> None:
    assert drawn(record.epochs) == drawn(record.epochs)


@pytest.mark.parametrize(
    "epochs_of",
    [
        lambda epochs: changed(epochs, "validation", None),
        lambda epochs: changed(epochs, "test", Score(loss=0.1, accuracy=0.9)),
        lambda epochs: epochs[:1],
        lambda epochs: epochs * 20,
        # losses of exactly 0 have no place on a logarithmic axis
        lambda epochs: changed(changed(epochs, "train", ZERO), "validation", ZERO),
        lambda epochs: changed(epochs, "train", ZERO),
    ],
)
def test_unusual_epochs_are_drawn_without_a_warning(record: RunRecord, epochs_of: object) -> None:
    assert callable(epochs_of)
    assert drawn(epochs_of(record.epochs)) != drawn(record.epochs)


def test_the_target_is_drawn(record: RunRecord) -> None:
    plots_drawn = {
        as_png(plots.accuracy_curves(record.epochs, target)) for target in (None, 0.0, 0.95, 1.0)
    }
    assert len(plots_drawn) == 4
