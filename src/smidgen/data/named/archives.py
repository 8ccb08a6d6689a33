"""Members of archives, read strictly: nothing is unpacked onto the disk, sizes are bounded before.

An archive with a member that could leave its folder, or that is a link or a device, is refused
whole, whatever is asked of it.
"""

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO

from smidgen.errors import DataError

_MOST_MEMBERS = 1000
_SLACK_BYTES = 4 << 20  # of what else stands in an archive: headers, a read-me, names of classes


def read_tar_gz(stream: BinaryIO, what: str, wanted: Mapping[str, int]) -> dict[str, bytes]:
    """The contents of the members named in `wanted`, each of exactly so many bytes.

    `what` names the archive in messages. At most 4 MiB more than what is wanted are unpacked.

    Raises:
        DataError: no gzipped tar, damaged, a member with an absolute or parent path, a link or a
            device among them, one that is wanted missing, twice there or of another size.
    """
    found: dict[str, bytes] = {}
    limit = sum(wanted.values()) + _SLACK_BYTES
    try:
        with (
            gzip.GzipFile(fileobj=stream) as unpacked,
            _Bounded(unpacked, what, limit) as bounded,
            tarfile.open(fileobj=bounded, mode="r|") as archive,
        ):
            for count, member in enumerate(archive):
                _require_few(count, what)
                _require_inside(member.name, what)
                if not (member.isfile() or member.isdir()):
                    raise DataError(f"{what} holds {member.name}, a link or a device; refused.")
                if member.name in wanted:
                    _require_new(member.name, found, what)
                    _require_size(member.name, member.size, wanted[member.name], what)
                    content = archive.extractfile(member)
                    found[member.name] = content.read() if content else b""
            while bounded.read(1 << 16):  # to the end, where gzip's own checksum stands
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise DataError(f"{what} is damaged or no gzipped tar ({error}).") from None
    return _all_of(wanted, found, what)


def read_zip(stream: BinaryIO, what: str, wanted: Mapping[str, int]) -> dict[str, bytes]:
    """The contents of the members named in `wanted`, each of at most so many bytes.

    Raises:
        DataError: as read_tar_gz, of a zip; an encrypted member too.
    """
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(stream) as archive:
            _require_few(len(archive.infolist()) - 1, what)
            for member in archive.infolist():
                name = member.filename
                _require_inside(name, what)
                mode = member.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DataError(f"{what} holds {name}, a link or a device; refused.")
                if name in wanted:
                    _require_new(name, found, what)
                    if member.file_size > wanted[name]:
                        raise DataError(
                            f"{what}: {name} has {member.file_size:,} bytes; it should have at "
                            f"most {wanted[name]:,}."
                        )
                    with archive.open(member) as content:  # reads no more than the size it says
                        found[name] = content.read()
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,  # also names that are no Unicode
        OverflowError,
        RuntimeError,  # encrypted, or a method that is not implemented
    ) as error:
        raise DataError(f"{what} is damaged or no zip ({error}).") from None
    return _all_of(wanted, found, what)


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes."""

    def __init__(self, stream: gzip.GzipFile, what: str, limit: int) -> None:
        self.stream, self.what, self.left = stream, what, limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self.stream.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(chunk)
        if self.left < 0:
            raise DataError(f"{self.what} unpacks to more than it should hold; refused.")
        return chunk


def _require_few(count: int, what: str) -> None:
    if count >= _MOST_MEMBERS:
        raise DataError(f"{what} holds {_MOST_MEMBERS:,} members or more; refused.")


def _require_inside(name: str, what: str) -> None:
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    parts = {*posix.parts, *windows.parts}
    if posix.is_absolute() or windows.anchor or ".." in parts or "\0" in name:
        raise DataError(f"{what} holds {name!r}, which leaves its folder; refused.")


def _require_new(name: str, found: Mapping[str, bytes], what: str) -> None:
    if name in found:
        raise DataError(f"{what} holds {name} twice; refused.")


def _require_size(name: str, size: int, wanted: int, what: str) -> None:
    if size != wanted:
        raise DataError(f"{what}: {name} has {size:,} bytes; it should have {wanted:,}.")


def _all_of(wanted: Mapping[str, int], found: dict[str, bytes], what: str) -> dict[str, bytes]:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{what} lacks {', '.join(missing)}.")
    return found
