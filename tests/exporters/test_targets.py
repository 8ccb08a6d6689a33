"""The C code gives the same scores on simulated microcontrollers; what it needs there."""

import os
from functools import cache
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import torch
from exported_networks import trained
from numpy.typing import NDArray

from smidgen.config import Data
from smidgen.data import load
from smidgen.errors import ExportError
from smidgen.exporters.c import HEADER, SOURCE, c_code
from smidgen.exporters.conversion import to_integers
from smidgen.exporters.integer import IntegerNetwork
from smidgen.exporters.quantization import GraphNetwork
from smidgen.exporters.targets import TARGETS, measure
from smidgen.exporters.tracing import graph_of
from smidgen.models.chain import build_chain
from smidgen.record import Measurement


def integers_of(chain: str, images: NDArray[np.uint8], bits: int = 8) -> IntegerNetwork:
    shape = images.shape[1:]
    graph = graph_of(trained(build_chain(chain, shape, 10)), shape, (0.13,), (0.3,))
    network = GraphNetwork(graph, bits)
    network.calibrate(network.centered(torch.from_numpy(images[:50])))
    return to_integers(network)


def noise(number: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (number, 1, side, side), np.uint8)


NOISE = noise(3, 12)


@cache
def small() -> IntegerNetwork:
    return integers_of("4,s2 6,s2 G", NOISE)


def code(integers: IntegerNetwork) -> dict[str, str]:
    return c_code(integers, title="t", origin="o", classes=list("0123456789"))


def measured(name: str, integers: IntegerNetwork, images: NDArray[np.uint8]) -> Measurement:
    target = TARGETS[name]
    for tool in (target.compiler, target.simulator[0]):
        if which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    return measure(code(integers), name, images, integers.scores(images))


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_gives_the_scores_of_the_integer_network(name: str) -> None:
    found = measured(name, small(), NOISE)
    assert not found.note
    assert found.flash_bytes is not None
    assert 1000 < found.flash_bytes < 8000
    assert found.static_bytes is not None
    assert found.stack_bytes is not None
    assert found.ram_bytes == found.static_bytes + found.stack_bytes
    assert 100 < found.static_bytes < 800
    assert 40 < found.stack_bytes < 400
    assert found.count is not None
    assert 50_000 < found.count < 5_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("bits", [8, 2])
def test_a_target_classifies_a_hundred_test_images(name: str, bits: int) -> None:
    images = noise(100, 28)
    if "SMIDGEN_DATA" in os.environ:
        folder = Path(os.environ["SMIDGEN_DATA"])
        images = load(Data(name="mnist"), data_dir=folder).test.images[:100].numpy()
    found = measured(name, integers_of("4,s2,p1 M 8,p1 8 G", images, bits), images)
    assert found.ram_bytes is not None
    assert found.ram_bytes < 2048
    assert not found.note


@pytest.mark.slow
def test_cycles_are_counted_for_the_first_image() -> None:
    assert measured("atmega328p", small(), NOISE) == measured("atmega328p", small(), NOISE[:1])


@pytest.mark.slow
def test_a_network_that_does_not_fit_has_its_size_measured() -> None:
    images = noise(1, 28)
    found = measured("atmega328p", integers_of("16 16 M 16 G", images), images)
    assert found.note == "its RAM of 2,048 bytes is too small"
    assert found.static_bytes is not None
    assert found.static_bytes > 2048
    assert found.flash_bytes is not None
    assert found.count is None


@pytest.mark.parametrize("name", TARGETS)
def test_a_missing_compiler_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = measure(code(small()), name, NOISE, small().scores(NOISE))
    assert found == Measurement(
        target=name,
        unit=TARGETS[name].unit,
        note=f"{TARGETS[name].compiler} is not installed",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_other_scores_are_an_error(name: str) -> None:
    measured(name, small(), NOISE)  # skips
    scores = small().scores(NOISE)
    scores[1, 3] ^= 1
    with pytest.raises(ExportError, match=r"scores of 1 of 3 images .* first those of image 1"):
        measure(code(small()), name, NOISE, scores)


def test_code_that_does_not_compile_is_an_error() -> None:
    if which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    with pytest.raises(ExportError, match="arm-none-eabi-gcc: "):
        measure(
            {HEADER: "", SOURCE: "nonsense"}, "cortex-m0", noise(1, 8), np.zeros((1, 2), np.int8)
        )
