import errno
import hashlib
import http.server
import io
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from smidgen.data.named import download as module
from smidgen.data.named.download import RemoteFile, download
from smidgen.errors import DataError, SmidgenError

CONTENT = random.Random(0).randbytes(300_000)
FILE = RemoteFile("data.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
OTHER = random.Random(1).randbytes(len(CONTENT))


class Handler(http.server.BaseHTTPRequestHandler):
    """The first component of the path says how to behave; requests are recorded."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        getattr(self, self.path.split("/")[1])()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        headers = {"Content_Length": str(len(body)), **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self) -> None:
        """Serves ranges, as the real mirrors do."""
        self.ranged(CONTENT)

    def ranged(self, content: bytes) -> None:
        asked = self.headers.get("Range")
        if asked is None:
            return self.answer(content)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.answer(content[start:], 206, Content_Range=span)

    def without_ranges(self) -> None:
        """Does not know ranges."""
        self.answer(CONTENT)

    def misplaced(self) -> None:
        """Answers any range with another one."""
        if self.headers.get("Range"):
            self.answer(CONTENT[5:], 206, Content_Range=f"bytes 5-{len(CONTENT) - 1}/*")
        else:
            self.answer(CONTENT)

    def unsatisfiable(self) -> None:
        """Refuses ranges."""
        self.answer(b"", 416) if self.headers.get("Range") else self.answer(CONTENT)

    def broken(self) -> None:
        """Breaks off at two thirds."""
        self.answer(CONTENT[:200_000], Content_Length=str(len(CONTENT)))

    def altered(self) -> None:
        self.ranged(OTHER)

    def page(self) -> None:
        self.answer(b"<html>Please log in.</html>", Content_Type="text/html; charset=utf-8")

    def large(self) -> None:
        self.answer(CONTENT + b"!")

    def endless(self) -> None:
        """Says no length and never stops."""
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(OTHER)
        except OSError:
            pass

    def missing(self) -> None:
        self.answer(b"", 404)

    def circle(self) -> None:
        self.answer(b"", 302, Location=self.path)

    def silent(self) -> None:
        """Accepts and says nothing until the test is over; then nobody wants the answer."""
        self.server.over.wait(10)
        self.answer(CONTENT)

    def stalled(self) -> None:
        """Sends a third, then nothing."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100_000])
        self.wfile.flush()
        self.server.over.wait(10)


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.over = threading.Event()

    def mirror(self, behavior: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{behavior}/"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


Fetch = Callable[..., tuple[str, ...]]


@pytest.fixture
def fetch(server: Server, tmp_path: Path) -> Fetch:
    """Downloads FILE into a folder that is made, from mirrors of the given behaviors."""

    def run(*behaviors: str, timeout: float = 5.0) -> tuple[str, ...]:
        mirrors = [server.mirror(behavior) for behavior in behaviors]
        return download([FILE], tmp_path / "new" / "cache", mirrors, timeout=timeout)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new" / "cache"


def leave_partial(folder: Path, content: bytes) -> None:
    """Leave a partial file behind, as a transfer that broke off does."""
    folder.mkdir(parents=True)
    (folder / ".data.gz.part").write_bytes(content)


def assert_complete(folder: Path) -> None:
    assert (folder / "data.gz").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["data.gz"]


def test_a_file_is_downloaded(
    fetch: Fetch, server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch("good") == (server.mirror("").split("/")[2],)
    assert_complete(folder)
    assert capsys.readouterr() == ("", "")  # no bar, as this is not a terminal


@pytest.mark.parametrize(
    "bad", ["altered", "page", "large", "endless", "missing", "circle", "broken"]
)
def test_after_a_failing_mirror_the_next_is_tried(fetch: Fetch, folder: Path, bad: str) -> None:
    fetch(bad, "good")
    assert_complete(folder)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("altered", "sends something else: SHA-256 [0-9a-f]{64} instead of " + FILE.sha256),
        ("page", "answers with a web page instead of the file"),
        ("large", "offers 300001 bytes instead of 300000"),
        ("endless", "sends something else"),
        ("missing", "HTTP 404, Not Found"),
        ("circle", "HTTP 302, .*infinite loop"),
        ("broken", "broke off"),
    ],
)
def test_if_all_mirrors_fail_the_error_gives_each_reason(
    fetch: Fetch, folder: Path, bad: str, reason: str
) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        fetch("missing", bad)
    message = str(caught.value)
    assert "data.gz cannot be downloaded (127.0.0.1:" in message
    assert "HTTP 404, Not Found; 127.0.0.1:" in message
    assert f"put it into {folder}, or name the folder" in message
    assert "--data-dir" in message
    assert "\n" not in message
    assert not (folder / "data.gz").exists()


def test_a_broken_transfer_is_resumed(fetch: Fetch, server: Server, folder: Path) -> None:
    with pytest.raises(DataError, match="broke off"):
        fetch("broken")
    assert [path.name for path in folder.iterdir()] == [".data.gz.part"]
    fetch("good")
    assert server.asked[-1] == ("/good/data.gz", "bytes=200000-")
    assert_complete(folder)


def test_the_next_mirror_resumes_where_the_first_ended(
    fetch: Fetch, server: Server, folder: Path
) -> None:
    fetch("broken", "good")
    assert server.asked == [("/broken/data.gz", None), ("/good/data.gz", "bytes=200000-")]
    assert_complete(folder)


@pytest.mark.parametrize(
    ("mirror", "requests"), [("without_ranges", 1), ("misplaced", 2), ("unsatisfiable", 2)]
)
def test_without_ranges_a_transfer_starts_again(
    fetch: Fetch, server: Server, folder: Path, mirror: str, requests: int
) -> None:
    leave_partial(folder, CONTENT[:1000])
    fetch(mirror)
    assert server.asked[0] == (f"/{mirror}/data.gz", "bytes=1000-")
    assert len(server.asked) == requests
    assert_complete(folder)


@pytest.mark.parametrize("partial", [OTHER[:1000], OTHER, OTHER + b"!", b""])
def test_a_wrong_partial_file_is_dropped(fetch: Fetch, folder: Path, partial: bytes) -> None:
    leave_partial(folder, partial)
    fetch("good")
    assert_complete(folder)


def test_a_complete_partial_file_needs_no_mirror(
    fetch: Fetch, server: Server, folder: Path
) -> None:
    leave_partial(folder, CONTENT)
    fetch("missing")
    assert server.asked == []
    assert_complete(folder)


def test_a_mirror_that_worked_comes_first_afterwards(server: Server, tmp_path: Path) -> None:
    files = [RemoteFile(f"{number}.gz", FILE.num_bytes, FILE.sha256) for number in range(3)]
    mirrors = [server.mirror("missing"), server.mirror("good")]
    download(files, tmp_path, mirrors, timeout=5)
    assert [path for path, _ in server.asked] == [
        "/missing/0.gz",
        "/good/0.gz",
        "/good/1.gz",
        "/good/2.gz",
    ]


def test_silent_mirrors_cost_their_timeout(fetch: Fetch) -> None:
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"no answer within 0\.2 s; .*: no answer within 0\.2 s"):
        fetch("silent", "silent", timeout=0.2)
    assert time.perf_counter() - start < 1.5


