import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from smidgen._storage.digests import sha256_of
from smidgen._storage.tensors import (
    pack_tensors,
    read_arrays,
    read_tensors,
    unpack_metadata,
    unpack_tensors,
)
from smidgen.errors import RecordError

TENSORS = {
    "images": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "labels": torch.arange(4),
    "expanded": torch.zeros(1).expand(5),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pack_tensors(TENSORS))
    return path


def test_tensors_are_read_back(path: Path) -> None:
    for found in (read_tensors(path), unpack_tensors(path.read_bytes())):
        assert found.keys() == TENSORS.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_arrays_are_read_without_torch(path: Path) -> None:
    arrays = read_arrays(path, sha256_of(path.read_bytes()))
    assert arrays.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy())
    program = """
import sys
from pathlib import Path
from smidgen._storage.tensors import read_arrays
print(sorted(read_arrays(Path(sys.argv[1]))), "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True
    )
    assert done.stdout == "['expanded', 'images', 'labels'] False\n"


def test_tensors_that_share_memory_are_packed() -> None:
    shared = torch.ones(3)
    assert pack_tensors({"a": shared, "b": shared}) == pack_tensors(
        {"a": shared.clone(), "b": shared.clone()}
    )


def test_metadata_is_read_back() -> None:
    assert unpack_metadata(pack_tensors(TENSORS, {"who": "ä"})) == {"who": "ä"}


def with_header(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        pack_tensors(TENSORS),
        (2**40).to_bytes(8, "little") + b"{}",
        with_header(b"[]"),
        with_header(b'{"__metadata__": 3}'),
        with_header(b'{"__metadata__": {"who": 3}}'),
        with_header(b"[" * 100_000),
    ],
)
def test_missing_metadata_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^its header is damaged$"):
        unpack_metadata(content)


def of_type(name: str) -> bytes:
    """A safetensors file with two bytes of a given type."""
    header = json.dumps({"a": {"dtype": name, "shape": [2], "data_offsets": [0, 2]}}).encode()
    return with_header(header) + b"\0\0"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "is damaged: "),
        (lambda content: b"garbage", "is damaged: "),
        (lambda content: b"", "is damaged: "),
        (lambda content: of_type("X9"), "is damaged: "),
    ],
)
@pytest.mark.parametrize("read", [read_tensors, read_arrays])
def test_a_damaged_file_is_one_error(
    path: Path,
    read: Callable[[Path], object],
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecordError, match=rf"weights\.safetensors {message}"):
        read(path)


def test_a_type_that_numpy_lacks_is_an_error(path: Path) -> None:
    path.write_bytes(of_type("F8_E5M2"))
    with pytest.raises(RecordError, match=r"is damaged: it holds values of the type 'F8_E5M2'\."):
        read_arrays(path)


@pytest.mark.parametrize("read", [read_tensors, read_arrays])
def test_another_file_or_none_is_an_error(path: Path, read: Callable[[Path, str], object]) -> None:
    with pytest.raises(RecordError, match="is damaged, or of another run: its SHA-256 is not"):
        read(path, "0" * 64)
    path.unlink()
    with pytest.raises(RecordError, match=r"weights\.safetensors cannot be read: No such file"):
        read(path, "0" * 64)
