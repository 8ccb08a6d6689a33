"""Downloads from mirrors: resumed where they broke off, and verified before they get their name.

What has arrived of a file is kept as `.NAME.part`, and the next attempt, with whichever mirror,
resumes there (docs/decisions/2026-11-25-downloads.md says why this is not pooch).
"""

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from smidgen._storage.digests import sha256_of_file
from smidgen._storage.files import make_folder
from smidgen._storage.locks import locked
from smidgen._storage.progress import progress_bar
from smidgen.errors import DataError, UnavailableError

_STALL_SECONDS = 30.0
_CHUNK_BYTES = 1 << 16
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the mirrors serve it."""

    name: str
    num_bytes: int
    sha256: str


class _MirrorError(Exception):
    """Why a mirror does not serve the file; the next one is tried."""


class _NotResumedError(_MirrorError):
    """The mirror did not resume where the partial file ends, or that file was wrong."""


def download(
    files: Sequence[RemoteFile], folder: Path, mirrors: Sequence[str], *, timeout: float
) -> tuple[str, ...]:
    """Download `files` into `folder`, which is made if need be; return the hosts that served them.

    `mirrors` are addresses to which a file's name is appended; they are tried in order. A mirror
    fails if it does not answer within `timeout` seconds, DNS included, or sends nothing for 30
    seconds. A progress bar shows if stderr is a terminal.

    Raises:
        UnavailableError: no mirror serves a file; gives each one's reason.
        DataError: a file cannot be written.
    """
    ordered, hosts = list(mirrors), []
    try:
        with locked(make_folder(folder), wait=True):
            for file in files:
                if (folder / file.name).exists():  # another process was faster
                    continue
                with progress_bar(file.name, file.num_bytes, in_bytes=True) as update:
                    working = _download_one(file, folder, ordered, timeout, update)
                hosts.append(urlsplit(working).netloc)
                # The working mirror comes first: a dead one costs its timeout once, not per file.
                ordered.sort(key=lambda mirror: mirror != working)
    except OSError as error:
        raise DataError(f"{folder} cannot be written to: {error.strerror}.") from error
    return tuple(dict.fromkeys(hosts))


def _download_one(
    file: RemoteFile,
    folder: Path,
    mirrors: Sequence[str],
    timeout: float,
    update: Callable[[int], None],
) -> str:
    """Download a file; return the mirror that served it."""
    part = folder / f".{file.name}.part"
    reasons = []
    for mirror in mirrors:
        try:
            try:
                _fetch(file, mirror, part, timeout, update)
            except _NotResumedError:
                part.unlink(missing_ok=True)
                _fetch(file, mirror, part, timeout, update)
            part.replace(folder / file.name)
            return mirror
        except _MirrorError as error:
            reasons.append(f"{urlsplit(mirror).netloc}: {error}")
    raise UnavailableError(
        f"{file.name} cannot be downloaded ({'; '.join(reasons)}). Download it by other means and "
        f"put it into {folder}, or name the folder that has it with --data-dir."
    )


def _fetch(
    file: RemoteFile, mirror: str, part: Path, timeout: float, update: Callable[[int], None]
) -> None:
    """Download what the partial file lacks, and verify it."""
    start = part.stat().st_size if part.exists() else 0
    if start < file.num_bytes:
        with _open(mirror + file.name, start, timeout) as response:
            _require_file(response, file, start)
            with part.open("ab" if response.status == 206 else "wb") as out:
                while chunk := _blame_mirror(lambda: response.read(_CHUNK_BYTES)):
                    out.write(chunk)
                    update(out.tell())
                    if out.tell() > file.num_bytes:
                        break
        if (size := part.stat().st_size) < file.num_bytes:
            raise _MirrorError(f"broke off after {size:,} of {file.num_bytes:,} bytes")
    if (found := sha256_of_file(part)) != file.sha256:
        part.unlink()
        kind = _NotResumedError if start else _MirrorError
        raise kind(f"sends something else: SHA-256 {found} instead of {file.sha256}")


def _require_file(response: http.client.HTTPResponse, file: RemoteFile, start: int) -> None:
    """Refuse an answer whose headers say that it is not the file, or not from `start` on."""
    if response.headers.get_content_type() == "text/html":
        raise _MirrorError("answers with a web page instead of the file")
    resumed = response.status == 206
    sent = response.headers.get("Content-Range", "")
    if resumed and not sent.startswith(f"bytes {start}-"):
        raise _NotResumedError(f"answers with the range {sent}")
    expected = str(file.num_bytes - (start if resumed else 0))
    length = response.headers.get("Content-Length", expected)
    if length != expected:
        raise _MirrorError(f"offers {length} bytes instead of {expected}")


def _open(url: str, start: int, timeout: float) -> http.client.HTTPResponse:
    """The answer to a request for a file from byte `start` on, its headers read.

    DNS heeds no timeout, so a thread asks, which is abandoned when the time is up.
    """
    headers = {"User-Agent": "smidgen"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)
    future: Future[http.client.HTTPResponse] = Future()

    def ask() -> None:
        try:
            future.set_result(urllib.request.urlopen(request, timeout=_STALL_SECONDS))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    if not wait([future], timeout).done:
        future.add_done_callback(_close)
        raise _MirrorError(f"no answer within {timeout:g} s")
    return _blame_mirror(future.result)


def _close(late: Future[http.client.HTTPResponse]) -> None:
    if late.exception() is None:
        late.result().close()


def _blame_mirror(function: Callable[[], T]) -> T:
    """Return what `function` returns; an error of the network becomes a _MirrorError."""
    try:
        return function()
    except urllib.error.HTTPError as error:
        error.close()
        kind = _NotResumedError if error.code == 416 else _MirrorError  # 416: range refused
        raise kind(f"HTTP {error.code}, {str(error.reason).splitlines()[0]}") from None
    except TimeoutError:
        raise _MirrorError(f"sent nothing for {_STALL_SECONDS:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)  # urllib wraps the error that says something
        words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise _MirrorError(words) from None
