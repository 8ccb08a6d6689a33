import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from kernels_oracle import needs_compiler
from torch import Tensor

from smidgen.data.augment import normalize
from smidgen.kernels import prepare_batch

pytestmark = needs_compiler


def some_images(channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        0, 256, (50, channels, height, width), dtype=torch.uint8, generator=generator
    )


def random_maps(count: int, strength: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.eye(2, 3) + strength * torch.randn(count, 2, 3, generator=generator)


@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("strength", [0.0, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 5, 300), (1, 1, 1), (1, 9, 4)])
def test_sampling_matches_torch(shape: tuple[int, int, int], strength: float, edge: bool) -> None:
    images, chosen = some_images(*shape), torch.randint(0, 50, (23,))
    mean, std = (0.13, 0.4, 0.5)[: shape[0]], (0.31, 0.25, 0.2)[: shape[0]]
    maps = random_maps(23, strength)
    ours = prepare_batch(images, chosen, maps, mean=mean, std=std, edge=edge)
    grid = F.affine_grid(maps.double(), [23, *shape], align_corners=False)
    padding = "border" if edge else "zeros"
    sampled = F.grid_sample(
        images[chosen].double(), grid, padding_mode=padding, align_corners=False
    )
    theirs = normalize(sampled, mean, std)
    # float32 positions are off by some 1e-6 of how far from the center the map reaches
    allowed = 1e-4 * max(1.0, strength, max(shape) / 28, strength * max(shape) / 28)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=allowed)


def test_without_maps_images_are_normalized() -> None:
    images, chosen = some_images(3, 7, 6), torch.tensor([4, 4, 49, 0])
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    ours = prepare_batch(images, chosen, None, mean=mean, std=std)
    torch.testing.assert_close(ours, normalize(images[chosen], mean, std), rtol=0, atol=1e-6)


def test_any_number_of_threads_gives_the_same_bytes() -> None:
    images, chosen, maps = some_images(1, 28, 28), torch.arange(50), random_maps(50, 0.2)
    results = [
        prepare_batch(images, chosen, maps, mean=(0.1,), std=(0.3,), threads=threads)
        for threads in (1, 2, 3)
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_nan_and_infinite_maps_read_inside_the_image() -> None:
    maps = torch.full((3, 2, 3), math.nan)
    maps[1], maps[2] = math.inf, -math.inf
    prepare_batch(some_images(1, 8, 8), torch.arange(3), maps, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize(
    ("chosen", "maps", "message"),
    [
        (torch.tensor([50]), None, "indices from 0 to 49"),
        (torch.tensor([-1]), None, "indices from 0 to 49"),
        (torch.tensor([1.0]), None, "chosen of torch.int64"),
        (torch.tensor([1]), torch.zeros(2, 2, 3), "one map"),
        (torch.tensor([1]), torch.zeros(1, 2, 3).double(), "maps of torch.float32"),
    ],
)
def test_unsuitable_tensors_are_errors(chosen: Tensor, maps: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_batch(some_images(1, 8, 8), chosen, maps, mean=(0.0,), std=(1.0,))
