"""SHA-256 of contents and of files, as 64 lowercase hexadecimal digits."""

import hashlib
from pathlib import Path


def sha256_of(*contents: bytes | bytearray | memoryview) -> str:
    """The digest of `contents`, one after the other.

    >>> sha256_of(b"smid", b"gen") == sha256_of(b"smidgen")
    True
    """
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """The digest of the file at `path`, which need not fit into memory.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
