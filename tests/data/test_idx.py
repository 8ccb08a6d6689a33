import contextlib
import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from smidgen.data.idx import parse_idx, parse_idx_int32, read_idx
from smidgen.errors import DataError


def as_idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_idx_is_read_as_it_was_written(shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    parsed = parse_idx(as_idx(array), "file")
    np.testing.assert_array_equal(parsed, array)
    assert parsed.dtype == np.dtype(np.uint8)
    assert parsed.flags.writeable


@given(
    st.binary(max_size=40)
    | st.builds(lambda dims, rest: bytes([0, 0, 8, dims]) + rest, st.integers(0, 255), st.binary())
)
def test_garbage_is_refused_or_is_idx(content: bytes) -> None:
    try:
        array = parse_idx(content, "file")
    except DataError:
        return
    assert as_idx(array) == content


GOOD = as_idx(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the.file is not an IDX file: it begins with nothing"),
        (b"<htm" + GOOD, "the.file is not an IDX file: it begins with 3c 68 74 6d"),
        (b"\0\0\x08", "the.file is not an IDX file: it begins with 00 00 08[.]$"),
        (b"<htm!" + GOOD, "it begins with 3c 68 74 6d[.]$"),
        (
            GOOD[:2] + b"\x0d" + GOOD[3:],
            r"^the.file holds values of type 0x0d; only 0x08 \(bytes\) can be read\.$",
        ),
        (bytes([0, 0, 8, 9]) + bytes(40), "the.file has 9 dimensions; it must have 1 to 8[.]$"),
        (bytes([0, 0, 8, 1]), "the.file is cut short: its header ends after 4 bytes"),
        (bytes([0, 0, 8, 0, 1]), "the.file has 0 dimensions"),
        (bytes([0, 0, 8, 200]) + bytes(900), "the.file has 200 dimensions"),
        (GOOD[:9], "the.file is cut short"),
        (GOOD[:-1], "the.file is damaged: its header says 2 x 3 values, and 5 follow"),
        (GOOD + b"!", "2 x 3 values, and 7 follow"),
        (bytes([0, 0, 8, 2]) + b"\xff" * 8 + b"x", "4294967295 x 4294967295 values, and 1 follow"),
        (bytes([0, 0, 8, 4]) + bytes(4) + b"\xff" * 12, "is damaged: its header says 0 x 42949"),
    ],
)
def test_an_invalid_idx_file_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_idx(content, "the.file")


def test_idx_has_up_to_eight_dimensions() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 1, 1, 3, 1, 1)
    np.testing.assert_array_equal(parse_idx(as_idx(array), "file"), array)


def as_int32(array: NDArray[np.int32]) -> bytes:
    return (
        as_idx(np.empty(array.shape, np.uint8))[: 4 + 4 * array.ndim].replace(
            b"\0\0\x08", b"\0\0\x0c", 1
        )
        + array.astype(">i4").tobytes()
    )


def test_idx_of_integers_is_read_as_it_was_written() -> None:
    array = np.array([[0, -1, 2**31 - 1], [1, 256, -(2**31)]], np.int32)
    parsed = parse_idx_int32(as_int32(array), "file")
    np.testing.assert_array_equal(parsed, array)
    assert parsed.dtype == np.dtype(np.int32)
    assert parsed.flags.writeable


def test_an_invalid_idx_file_of_integers_is_refused() -> None:
    good = as_int32(np.arange(6, dtype=np.int32).reshape(2, 3))
    for content, message in (
        (good + b"!", "says 2 x 3 values, and 25 bytes follow[.]$"),
        (good[:-4], "says 2 x 3 values, and 20 bytes follow[.]$"),
        (GOOD, r"^the.file holds values of type 0x08; only 0x0c \(32-bit integers\) can be read"),
    ):
        with pytest.raises(DataError, match=message):
            parse_idx_int32(content, "the.file")


def written(folder: Path, content: bytes, name: str = "the.gz") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


GIB = 1 << 30
ARRAY = np.arange(105, dtype=np.uint8).reshape(3, 7, 5)
PACKED = gzip.compress(as_idx(ARRAY), mtime=0)


def test_a_file_is_read_packed_or_not(tmp_path: Path) -> None:
    for path in (written(tmp_path, PACKED), written(tmp_path, as_idx(ARRAY), "the.file")):
        np.testing.assert_array_equal(read_idx(path, GIB), ARRAY)


def test_a_small_file_is_read(tmp_path: Path) -> None:
    small = np.array([7], np.uint8)  # shorter than the longest header
    np.testing.assert_array_equal(read_idx(written(tmp_path, as_idx(small), "a"), GIB), small)


def test_a_limit_is_for_the_unpacked_size(tmp_path: Path) -> None:
    path, size = written(tmp_path, PACKED), len(as_idx(ARRAY))
    assert read_idx(path, size).shape == ARRAY.shape
    with pytest.raises(DataError, match=r"the\.gz holds more than 0 GiB; refused"):
        read_idx(path, size - 1)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    header = bytes([0, 0, 8, 1]) + (1000).to_bytes(4, "big")
    path = written(tmp_path, gzip.compress(header + bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="its header says 1000 values, and 1001 follow"):
        read_idx(path, GIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@given(st.integers(1, len(PACKED) - 1))
def test_a_truncated_gzip_is_refused_wherever_it_ends(
    tmp_path_factory: pytest.TempPathFactory, end: int
) -> None:
    with pytest.raises(DataError, match=r"the\.gz is damaged"):
        read_idx(written(tmp_path_factory.getbasetemp(), PACKED[:end]), GIB)


@given(st.integers(10, len(PACKED) - 1), st.integers(1, 255))
def test_an_altered_gzip_is_refused_or_still_right(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    altered = bytearray(PACKED)  # its first 10 bytes are the header, with the time among them
    altered[place] ^= change
    with contextlib.suppress(DataError):  # a few bits at the end mean nothing
        found = read_idx(written(tmp_path_factory.getbasetemp(), bytes(altered)), GIB)
        np.testing.assert_array_equal(found, ARRAY)


@pytest.mark.parametrize("place", [30, len(PACKED) - 8, len(PACKED) - 1])
def test_an_altered_gzip_is_refused(place: int, tmp_path: Path) -> None:
    altered = bytearray(PACKED)
    altered[place] ^= 1  # a value, the checksum, the size
    with pytest.raises(DataError, match=r"the\.gz is damaged or not a gzip file"):
        read_idx(written(tmp_path, bytes(altered)), GIB)


@given(st.binary(max_size=60))
def test_garbage_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with pytest.raises(DataError):
        read_idx(written(tmp_path_factory.getbasetemp(), content), GIB)


def test_bytes_after_the_end_of_a_gzip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the\.gz"):
        read_idx(written(tmp_path, PACKED + b"more"), GIB)
