"""SHA-256 of contents and of files, as 64 lowercase hexadecimal digits."""

import hashlib
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on


def sha256_of(*contents: "str | Buffer") -> str:
    """The digest of `contents`, one after the other; text counts as UTF-8.

    >>> sha256_of("smid", b"gen") == sha256_of(b"smidgen")
    True
    """
    return running_sha256(*contents).hexdigest()


def running_sha256(*contents: "str | Buffer") -> "_Hash":
    """A SHA-256 that has seen `contents` and takes more with `update`."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(
            content.encode(errors="surrogateescape") if isinstance(content, str) else content
        )
    return digest


def sha256_of_file(file: Path | BufferedReader) -> str:
    """The digest of a file, or of the rest of an open one, which need not fit into memory.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return sha256_of_file(opened)
    return hashlib.file_digest(file, "sha256").hexdigest()
