"""Tensors in safetensors files: packed and read in one place, for torch and for numpy alone.

Reading one runs no code. What needs torch imports it when it is called.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import safetensors

from smidgen._storage.digests import sha256_of
from smidgen._storage.files import write_atomic
from smidgen.errors import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

T = TypeVar("T")


def pack_tensors(tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None) -> bytes:
    """The content of a safetensors file with `tensors`, of any device and memory format."""
    import safetensors.torch

    # a copy of each, since safetensors refuses tensors that share memory
    copies = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    return safetensors.torch.save(copies, metadata)


def unpack_tensors(content: bytes) -> "dict[str, Tensor]":
    """The tensors in the content of a safetensors file.

    Raises:
        ValueError: it is damaged; says how.
    """
    import safetensors.torch

    return _unpack(safetensors.torch.load, content)


def unpack_metadata(content: bytes) -> dict[str, str]:
    """The texts that were packed with the tensors.

    Raises:
        ValueError: the content is damaged, or nothing was packed with them.
    """
    length = int.from_bytes(content[:8], "little")
    try:
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        if all(isinstance(text, str) for text in metadata.values()):
            return dict(metadata)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        pass
    raise ValueError("its header is damaged")


def read_tensors(path: Path, sha256: str | None = None) -> "dict[str, Tensor]":
    """The tensors in the safetensors file at `path`, which has the digest `sha256`, if given.

    Raises:
        RecordError: the file is missing, damaged or another one.
    """
    import safetensors.torch

    return _read(safetensors.torch.load, path, sha256)


def read_arrays(path: Path, sha256: str | None = None) -> "dict[str, NDArray[Any]]":
    """The same as numpy arrays, without torch.

    Raises:
        RecordError: the file is missing, damaged or another one.
    """
    import safetensors.numpy

    return _read(safetensors.numpy.load, path, sha256)


def _read(load: Callable[[bytes], T], path: Path, sha256: str | None) -> T:
    try:
        content = path.read_bytes()
        found = _unpack(load, content)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise RecordError(f"{path} is damaged: {error}.") from None
    if sha256 is not None and sha256_of(content) != sha256:
        raise RecordError(
            f"{path} is damaged, or of another run: its SHA-256 is not the record's. Restore the "
            "original, or repeat the run."
        )
    return found


def _unpack(load: Callable[[bytes], T], content: bytes) -> T:
    try:
        return load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(error) from None
    except KeyError as error:  # the format has more types than torch and numpy
        raise ValueError(f"it holds values of the type {error}") from None


def save_tensors(tensors: "dict[str, Tensor]", path: Path) -> str:
    """Write tensors as safetensors; the SHA-256 of the file."""
    content = pack_tensors(tensors)
    write_atomic(path, content)
    return sha256_of(content)
