import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from smidgen.config import Data
from smidgen.data.handwriting import center_handwriting, load_grayscale, load_like
from smidgen.data.named.catalog import CATALOG
from smidgen.errors import DataError

Grayscale = NDArray[np.float32]


def drawing(side: int = 28, *, dark_on_bright: bool = False) -> NDArray[np.uint8]:
    """A bar of a third of the side by a sixth, in the upper left, in black and white."""
    pixels = np.zeros((side, side), dtype=np.uint8)
    pixels[side // 6 : side // 2, side // 6 : side // 3] = 255
    return 255 - pixels if dark_on_bright else pixels


def save(folder: Path, image: Image.Image, name: str = "digit.png") -> Path:
    image.save(folder / name)
    return folder / name


@pytest.mark.parametrize("side", [28, 56, 140, 333])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_size_format_and_inversion_do_not_matter(tmp_path: Path, side: int, suffix: str) -> None:
    images = [
        save(tmp_path, Image.fromarray(drawing(side, dark_on_bright=dark)), f"{dark}.{suffix}")
        for dark in (False, True)
    ]
    one, inverted = (
        center_handwriting(load_grayscale(path), 28, 28).astype(int) for path in images
    )
    assert np.abs(one - inverted).max() <= 3  # JPEG rounds
    expected = center_handwriting(drawing(280).astype(np.float32) / np.float32(255), 28, 28).astype(
        int
    )
    if side != 28:  # an image of the network's size is not moved
        assert np.abs(one - expected).mean() < 10  # an empty frame would be at 46


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "I;16", "CMYK"])
def test_all_modes_show_the_same_image(tmp_path: Path, mode: str) -> None:
    pixels = drawing(28, dark_on_bright=True)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
        assert image.mode == mode
    else:
        image = Image.fromarray(pixels).convert(mode)
    path = save(tmp_path, image, "digit.jpg" if mode == "CMYK" else "digit.png")
    np.testing.assert_allclose(load_grayscale(path), pixels / 255, atol=0.1)


def test_sixteen_bits_keep_their_shades(tmp_path: Path) -> None:
    shades = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    path = save(tmp_path, Image.fromarray(shades))
    np.testing.assert_allclose(load_grayscale(path), shades / 65535, atol=1 / 255)


def test_transparent_pixels_are_paper(tmp_path: Path) -> None:
    pixels = drawing()
    transparent = np.zeros((28, 28, 4), dtype=np.uint8)  # black ink on transparent black
    transparent[..., 3] = pixels
    path = save(tmp_path, Image.fromarray(transparent))
    assert (center_handwriting(load_grayscale(path), 28, 28) == pixels).all()
    palette = Image.fromarray(pixels // 255, mode=None).convert("P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    assert (center_handwriting(load_grayscale(tmp_path / "palette.png"), 28, 28) == pixels).all()


def test_a_photograph_is_rotated_by_its_exif_orientation(tmp_path: Path) -> None:
    pixels = drawing(64)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_allclose(load_grayscale(tmp_path / "photo.png"), np.rot90(pixels, -1) / 255)


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (7, 5), (301, 300)])
@pytest.mark.parametrize("frame", [(28, 28), (32, 20)])
def test_a_drawing_is_scaled_and_centered_by_its_mass(
    shape: tuple[int, int], frame: tuple[int, int]
) -> None:
    height, width = shape
    grayscale = np.zeros((4 * height, 3 * width), dtype=np.float32)
    grayscale[2 * height : 3 * height, :width] = 1  # touches the left border
    digit = center_handwriting(grayscale, *frame)
    assert digit.shape == frame
    assert digit.max() == 255
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    longest = round(min(frame) * 20 / 28)
    assert max(len(rows), len(columns)) == longest
    assert len(rows) / len(columns) == pytest.approx(height / width, rel=0.1)
    for found, side in ((rows, frame[0]), (columns, frame[1])):
        assert abs((found[0] + found[-1] + 1) / 2 - side / 2) <= 0.5


def test_the_heavier_end_is_nearer_to_the_center() -> None:
    grayscale = np.zeros((100, 100), dtype=np.float32)
    grayscale[20:30, 20:70] = 1  # a heavy head
    grayscale[30:80, 20:30] = 1  # and a thin tail
    digit = center_handwriting(grayscale, 28, 28).astype(float)
    center = (digit.sum(1) * (np.arange(28) + 0.5)).sum() / digit.sum()
    assert abs(center - 14) <= 0.5
    rows = np.flatnonzero(digit.any(1))
    assert (rows[0] + rows[-1] + 1) / 2 > 15


def test_the_grain_of_paper_is_ignored() -> None:
    rng = np.random.default_rng(0)
    grayscale = np.full((90, 90), 0.8, dtype=np.float32) + rng.normal(0, 0.01, (90, 90)).astype(
        "f4"
    )
    grayscale[30:60, 40:50] = 0.2
    digit = center_handwriting(grayscale, 28, 28)
    assert np.flatnonzero(digit.any(1)).size == 20
    assert 6 <= np.flatnonzero(digit.any(0)).size <= 8


