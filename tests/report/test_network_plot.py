from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_nets import SHAPE, residual
from torch import nn
from zoo import ZOO

from smidgen import SmidgenError, profile
from smidgen.config import Model
from smidgen.models import build
from smidgen.record import Profile
from smidgen.report import network_plot
from smidgen.report.network_blocks import find_blocks

REFERENCE = ("gap-6k", "gap-11k", "squeeze-7k", "flatten-18k", "linear-19k")


def reference(name: str) -> Profile:
    return profile(build(Model(net=name), (1, 28, 28), num_classes=10), (1, 28, 28))


def texts_of(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def seen_by_middle_units(network: nn.Sequential, size: tuple[int, int]) -> list[np.ndarray]:
    """The pixels that reach the middle of each layer's output, found by making each one NaN."""
    high, wide = size
    x = torch.zeros(high * wide, 1, high, wide)
    x.view(high * wide, -1).fill_diagonal_(float("nan"))
    found = []
    for layer in network:
        x = layer(x)
        rows, columns = x.shape[2:] if x.ndim == 4 else (1, 1)
        middle = x.reshape(len(x), -1, rows, columns)[:, :, (rows - 1) // 2, (columns - 1) // 2]
        found.append(middle.isnan().any(1).view(high, wide).numpy())
    return found


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3), nn.AvgPool2d(2)],
        lambda: [nn.Conv2d(1, 2, 5, padding=2), nn.Conv2d(2, 2, 3, stride=2, padding=1)],
        lambda: [nn.Conv2d(1, 2, (1, 3), stride=(1, 2), padding=(0, 2)), nn.Conv2d(2, 1, (4, 1))],
        lambda: [nn.Conv2d(1, 2, 3, dilation=2), nn.AvgPool2d(3, 1, padding=1), nn.MaxPool2d(3)],
        lambda: [nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 3, 1)],
        lambda: [nn.Conv2d(1, 2, 3, stride=3), nn.Flatten(), nn.Linear(40, 3)],
    ],
)
def test_the_receptive_fields_are_where_a_probe_finds_them(
    layers: Callable[[], list[nn.Module]],
) -> None:
    size = (17, 13)
    network = nn.Sequential(*layers()).eval()
    found = {
        i: seen
        for i, seen in enumerate(seen_by_middle_units(network, size))
        if not isinstance(network[i], nn.Flatten)
    }
    blocks = find_blocks(profile(network, (1, *size)))[1:]
    assert len(blocks) == len(found)
    for block, seen in zip(blocks, found.values(), strict=True):
        assert block.seen is not None
        inside = np.zeros(size, bool)
        (top, left), (high, wide) = block.corner, block.seen
        inside[max(0, top) : top + high, max(0, left) : left + wide] = True
        for drawn, true in zip(np.nonzero(inside), np.nonzero(seen), strict=True):
            assert (drawn.min(), drawn.max()) == (true.min(), true.max())


@pytest.mark.parametrize("name", REFERENCE)
def test_a_reference_network_is_drawn_without_texts_on_each_other(name: str) -> None:
    found = reference(name)
    figure = network_plot(found, title=name).figure
    assert figure.get_layout_engine() is None  # a layout would take longer than the drawing
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) > 40
    assert not [1 for a, b in combinations(boxes, 2) if a.padded(-2).overlaps(b.padded(-2))]
    for layer in found.layers:
        if layer.window:
            assert "×".join(map(str, layer.output_shape)) in texts_of(figure)
            assert layer.rf_out is not None
            assert "sees {}×{}".format(*layer.rf_out) in texts_of(figure)


@pytest.mark.parametrize("name", ZOO)
def test_any_network_is_drawn_with_all_its_parameters(name: str) -> None:
    found = profile(ZOO[name](10, 3), (3, 28, 28))
    assert sum(block.params for block in find_blocks(found)) == found.num_params
    assert sum(block.macs for block in find_blocks(found)) == found.macs
    assert network_plot(found).svg.count("<image") >= 3


def test_a_branch_says_what_it_takes() -> None:
    found = profile(ZOO["Residual"](10, 1), (1, 28, 28))
    assert "from 8×13×13" in texts_of(network_plot(found).figure)


def test_images_need_not_be_square_nor_inputs_be_images() -> None:
    plot = network_plot(profile(residual(), SHAPE))
    assert "2×24×20" in texts_of(plot.figure)
    vector = profile(nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3)), (7,))
    plot = network_plot(vector)
    assert not plot.figure.axes[0].images
    assert {"7", "5", "3"} <= set(texts_of(plot.figure))
    assert "image" not in plot.caption


def test_a_field_larger_than_the_image_is_clipped_and_says_so() -> None:
    small = profile(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(18, 2)), (1, 5, 5))
    assert "clipped" not in network_plot(small).caption
    padded = profile(nn.Sequential(nn.Conv2d(1, 2, 7, padding=3)), (1, 5, 5))
    plot = network_plot(padded)
    assert "clipped where it is larger than the image" in plot.caption
    assert {"sees 7×7", "(clipped)"} <= set(texts_of(plot.figure))


def test_a_very_deep_network_leaves_out_its_middle() -> None:
    layers = [nn.Conv2d(1, 1, 3, padding=1) for _ in range(60)]
    found = profile(nn.Sequential(*layers), (1, 9, 9))
    blocks = find_blocks(found)
    assert len(blocks) == 41
    assert sum(block.params for block in blocks) == found.num_params
    assert "21 more" in texts_of(network_plot(found).figure)


def test_the_image_is_an_input_of_the_network() -> None:
    found = reference("gap-6k")
    image = np.arange(784, dtype=np.uint8).reshape(1, 28, 28)
    drawn: Any = network_plot(found, image).figure.axes[0].images[0]
    assert (drawn.get_array()[..., 0] == image[0]).all()
    with pytest.raises(SmidgenError, match=r"the image is \(28, 28\); an input .* \(1, 28, 28\)"):
        network_plot(found, image[0])


def test_a_diagram_is_saved_as_svg_for_light_and_dark_pages_or_as_png(tmp_path: Path) -> None:
    plot = network_plot(profile(residual(), SHAPE))
    plot.save(tmp_path / "network.svg")
    text = (tmp_path / "network.svg").read_text(encoding="utf-8")
    assert text.startswith("<svg ")
    assert "currentColor" in text
    assert "prefers-color-scheme:dark" in text
    plot.save(tmp_path / "network.PNG")
    with Image.open(tmp_path / "network.PNG") as image:
        assert image.width > 300
    with pytest.raises(SmidgenError, match=r"network.pdf: save it as .svg or .png"):
        plot.save(tmp_path / "network.pdf")
