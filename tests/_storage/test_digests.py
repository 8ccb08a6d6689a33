from pathlib import Path

import pytest

from smidgen._storage.digests import sha256_of, sha256_of_file

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B


def test_contents_are_digested_in_order() -> None:
    assert sha256_of() == sha256_of(b"") == EMPTY
    assert sha256_of(b"abc") == sha256_of(b"a", bytearray(b"b"), memoryview(b"c")) == ABC


def test_a_file_has_the_digest_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_of_file(path) == ABC


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_of_file(tmp_path / "missing")