def test_a_name_that_dns_never_resolves_costs_its_timeout(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*args: object, **kwargs: object) -> list[object]:
        server.over.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"mirror\.invalid: no answer within 0\.2 s"):
        download([FILE], tmp_path, ["http://mirror.invalid/"], timeout=0.2)
    assert time.perf_counter() - start < 1.5


def test_an_unknown_host_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(DataError, match=r"mirror\.invalid: Name or service not known"):
        download([FILE], tmp_path, ["http://mirror.invalid/"], timeout=5)


def test_a_refused_connection_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DataError, match="Connection refused"):
        download([FILE], tmp_path, [f"http://127.0.0.1:{port}/"], timeout=5)


def test_a_stalled_mirror_is_given_up(
    fetch: Fetch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STALL_SECONDS", 0.2)
    with pytest.raises(DataError, match=r"sent nothing for 0\.2 s"):
        fetch("stalled")
    assert not (folder / "data.gz").exists()
    fetch("good")
    assert_complete(folder)


def test_a_full_disk_is_an_error_and_leaves_no_file(
    fetch: Fetch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.open

    def refuse(self: Path, mode: str = "r") -> Any:
        return real(self, mode) if mode == "rb" else Full()

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="cache cannot be written to: No space left on device"):
        fetch("good", "good")
    assert not (folder / "data.gz").exists()


def test_of_two_processes_one_downloads(fetch: Fetch, server: Server, folder: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fetch, ["good", "good"]))
    assert server.asked == [("/good/data.gz", None)]
    assert_complete(folder)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SmidgenError, match="file/cache cannot be made: Not a directory"):
        download([FILE], tmp_path / "file" / "cache", [], timeout=1)


def test_progress_shows_on_a_terminal(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    fetch("good")
    output = capsys.readouterr()
    assert "data.gz" in output.err
    assert "300.0/300.0 kB" in output.err
    assert output.out == ""
