"""Flash and RAM, estimated before training, are within 5 % of what is linked and measured."""

from collections.abc import Callable
from shutil import which

import numpy as np
import pytest
import torch
from exported_networks import NETWORKS, SHAPE
from torch import nn

from smidgen.errors import ModelError
from smidgen.exporters.c import c_code
from smidgen.exporters.targets import TARGETS, estimate, measure
from smidgen.exporters.targets.estimate import untrained_integers
from smidgen.models.chain import build_chain

TOLERANCE = 0.05
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "small": (lambda: build_chain("8,s2 8 G", (1, 28, 28), 10), (1, 28, 28), 10),
    "padded": (lambda: build_chain("4,p1 M 6,p1 M 8 G", (1, 28, 28), 10), (1, 28, 28), 10),
    "depthwise": (lambda: build_chain("4,s2,p1 8,d,p1 6,k1 F", (1, 28, 28), 10), (1, 28, 28), 10),
    "large": (lambda: build_chain("8 8 M 14 14 14 16 G", (1, 28, 28), 10), (1, 28, 28), 10),
    **{name: (make, SHAPE, 5) for name, make in NETWORKS.items()},
}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("case", "bits"), [(case, bits) for case in CASES for bits in (8, 4)])
def test_an_estimate_is_within_five_percent(case: str, bits: int, target: str) -> None:
    if which(TARGETS[target].compiler) is None:
        pytest.skip(f"{TARGETS[target].compiler} is not installed")
    make, shape, classes = CASES[case]
    network = make()
    flash, ram = estimate(network, shape, target, bits)
    integers = untrained_integers(network, shape, bits)
    images = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    texts = c_code(integers, title="", origin="", classes=[""] * classes)
    found = measure(texts, target, images, integers.scores(images))
    assert flash == pytest.approx(found.flash_bytes, rel=TOLERANCE)
    if found.ram_bytes is not None:  # else its simulator or the chip's RAM is missing
        assert ram == pytest.approx(found.ram_bytes, rel=TOLERANCE)


def test_an_estimate_depends_on_the_layers_and_not_on_their_weights() -> None:
    shape = (1, 12, 12)
    torch.manual_seed(1)
    first = build_chain("4 4,p1,r M 6 G", shape, 10)
    before = {name: values.clone() for name, values in first.state_dict().items()}
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = build_chain("4 4,p1,r M 6 G", shape, 10)
    torch.random.set_rng_state(state)
    assert estimate(first, shape, "cortex-m0", 4) == estimate(second, shape, "cortex-m0", 4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(values, before[name]) for name, values in first.state_dict().items())
    assert first.training


def test_a_layer_that_cannot_be_exported_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(400, 10))
    with pytest.raises(ModelError, match=r"GELU 1 .* cannot be exported"):
        estimate(network, (1, 12, 12), "rv32i", 8)
