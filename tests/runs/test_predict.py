import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from smidgen.data import Dataset, normalize
from smidgen.errors import DataError, RecordError
from smidgen.record import RunRecord
from smidgen.runs.load import restore
from smidgen.runs.predict import as_digit, predict, read_grey

Grey = NDArray[np.float32]


def drawing(side: int = 28, *, dark_on_bright: bool = False) -> NDArray[np.uint8]:
    """A bar of a third of the side by a sixth, high up and to the left, without grayscale."""
    pixels = np.zeros((side, side), dtype=np.uint8)
    pixels[side // 6 : side // 2, side // 6 : side // 3] = 255
    return 255 - pixels if dark_on_bright else pixels


def save(folder: Path, picture: Image.Image, name: str = "digit.png") -> Path:
    picture.save(folder / name)
    return folder / name


def test_a_test_image_is_seen_as_the_network_saw_it(
    finished_folder: Path, record: RunRecord, digits: Dataset, tmp_path: Path
) -> None:
    images = digits.test.images[:40]
    paths = [
        save(tmp_path, Image.fromarray(image[0].numpy()), f"{number}.png")
        for number, image in enumerate(images)
    ]
    with torch.no_grad():
        shares = restore(finished_folder, record)(normalize(images, digits.mean, digits.std))
    shares = shares.softmax(1)
    found = predict(finished_folder, paths)
    assert [p.path for p in found] == paths
    assert [p.classes[0][0] for p in found] == [str(c) for c in shares.argmax(1).tolist()]
    for prediction, row in zip(found, shares, strict=True):
        names, likely = zip(*prediction.classes, strict=True)
        assert sorted(names) == list(digits.classes)
        assert list(likely) == sorted(likely, reverse=True)
        assert math.fsum(likely) == pytest.approx(1, abs=1e-5)
        assert likely[0] == pytest.approx(float(row.max()), abs=1e-5)


@pytest.mark.parametrize("side", [28, 56, 140, 333])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_size_format_and_inversion_do_not_matter(tmp_path: Path, side: int, suffix: str) -> None:
    pictures = [
        save(tmp_path, Image.fromarray(drawing(side, dark_on_bright=dark)), f"{dark}.{suffix}")
        for dark in (False, True)
    ]
    one, inverted = (as_digit(read_grey(path), 28, 28).astype(int) for path in pictures)
    assert np.abs(one - inverted).max() <= 3  # JPEG rounds
    expected = as_digit(drawing(280).astype(np.float32) / np.float32(255), 28, 28).astype(int)
    if side != 28:  # that of the network's own size is left where it is
        assert np.abs(one - expected).mean() < 10  # an empty frame would be at 46


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "I;16", "CMYK"])
def test_modes_show_the_same_picture(tmp_path: Path, mode: str) -> None:
    pixels = drawing(28, dark_on_bright=True)
    if mode == "I;16":
        picture = Image.fromarray(pixels.astype(np.uint16) * 257)
        assert picture.mode == mode
    else:
        picture = Image.fromarray(pixels).convert(mode)
    path = save(tmp_path, picture, "digit.jpg" if mode == "CMYK" else "digit.png")
    np.testing.assert_allclose(read_grey(path), pixels / 255, atol=0.1)


def test_sixteen_bits_keep_their_shades(tmp_path: Path) -> None:
    shades = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    path = save(tmp_path, Image.fromarray(shades))
    np.testing.assert_allclose(read_grey(path), shades / 65535, atol=1 / 255)


def test_what_is_transparent_is_paper(tmp_path: Path) -> None:
    pixels = drawing()
    transparent = np.zeros((28, 28, 4), dtype=np.uint8)  # black ink on nothing, which is black, too
    transparent[..., 3] = pixels
    path = save(tmp_path, Image.fromarray(transparent))
    assert (as_digit(read_grey(path), 28, 28) == pixels).all()
    palette = Image.fromarray(pixels // 255, mode=None).convert("P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    assert (as_digit(read_grey(tmp_path / "palette.png"), 28, 28) == pixels).all()


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    pixels = drawing(64)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_allclose(read_grey(tmp_path / "photo.png"), np.rot90(pixels, -1) / 255)


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (7, 5), (301, 300)])
@pytest.mark.parametrize("frame", [(28, 28), (32, 20)])
def test_a_drawing_is_scaled_and_centred_by_its_mass(
    shape: tuple[int, int], frame: tuple[int, int]
) -> None:
    height, width = shape
    grayscale = np.zeros((4 * height, 3 * width), dtype=np.float32)
    grayscale[2 * height : 3 * height, :width] = 1  # touches the left border
    digit = as_digit(grayscale, *frame)
    assert digit.shape == frame
    assert digit.max() == 255
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    longest = round(min(frame) * 20 / 28)
    assert max(len(rows), len(columns)) == longest
    assert len(rows) / len(columns) == pytest.approx(height / width, rel=0.1)
    for found, side in ((rows, frame[0]), (columns, frame[1])):
        assert abs((found[0] + found[-1] + 1) / 2 - side / 2) <= 0.5


