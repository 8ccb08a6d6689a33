import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from smidgen.data.formats import decompress, parse_idx
from smidgen.errors import DataError


def as_idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_idx_is_read_as_it_was_written(shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    parsed = parse_idx(as_idx(array), "file")
    np.testing.assert_array_equal(parsed, array)
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
        (b"", "the.file is no IDX file: it begins with nothing"),
        (b"<htm" + GOOD, "the.file is no IDX file: it begins with 3c 68 74 6d"),
        (GOOD[:2] + b"\x0d" + GOOD[3:], "the.file holds values of type 0x0d"),
        (bytes([0, 0, 8, 0, 1]), "the.file has 0 dimensions"),
        (bytes([0, 0, 8, 200]) + bytes(900), "the.file has 200 dimensions"),
        (GOOD[:9], "the.file is cut short"),
        (GOOD[:-1], "the.file is damaged: its header says 2 x 3 values, and 5 follow"),
        (GOOD + b"!", "2 x 3 values, and 7 follow"),
        (bytes([0, 0, 8, 2]) + b"\xff" * 8 + b"x", "4294967295 x 4294967295 values, and 1 follow"),
        (bytes([0, 0, 8, 4]) + bytes(4) + b"\xff" * 12, "is damaged: its header says 0 x 42949"),
    ],
)
def test_what_is_wrong_with_an_idx_file_is_said(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_idx(content, "the.file")


@given(st.binary(max_size=2000))
def test_gzip_is_unpacked_up_to_its_limit(content: bytes) -> None:
    packed = gzip.compress(content)
    assert decompress(packed, "file", limit=len(content)) == content
    if content:
        with pytest.raises(DataError, match="unpacks to more than"):
            decompress(packed, "file", limit=len(content) - 1)


def test_a_gzip_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(DataError, match="more than the 1,000 bytes"):
        decompress(bomb, "file", limit=1000)


PACKED = gzip.compress(bytes(range(256)) * 4)


@given(st.integers(0, len(PACKED) - 1))
def test_a_truncated_gzip_is_refused_wherever_it_ends(end: int) -> None:
    with pytest.raises(DataError, match=r"the\.gz is cut short"):
        decompress(PACKED[:end], "the.gz", limit=1024)


@given(st.integers(10, len(PACKED) - 1), st.integers(1, 255))
def test_a_gzip_that_was_altered_is_refused(place: int, change: int) -> None:
    altered = bytearray(PACKED)  # its first 10 bytes are the header, with the time among them
    altered[place] ^= change
    with pytest.raises(DataError, match=r"the\.gz"):
        decompress(bytes(altered), "the.gz", limit=1024)


@given(st.binary(max_size=60))
def test_garbage_is_no_gzip(content: bytes) -> None:
    with pytest.raises(DataError):
        decompress(content, "file", limit=100)


def test_bytes_after_the_end_of_a_gzip_are_refused() -> None:
    with pytest.raises(DataError, match=r"the\.gz has 4 bytes after its end"):
        decompress(PACKED + b"more", "the.gz", limit=1024)