def specks() -> Grayscale:
    grayscale = np.ones((2000, 2000), dtype=np.float32)
    grayscale[500, 500] = grayscale[1500, 1500] = 0
    return grayscale


@pytest.mark.parametrize(
    "grayscale",
    [np.ones((1, 1), "f4"), np.zeros((50, 60), "f4"), np.ones((28, 28), "f4"), specks()],
)
def test_an_empty_image_is_an_empty_frame(grayscale: Grayscale) -> None:
    assert not center_handwriting(grayscale, 28, 28).any()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_that_cannot_be_read_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path, Image.fromarray(drawing(90)), f"digit.{suffix}")
    whole = path.read_bytes()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    for name, message in {
        "text.png": "is not an image that can be read",
        "empty.png": "is not an image that can be read",
        f"cut.{suffix}": "is damaged: .*(truncated|broken)",
        "none.png": "none.png cannot be read: No such file",
        ".": "cannot be read: Is a directory",
    }.items():
        with pytest.raises(DataError, match=message):
            load_grayscale(tmp_path / name)


@pytest.mark.parametrize("side", [7_100, 9_500, 13_400])
def test_too_large_an_image_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    # PNG's header holds the size; what follows is not read.
    small = save(tmp_path, Image.new("1", (8, 8))).read_bytes()
    header = small[12:16] + side.to_bytes(4, "big") * 2 + small[24:29]
    crc = zlib.crc32(header).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(small[:12] + header + crc + small[33:])
    with pytest.raises(DataError, match=r"bomb\.png (has \d+x\d+ pixels; at most|cannot be read)"):
        load_grayscale(tmp_path / "bomb.png")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    suffix=st.sampled_from(["png", "jpg", "gif"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3))),
)
def test_an_altered_image_is_read_or_a_data_error(
    tmp_path: Path, suffix: str, changes: list[tuple[float, bytes]]
) -> None:
    path = save(tmp_path, Image.fromarray(drawing(30)), f"digit.{suffix}")
    content = bytearray(path.read_bytes())
    for share, other in changes:
        place = int(share * len(content))
        content[place : place + 2] = other
    path.write_bytes(content)
    try:
        grayscale = load_grayscale(path)
    except DataError:
        return
    assert 0 <= grayscale.min() <= grayscale.max() <= 1
    assert center_handwriting(grayscale, 28, 28).shape == (28, 28)


def test_unevenly_lit_paper_is_ignored() -> None:
    light = np.linspace(0.45, 0.9, 90)[None, :] + np.linspace(0, 0.08, 60)[:, None]
    even, uneven = np.full((60, 90), 0.8), light.copy()
    for paper in (even, uneven):
        paper[15:45, 40:46] *= 0.2
    same = center_handwriting(even.astype(np.float32), 28, 28).astype(int)
    drawn = center_handwriting(uneven.astype(np.float32), 28, 28).astype(int)
    assert np.abs(drawn - same).max() < 60
    assert ((drawn > 0) == (same > 0)).all()


def garment(side: int) -> NDArray[np.uint8]:
    """Bright stripes on black that reach the upper and lower border."""
    pixels = np.zeros((side, side), np.uint8)
    pixels[:, side // 4 : -side // 4 : 2] = 200
    pixels[:, side // 4 + 1 : -side // 4 : 2] = 120
    return pixels


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("side", [28, 56, 140])
@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_an_image_that_fills_the_frame_is_only_resized(
    name: str, side: int, inverted: bool, tmp_path: Path
) -> None:
    pixels = garment(side)
    path = save(tmp_path, Image.fromarray(255 - pixels if inverted else pixels))
    found = load_like(Data(name=name), (1, 28, 28), path)[0].astype(int)
    resized = Image.fromarray(pixels).resize((28, 28), Image.Resampling.BILINEAR)
    assert np.abs(found - np.asarray(resized)).max() <= 1


@pytest.mark.parametrize(
    "name", ["mnist", "digits", "qmnist", "emnist-balanced", "emnist-digits", "emnist-letters"]
)
def test_handwriting_is_centered(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(drawing(90)))
    found = load_like(Data(name=name), (1, 28, 28), path)[0]
    assert (found == center_handwriting(load_grayscale(path), 28, 28)).all()
    assert np.flatnonzero(found.any(1)).size == 20


def test_the_catalog_says_what_is_handwriting() -> None:
    others = {name for name, entry in CATALOG.items() if not entry.handwriting}
    assert others == {"fashion-mnist", "kmnist", "cifar-10", "cifar-100"}


def test_other_images_are_only_resized(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(200, 256, (20, 30, 3), np.uint8)
    path = save(tmp_path, Image.fromarray(pixels))
    for data, shape in ((Data(name="cifar-10"), (3, 20, 30)), (Data(path="pets"), (3, 20, 30))):
        assert (load_like(data, shape, path) == pixels.transpose(2, 0, 1)).all()
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    assert (load_like(Data(path="pets"), (1, 20, 30), path)[0] == gray).all()
