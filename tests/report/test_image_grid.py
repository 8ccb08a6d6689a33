import base64
import io

import numpy as np
import pytest
from PIL import Image

from smidgen.report.image_grid import arrange, as_png, colored, data_uri


@pytest.mark.parametrize("channels", [1, 3])
def test_the_page_shows_between_the_images_of_a_grid(channels: int) -> None:
    images = colored(np.full((3, channels, 4, 5), 128, np.uint8))
    made = arrange([images, images[:2]])
    assert made.shape == (2 * 4 + 1, 3 * 5 + 2, 4)
    alpha = made[..., 3]
    assert (alpha[4] == 0).all()
    assert (alpha[:, [5, 11]] == 0).all()
    assert (alpha[5:, 12:] == 0).all()
    assert (alpha > 0).sum() == 5 * 4 * 5
    assert (made[alpha > 0] == [128, 128, 128, 255]).all()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_image_is_written_as_it_is(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, channels, 8, 12), np.uint8)
    pixels = colored(image)[0]
    content = base64.b64decode(data_uri(pixels).partition(",")[2])
    with Image.open(io.BytesIO(content)) as read:
        assert (np.asarray(read.convert("RGBA")) == pixels).all()
    shown = image[0] if channels == 3 else image[0, :1]
    assert (pixels[..., :3] == shown.transpose(1, 2, 0)).all()


def test_pixels_are_enlarged_without_blur() -> None:
    pixels = colored(np.array([[[[0, 255]]]], np.uint8))[0]
    with Image.open(io.BytesIO(as_png(pixels, 3))) as read:
        assert np.asarray(read.convert("L")).tolist() == [[0, 0, 0, 255, 255, 255]] * 3


def test_large_images_are_thinned_out() -> None:
    assert colored(np.zeros((2, 3, 224, 200), np.uint8)).shape == (2, 56, 50, 4)
