import math

import pytest
import torch
from torch import Tensor

from smidgen.config import Augment
from smidgen.data import augment, normalize
from smidgen.data.augment import inverse_map, sample

FULL = Augment(rotate=20, translate=0.2, scale=0.2, shear=0.3)


def random_images(count: int, channels: int = 1, height: int = 28, width: int = 28) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def warped(images: Tensor, **changes: float) -> Tensor:
    rest = {"angle": 0.0, "scale": 1.0, "shear": 0.0, "right": 0.0, "down": 0.0}
    values = {**rest, **changes}
    angle, scale, shear, right, down = (torch.full((len(images),), values[n]) for n in rest)
    maps = inverse_map(angle, scale, shear, right, down, images.shape[2], images.shape[3])
    return sample(images.float(), maps)


def assert_close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted.float(), atol=0.02, rtol=0)  # of 255


def framed(content: Tensor, height: int, width: int) -> Tensor:
    """The content in the middle of a larger image of zeros."""
    image = torch.zeros(*content.shape[:2], height, width)
    top, left = (height - content.shape[2]) // 2, (width - content.shape[3]) // 2
    image[..., top : top + content.shape[2], left : left + content.shape[3]] = content
    return image


def test_normalization_is_what_its_formula_says() -> None:
    images = random_images(4, channels=3, height=5, width=6)
    mean, std = (0.1, 0.5, 0.7), (0.3, 0.2, 0.4)
    got = normalize(images, mean, std)
    assert got.dtype == torch.float32
    for channel in range(3):
        wanted = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(got[:, channel].double(), wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(normalize(images.float(), mean, std), got)


def test_normalization_leaves_its_input_alone() -> None:
    images = random_images(2).float()
    before = images.clone()
    normalize(images, (0.5,), (0.5,))
    assert torch.equal(images, before)


def test_settings_of_zero_change_nothing_and_draw_nothing() -> None:
    images, generator = random_images(3), torch.Generator().manual_seed(5)
    state = generator.get_state()
    assert augment(images, Augment(), generator) is images
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (9, 14), (1, 1)])
def test_the_identity_gives_the_image_back(height: int, width: int) -> None:
    images = random_images(3, channels=2, height=height, width=width)
    assert_close(warped(images), images)


def test_a_quarter_turn_is_rot90() -> None:
    images = random_images(3, channels=3)
    clockwise = warped(images, angle=math.pi / 2)
    assert_close(clockwise, torch.rot90(images, -1, (2, 3)))
    assert_close(warped(images, angle=-math.pi / 2), torch.rot90(images, 1, (2, 3)))


def test_an_image_that_is_not_square_turns_in_pixels() -> None:
    content = random_images(2, height=10, width=6).float()
    turned = warped(framed(content, 12, 30), angle=math.pi / 2)
    assert_close(turned, framed(torch.rot90(content, -1, (2, 3)), 12, 30))


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-4, 5)])
def test_a_shift_rolls_the_content_and_brings_in_background(right: int, down: int) -> None:
    content = framed(random_images(2, height=10, width=16).float(), 20, 26)
    shifted = warped(content, right=right, down=down)
    assert_close(shifted, content.roll((down, right), (2, 3)))


def test_a_shift_beyond_the_side_leaves_background_only() -> None:
    assert warped(random_images(2), right=29.0).abs().max() == 0


def test_scaling_grows_the_content() -> None:
    square = torch.full((1, 1, 8, 8), 200.0)
    doubled = warped(framed(square, 28, 28), scale=2.0)
    assert doubled[0, 0, 7:21, 7:21].min() == pytest.approx(200, abs=0.02)
    assert doubled.sum() / 200 == pytest.approx(16 * 16, rel=0.01)


def test_shearing_shifts_rows_by_their_place() -> None:
    image = torch.zeros(1, 1, 9, 21)
    image[..., 10] = 255  # a vertical line through the center
    sheared = warped(image, shear=1.0)
    for row in range(9):
        assert int(sheared[0, 0, row].argmax()) == 10 + (row - 4)


def test_the_parts_of_a_change_are_applied_in_the_stated_order() -> None:
    # p -> R K s p + t, for one bright pixel at p = (4, 2) of a 33 x 33 image.
    image = torch.zeros(1, 1, 33, 33)
    image[0, 0, 16 + 2, 16 + 4] = 255
    moved = warped(image, angle=math.pi / 2, shear=0.5, scale=1.0, right=3, down=-2)
    # K: (4 + 0.5 * 2, 2) = (5, 2); R, clockwise: (-2, 5); t: (1, 3).
    row, column = divmod(int(moved.argmax()), 33)
    assert (column - 16, row - 16) == (1, 3)


def test_each_image_has_its_own_draw() -> None:
    same = random_images(1).expand(16, -1, -1, -1)
    changed = augment(same, FULL, torch.Generator().manual_seed(0))
    assert len({tuple(image.flatten().tolist()) for image in changed}) == 16


def test_a_draw_comes_from_the_generator_alone() -> None:
    images = random_images(8)
    first, again, other = (
        augment(images, FULL, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.float32


def test_draws_are_uniform_within_the_limits() -> None:
    # A bright pixel in the center shows the shift that its image was given.
    images = torch.zeros(2000, 1, 41, 41, dtype=torch.uint8)
    images[:, :, 20, 20] = 255
    changed = augment(images, Augment(translate=0.25), torch.Generator().manual_seed(0))[:, 0]
    places = torch.arange(41.0) - 20
    shift = (changed.sum(1) * places).sum(1) / changed.sum((1, 2))
    assert shift.abs().max() <= 0.25 * 41 + 0.01
    assert shift.abs().max() > 0.24 * 41
    assert shift.mean().abs() < 0.5
    assert shift.std() == pytest.approx(0.25 * 41 / math.sqrt(3), rel=0.05)


def test_background_stays_background() -> None:
    black = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)
    assert augment(black, FULL, torch.Generator().manual_seed(0)).abs().max() == 0
    white = torch.full((64, 1, 28, 28), 255, dtype=torch.uint8)
    changed = augment(white, FULL, torch.Generator().manual_seed(0))
    assert changed.min() == 0  # what came in from outside
    assert changed.max() <= 255.01


def test_an_edge_is_continued_unless_the_background_is_black() -> None:
    white = torch.full((64, 3, 28, 28), 255, dtype=torch.uint8)
    changed = augment(white, FULL, torch.Generator().manual_seed(0), "edge")
    assert_close(changed, white)
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 4, 5)
    angle, scale, shear, right, down = torch.tensor([0.0, 1.0, 0.0, 2.0, 0.0]).view(5, 1)
    maps = inverse_map(angle, scale, shear, right, down, 4, 5)
    shifted = sample(ramp, maps, background="edge")
    assert_close(shifted[0, 0, 2], torch.tensor([0, 0, 0, 1, 2]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_gives_the_same_images() -> None:
    images = random_images(16, channels=3, height=20, width=30)
    cpu, gpu = (
        augment(images.to(device), FULL, torch.Generator().manual_seed(3))
        for device in ("cpu", "cuda")
    )
    assert gpu.device.type == "cuda"
    torch.testing.assert_close(gpu.cpu(), cpu, atol=0.05, rtol=0)
