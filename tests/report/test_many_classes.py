"""Reports of other things than ten digits in 28x28: many classes, odd names, color, large."""

import html
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from smidgen.config import Augment
from smidgen.data import Dataset, TestSplit, TrainSplit
from smidgen.evaluate import evaluate
from smidgen.profiling import profile
from smidgen.record import RunRecord
from smidgen.report import write_report
from smidgen.report.run_folder import RunFolder
from smidgen.runs.diagnostics import MAPS, SAMPLES, collect_diagnostics
from smidgen.runs.prepare import data_record

Shape = tuple[int, int, int]

NAMES = {
    "EMNIST's": tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
    "long ones": tuple(
        f"a very long name of a class, such as no. {n:,} of them" for n in range(12)
    ),
    "odd ones": (
        "$5 and $10",
        "a_b^{c",
        "<b>&amp;",
        r"\frac{",
        "100 %",
        "_hidden",
        '"',
        "Zürich",
        "a long one: " * 9,
    ),
    "other scripts": ("猫", "собака", "γάτα", "😀"),
    "two": ("no", "yes"),
    "CIFAR-100's": tuple(f"class {n}" for n in range(100)),
}


def dataset(classes: tuple[str, ...], shape: Shape) -> Dataset:
    """Noise, three training and two test images of each class."""
    random = np.random.default_rng(0)

    def noise(each: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(each * len(classes)) % len(classes)
        pixels: NDArray[np.uint8] = random.integers(0, 256, (len(labels), *shape), np.uint8)
        return torch.from_numpy(pixels), labels

    channels = shape[0]
    return Dataset(
        name="noise",
        source="made here",
        train=TrainSplit(*noise(3)),
        validation=None,
        test=TestSplit(*noise(2)),
        classes=classes,
        mean=(0.5,) * channels,
        std=(0.3,) * channels,
        sha256="0" * 64,
        notes=(),
    )


def folder(record: RunRecord, place: Path, classes: tuple[str, ...], shape: Shape) -> RunFolder:
    """The run of an untrained network."""
    torch.manual_seed(0)
    conv = nn.Conv2d(shape[0], 40, 3, stride=2)
    head = nn.Linear(40, len(classes))
    net = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    data = dataset(classes, shape)
    shown = {
        name: tensor.numpy()
        for name, tensor in collect_diagnostics(net, data, Augment(rotate=9), 0).items()
    }
    assert len(shown["samples"]) <= SAMPLES
    assert len(shown["maps"]) == MAPS
    made = replace(
        record,
        data=data_record(data),
        profile=profile(net, shape),
        test=evaluate(net, data.test, data.mean, data.std, len(classes)),
        experiment=replace(record.experiment, name="noise"),
    )
    return RunFolder(
        folder=place,
        experiment=made.experiment,
        epochs=made.epochs,
        record=made,
        times=None,
        diagnostics=shown,
        weights={"0.weight": conv.weight.detach().numpy()},
    )


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        ("EMNIST's", (3, 96, 64)),
        ("odd ones", (3, 17, 40)),
        pytest.param("long ones", (1, 28, 28), marks=pytest.mark.slow),
        pytest.param("other scripts", (1, 8, 8), marks=pytest.mark.slow),
        pytest.param("two", (3, 224, 224), marks=pytest.mark.slow),
        pytest.param("CIFAR-100's", (3, 32, 32), marks=pytest.mark.slow),
        pytest.param("long ones", (3, 5, 200), marks=pytest.mark.slow),
    ],
)
def test_the_report_is_drawn_and_stays_small(
    record: RunRecord, tmp_path: Path, names: str, shape: Shape
) -> None:
    classes = NAMES[names]
    page = write_report(folder(record, tmp_path, classes, shape), tmp_path)
    assert page.stat().st_size < 1_000_000
    text = html.unescape(page.read_text(encoding="utf-8"))
    for name in classes:
        assert f">{name if len(name) <= 25 else f'{name[:13]}…{name[-11:]}'}<" in text
    drawn = {path.stem: path.stat().st_size for path in (tmp_path / "figures").glob("*.png")}
    assert {"worst-predictions", "samples", "filters", "feature-maps"} <= set(drawn)
    assert max(drawn.values()) < 2_000_000
    assert (tmp_path / "report.md").stat().st_size < 100_000