def test_the_heavier_end_is_nearer_to_the_centre() -> None:
    grayscale = np.zeros((100, 100), dtype=np.float32)
    grayscale[20:30, 20:70] = 1  # a heavy head
    grayscale[30:80, 20:30] = 1  # and a thin tail
    digit = as_digit(grayscale, 28, 28).astype(float)
    centre = (digit.sum(1) * (np.arange(28) + 0.5)).sum() / digit.sum()
    assert abs(centre - 14) <= 0.5
    rows = np.flatnonzero(digit.any(1))
    assert (rows[0] + rows[-1] + 1) / 2 > 15


def test_the_grain_of_paper_is_no_drawing() -> None:
    rng = np.random.default_rng(0)
    grayscale = np.full((90, 90), 0.8, dtype=np.float32) + rng.normal(0, 0.01, (90, 90)).astype(
        "f4"
    )
    grayscale[30:60, 40:50] = 0.2
    digit = as_digit(grayscale, 28, 28)
    assert np.flatnonzero(digit.any(1)).size == 20
    assert 6 <= np.flatnonzero(digit.any(0)).size <= 8


def specks() -> Grey:
    grayscale = np.ones((2000, 2000), dtype=np.float32)
    grayscale[500, 500] = grayscale[1500, 1500] = 0
    return grayscale


@pytest.mark.parametrize(
    "grayscale",
    [np.ones((1, 1), "f4"), np.zeros((50, 60), "f4"), np.ones((28, 28), "f4"), specks()],
)
def test_nothing_to_see_is_an_empty_frame(grayscale: Grey) -> None:
    assert not as_digit(grayscale, 28, 28).any()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_that_cannot_be_read_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path, Image.fromarray(drawing(90)), f"digit.{suffix}")
    whole = path.read_bytes()
    (tmp_path / "text.png").write_text("no picture")
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
            read_grey(tmp_path / name)


@pytest.mark.parametrize("side", [7_100, 9_500, 13_400])
def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int
) -> None:
    # PNG's header says the size; what follows is not looked at.
    small = save(tmp_path, Image.new("1", (8, 8))).read_bytes()
    header = small[12:16] + side.to_bytes(4, "big") * 2 + small[24:29]
    crc = zlib.crc32(header).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(small[:12] + header + crc + small[33:])
    with pytest.raises(DataError, match=r"bomb\.png (has \d+x\d+ pixels; at most|cannot be read)"):
        read_grey(tmp_path / "bomb.png")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    suffix=st.sampled_from(["png", "jpg", "gif"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3))),
)
def test_an_altered_picture_is_a_picture_or_a_data_error(
    tmp_path: Path, suffix: str, changes: list[tuple[float, bytes]]
) -> None:
    path = save(tmp_path, Image.fromarray(drawing(30)), f"digit.{suffix}")
    content = bytearray(path.read_bytes())
    for share, other in changes:
        place = int(share * len(content))
        content[place : place + 2] = other
    path.write_bytes(content)
    try:
        grayscale = read_grey(path)
    except DataError:
        return
    assert 0 <= grayscale.min() <= grayscale.max() <= 1
    assert as_digit(grayscale, 28, 28).shape == (28, 28)


def test_nothing_is_classified_where_one_picture_is_missing(
    finished_folder: Path, tmp_path: Path
) -> None:
    good = save(tmp_path, Image.fromarray(drawing()))
    with pytest.raises(DataError, match=r"none\.png cannot be read"):
        predict(finished_folder, [good, tmp_path / "none.png"])
    with pytest.raises(RecordError, match="is not a finished run"):
        predict(tmp_path, [good])


def test_paper_that_is_lit_unevenly_is_no_drawing() -> None:
    light = np.linspace(0.45, 0.9, 90)[None, :] + np.linspace(0, 0.08, 60)[:, None]
    even, uneven = np.full((60, 90), 0.8), light.copy()
    for paper in (even, uneven):
        paper[15:45, 40:46] *= 0.2
    same = as_digit(even.astype(np.float32), 28, 28).astype(int)
    drawn = as_digit(uneven.astype(np.float32), 28, 28).astype(int)
    assert np.abs(drawn - same).max() < 60
    assert ((drawn > 0) == (same > 0)).all()
