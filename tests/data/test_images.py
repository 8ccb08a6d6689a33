import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from custom_sets import pixels
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smidgen.data.images import ImageHeader, in_parallel, load_image, most_common_size, read_header
from smidgen.errors import DataError


def saved(path: Path, image: Image.Image, **settings: Any) -> Path:
    image.save(path, **settings)
    return path


def test_transparent_becomes_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 3), (10, 20, 30, 0))
    image.putpixel((1, 1), (10, 20, 30, 255))
    array = load_image(saved(tmp_path / "a.png", image), (3, 3, 4))
    assert array[:, 1, 1].tolist() == [10, 20, 30]
    assert (array[:, 0] == 255).all()


def test_16_bits_become_8(tmp_path: Path) -> None:
    deep = np.array([[0, 256, 65535], [511, 32768, 4096]], np.uint16)
    path = saved(tmp_path / "a.png", Image.fromarray(deep))
    assert read_header(path) == ImageHeader(2, 3, False)
    assert load_image(path, (1, 2, 3))[0].tolist() == (deep >> 8).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_rotated_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels(1, 6, 9)[0])
    path = saved(tmp_path / "a.png", image, exif=exif)
    found = read_header(path)
    assert (found.height, found.width) == ((9, 6) if orientation >= 5 else (6, 9))
    array = load_image(path, (1, found.height, found.width))
    raw = np.asarray(image)
    turned = {1: raw, 2: raw[:, ::-1], 3: raw[::-1, ::-1], 4: raw[::-1]}
    turned |= {5: raw.T, 6: raw[::-1].T, 7: raw[::-1, ::-1].T, 8: raw.T[::-1]}
    np.testing.assert_array_equal(array[0], turned[orientation])


@pytest.mark.parametrize(
    ("mode", "color"),
    [("1", False), ("L", False), ("LA", False), ("P", True), ("RGB", True), ("RGBA", True)],
)
def test_the_header_says_whether_an_image_has_color(mode: str, color: bool, tmp_path: Path) -> None:
    image = Image.fromarray(pixels(1, 5, 5, 3)[0]).convert(mode)
    path = saved(tmp_path / "a.png", image)
    assert read_header(path) == ImageHeader(5, 5, color)
    assert load_image(path, (3, 5, 5)).shape == (3, 5, 5)
    assert load_image(path, (1, 7, 4)).shape == (1, 7, 4)


def test_a_palette_of_grays_is_gray(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(1, 5, 5)[0]).convert("P")
    assert not read_header(saved(tmp_path / "a.gif", image)).color


def test_cmyk_and_large_jpegs_are_read(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 400 * 600).reshape(400, 600).astype(np.uint8)
    path = saved(tmp_path / "a.jpg", Image.fromarray(smooth).convert("CMYK"), quality=95)
    array = load_image(path, (3, 20, 30))
    wanted = np.asarray(Image.fromarray(smooth).resize((30, 20), Image.Resampling.BILINEAR))
    assert np.abs(array.astype(int) - wanted).max() <= 6


def test_readers_that_start_programs_are_not_used(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "EPS")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    for read in (read_header, lambda path: load_image(path, (1, 4, 4))):
        with pytest.raises(DataError, match=r"a\.png is not an image that can be read"):
            read(tmp_path / "a.png")


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tiff", Image.fromarray(np.ones((3, 3), np.float32)))
    with pytest.raises(DataError, match=r"a\.tiff is damaged: its pixels are floating-point"):
        load_image(path, (1, 3, 3))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "tiff", "ppm"])
def test_every_format_is_read_and_refused_if_truncated(suffix: str, tmp_path: Path) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(pixels(1, 30, 20, 3)[0]))
    assert load_image(path, (3, 30, 20)).shape == (3, 30, 20)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"a.{suffix} "):
        load_image(path, (3, 30, 20))


PNG = io.BytesIO()
Image.fromarray(pixels(1, 12, 12, 3)[0]).save(PNG, "PNG")
JPEG = io.BytesIO()
Image.fromarray(pixels(1, 12, 12, 3)[0]).save(JPEG, "JPEG")


@given(
    st.sampled_from([PNG.getvalue(), JPEG.getvalue()]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_a_damaged_image_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, changes: list[tuple[int, int]]
) -> None:
    altered = bytearray(content)
    for place, value in changes:
        altered[place % len(altered)] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(altered))

    def work(path: Path) -> None:
        read_header(path)
        assert load_image(path, (3, 8, 8)).shape == (3, 8, 8)

    for _ in in_parallel(work, [path], "reading"):  # it keeps Pillow's warnings quiet
        pass


def test_results_and_errors_keep_the_order() -> None:
    def work(number: int) -> int:
        if number % 7 == 0:
            raise DataError(f"{number}")
        return number * number

    found = [result for batch in in_parallel(work, range(3000), "squares") for result in batch]
    assert len(found) == 3000
    for number, result in enumerate(found):
        if number % 7:
            assert result == number * number
        else:
            assert isinstance(result, DataError)
            assert str(result) == str(number)


def test_a_bug_is_not_reported_as_a_bad_image() -> None:
    def work(number: int) -> int:
        return 1 // number

    with pytest.raises(ZeroDivisionError):
        list(in_parallel(work, [1, 0], "dividing"))


def test_of_equally_common_sizes_the_smallest_wins() -> None:
    assert most_common_size([ImageHeader(9, 9, False), ImageHeader(5, 7, False)]) == (5, 7)
