"""IDX files, read strictly: anything damaged is refused, with the file's name."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smidgen.errors import DataError

_UINT8, _INT32 = 0x08, 0x0C
_TYPES: dict[int, tuple[np.dtype[Any], str]] = {
    _UINT8: (np.dtype(np.uint8), "bytes"),
    _INT32: (np.dtype(">i4"), "32-bit integers"),
}
_MAX_DIMS = 8


def parse_idx(content: bytes, what: str) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file's content, writable.

    IDX is two zero bytes, a byte for the type, a byte for the number of dimensions, each dimension
    as a big-endian unsigned 32-bit number, then the values, row by row. `what` names the file.

    Raises:
        DataError: not IDX, values other than unsigned bytes, a dimension of 0, more than 8
            dimensions, or not exactly as many values as the dimensions say.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), "labels")
    array([7, 8, 9], dtype=uint8)
    """
    return _parse(content, what, _UINT8).astype(np.uint8)


def parse_idx_int32(content: bytes, what: str) -> NDArray[np.int32]:
    """The array of an IDX file that holds big-endian 32-bit integers; otherwise as parse_idx."""
    return _parse(content, what, _INT32).astype(np.int32)


def read_idx(path: Path, max_bytes: int) -> NDArray[np.uint8]:
    """Read the IDX file of unsigned bytes at `path`, gzipped if it ends in .gz.

    Its header is read first, so that a gzip bomb is refused before it is unpacked.

    Raises:
        DataError: as parse_idx; not gzip, cut short, altered, or larger than `max_bytes` unpacked.
        OSError: it cannot be read.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            start = file.read(4 + 4 * _MAX_DIMS)
            offset, shape = _header(start, str(path), _UINT8)
            size = offset + math.prod(shape)
            if size > max_bytes:
                raise DataError(f"{path} holds more than {max_bytes >> 30} GiB; refused.")
            content = start + file.read(max(0, size + 1 - len(start)))  # one more, to see the end
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged or not a gzip file ({error}).") from None
    return parse_idx(content, str(path))


def _header(content: bytes, what: str, kind: int) -> tuple[int, tuple[int, ...]]:
    """The offset of the values, and their shape."""
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(
            f"{what} is not an IDX file: it begins with {content[:4].hex(' ') or 'nothing'}."
        )
    found, num_dims = content[2], content[3]
    if found != kind:
        raise DataError(
            f"{what} holds values of type 0x{found:02x}; only 0x{kind:02x} ({_TYPES[kind][1]}) can "
            "be read."
        )
    if not 1 <= num_dims <= _MAX_DIMS:
        raise DataError(f"{what} has {num_dims} dimensions; it must have 1 to {_MAX_DIMS}.")
    offset = 4 + 4 * num_dims
    if len(content) < offset:
        raise DataError(f"{what} is cut short: its header ends after {len(content)} bytes.")
    return offset, struct.unpack(f">{num_dims}I", content[4:offset])


def _parse(content: bytes, what: str, kind: int) -> NDArray[Any]:
    offset, shape = _header(content, what, kind)
    dtype = _TYPES[kind][0]
    num_values = math.prod(shape)  # a Python integer: absurd headers neither overflow nor allocate
    if num_values == 0 or num_values * dtype.itemsize != len(content) - offset:
        raise DataError(
            f"{what} is damaged: its header says {' x '.join(map(str, shape))} values, and "
            f"{len(content) - offset} {'' if dtype.itemsize == 1 else 'bytes '}follow."
        )
    return np.frombuffer(content, dtype, offset=offset).reshape(shape)
