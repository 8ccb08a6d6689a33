import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen._storage.digests import running_sha256, sha256_of, sha256_of_file

# FIPS 180-2, appendix B
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_published_digests() -> None:
    assert (sha256_of(b"abc"), sha256_of("abc"), sha256_of("a", b"bc")) == (ABC, ABC, ABC)
    assert (sha256_of(), sha256_of(b"")) == (EMPTY, EMPTY)


@given(st.lists(st.binary()))
def test_contents_are_digested_one_after_the_other(contents: list[bytes]) -> None:
    assert sha256_of(*contents) == hashlib.sha256(b"".join(contents)).hexdigest()


def test_buffers_count_as_their_bytes() -> None:
    array = np.arange(6, dtype=np.int64)
    assert sha256_of(array.data, bytearray(b"x")) == sha256_of(array.tobytes(), b"x")


def test_a_file_name_that_is_not_utf_8_has_a_digest() -> None:
    assert sha256_of("\udcff") == sha256_of(b"\xff")


def test_a_running_digest_takes_more() -> None:
    running = running_sha256("a")
    running.update(b"bc")
    assert running.hexdigest() == ABC


def test_the_rest_of_a_file_is_digested(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = b"x" + b"abc" * 1_000_000
    path.write_bytes(content)
    assert sha256_of_file(path) == sha256_of(content)
    with path.open("rb") as opened:
        opened.seek(len(content) - 3)
        assert sha256_of_file(opened) == ABC
    with pytest.raises(FileNotFoundError):
        sha256_of_file(tmp_path / "none")
