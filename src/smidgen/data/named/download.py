"""Files from mirrors, into a folder: whole and checked, or not at all.

What has arrived of a file is kept beside it as `.NAME.part`, and the next try, from whichever
mirror, goes on from there. A file gets its name only once its SHA-256 is right.
"""

import hashlib
import http.client
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from smidgen._storage.files import write_atomic
from smidgen.errors import DataError, SmidgenError, UnavailableError

_STALL_SECONDS = 30.0
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as the mirrors serve it."""

    name: str
    num_bytes: int
    sha256: str


class _MirrorError(Exception):
    """Why a mirror does not give the file: the next one is asked."""


class _NotContinuedError(_MirrorError):
    """The mirror does not go on where the kept part ends: it is asked for the whole file."""


def download(
    files: Sequence[Remote], folder: Path, mirrors: Sequence[str], *, patience: float
) -> tuple[str, ...]:
    """Fetch `files` into `folder`, which is made; return the hosts that they came from.

    `mirrors` are addresses that a file's name is appended to, in the order in which they are asked.
    One that has sent nothing after `patience` seconds, looking up its name included, or stops
    sending for 30 seconds is given up. A progress bar shows if stderr is a terminal.

    Raises:
        UnavailableError: no mirror gives a file; with each one's reason.
        DataError: a file cannot be stored.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be made: {error.strerror}.") from error
    order, used = list(mirrors), []
    with _progress() as progress:
        for file in files:
            task = progress.add_task(file.name, total=file.num_bytes)

            def tell(num_bytes: int, task: TaskID = task) -> None:
                progress.update(task, completed=num_bytes)

            working = _fetch_from_any(file, folder, order, patience, tell)
            used.append(_host(working))
            # Whoever works is asked first: a dead mirror costs its patience once, not per file.
            order.sort(key=lambda mirror: mirror != working)
    return tuple(dict.fromkeys(used))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _fetch_from_any(
    file: Remote,
    folder: Path,
    mirrors: Sequence[str],
    patience: float,
    tell: Callable[[int], None],
) -> str:
    """Store the file in the folder and return the mirror that gave it."""
    part = folder / f".{file.name}.part"
    reasons = []
    for mirror in mirrors:
        try:
            content = _fetch(file, mirror, part, patience, tell)
            write_atomic(folder / file.name, content)
            part.unlink(missing_ok=True)
            return mirror
        except _MirrorError as error:
            reasons.append(f"{_host(mirror)}: {error}")
        except OSError as error:
            raise DataError(f"{part} cannot be written: {error.strerror}.") from error
        except SmidgenError as error:
            raise DataError(str(error)) from error
    raise UnavailableError(
        f"{file.name} cannot be downloaded ({'; '.join(reasons)}). Get it in another way and put "
        f"it into {folder}, or give the folder that has the data set with --data-dir."
    )


def _fetch(
    file: Remote, mirror: str, part: Path, patience: float, tell: Callable[[int], None]
) -> bytes:
    """The file's content from `mirror`, from where `part` ends if the mirror goes along."""
    kept = _kept(part, file.num_bytes)
    if _is_right(file, kept):
        return kept
    if 0 < len(kept) < file.num_bytes:
        try:
            return _transfer(file, mirror, part, kept, patience, tell)
        except _NotContinuedError:
            pass
    return _transfer(file, mirror, part, b"", patience, tell)


def _transfer(
    file: Remote,
    mirror: str,
    part: Path,
    kept: bytes,
    patience: float,
    tell: Callable[[int], None],
) -> bytes:
    request = urllib.request.Request(mirror + file.name, headers={"User-Agent": "smidgen"})
    if kept:
        request.add_header("Range", f"bytes={len(kept)}-")
    with _open(request, patience) as response:
        start = _start(response, file, len(kept))
        # The memory, not the part on disk, is what is checked and stored in the end: another
        # process may be writing to the same part.
        content = bytearray(kept[:start])
        with part.open("ab" if start else "wb") as out:
            for chunk in _chunks(response, file.num_bytes - start):
                _store(out, chunk)
                content += chunk
                tell(len(content))
    if len(content) < file.num_bytes:
        raise _MirrorError(f"broke off after {len(content):,} of {file.num_bytes:,} bytes")
    if not _is_right(file, content):
        part.unlink(missing_ok=True)
        # After a continuation, the fault may be in what was kept.
        raise (_NotContinuedError if start else _MirrorError)(
            f"sends something else: SHA-256 {hashlib.sha256(content).hexdigest()} instead of "
            f"{file.sha256}"
        )
    return bytes(content)


def _start(response: http.client.HTTPResponse, file: Remote, asked: int) -> int:
    """The place in the file at which the answer's bytes begin; refuses what is not the file."""
    kind = response.headers.get_content_type()
    if kind == "text/html":
        raise _MirrorError("answers with a web page instead of the file")
    start = 0
    if response.status == 206:
        last = file.num_bytes - 1
        said = response.headers.get("Content-Range")
        if said not in (f"bytes {asked}-{last}/{file.num_bytes}", f"bytes {asked}-{last}/*"):
            raise _NotContinuedError(f"answers with the range {said}")
        start = asked
    length = response.headers.get("Content-Length")
    if length is not None and length != str(file.num_bytes - start):
        raise _MirrorError(f"offers {length} bytes instead of {file.num_bytes - start}")
    return start


def _open(request: urllib.request.Request, patience: float) -> http.client.HTTPResponse:
    """The answer to a request, its headers read.

    Looking up a name heeds no timeout, so all of it happens in a thread that can be abandoned.
    """
    future: Future[http.client.HTTPResponse] = Future()

    def attempt() -> None:
        response, failure = None, None
        try:
            response = urllib.request.urlopen(request, timeout=_STALL_SECONDS)
        except Exception as error:  # whatever it is, it is raised again where it is waited for
            failure = error
        wanted = future.set_running_or_notify_cancel()
        if failure is not None:
            if wanted:
                future.set_exception(failure)
        elif response is not None:
            if wanted:
                future.set_result(response)
            else:
                response.close()

    threading.Thread(target=attempt, daemon=True).start()
    try:
        try:
            return future.result(timeout=patience)
        except TimeoutError:
            if future.cancel():
                raise _MirrorError(f"no answer within {patience:g} s") from None
            return future.result()  # it came at the last moment, or the timeout was the socket's
    except urllib.error.HTTPError as error:
        error.close()
        kind = _NotContinuedError if error.code == 416 else _MirrorError  # 416: range refused
        raise kind(f"HTTP {error.code}, {str(error.reason).splitlines()[0]}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(_why(error)) from None


def _chunks(response: http.client.HTTPResponse, limit: int) -> Iterator[bytes]:
    """What the answer holds, at most `limit` bytes."""
    while limit > 0:
        try:
            chunk = response.read(min(_CHUNK_BYTES, limit))
        except TimeoutError:
            raise _MirrorError(f"sent nothing for {_STALL_SECONDS:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise _MirrorError(f"broke off: {_why(error)}") from None
        if not chunk:
            return
        limit -= len(chunk)
        yield chunk


def _store(out: BinaryIO, chunk: bytes) -> None:
    out.write(chunk)


def _kept(part: Path, limit: int) -> bytes:
    try:
        with part.open("rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        return b""


def _is_right(file: Remote, content: bytes | bytearray) -> bool:
    return len(content) == file.num_bytes and hashlib.sha256(content).hexdigest() == file.sha256


def _host(mirror: str) -> str:
    return urllib.parse.urlsplit(mirror).netloc


def _why(error: BaseException) -> str:
    """An error's reason in words; urllib wraps the one that says something."""
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)
