import http.client
import json
import math
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from smidgen.errors import SmidgenError
from smidgen.record import Epoch, Score
from smidgen.report.live import LivePage, server
from smidgen.report.live.server import LoopbackServer


@pytest.fixture
def page() -> Iterator[LivePage]:
    page = LivePage()
    page.start()
    yield page
    page._asked = -math.inf  # nobody looks any longer
    page.close()


def port_of(page: LivePage) -> int:
    return page._server.port


def ask(
    page: LivePage, path: str = "/", method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=5)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def state(page: LivePage) -> dict[str, object]:
    status, _, body = ask(page, "/state.json")
    assert status == 200
    found: dict[str, object] = json.loads(body)
    return found


def raw(page: LivePage, request: bytes) -> bytes:
    """Whatever comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port_of(page)), timeout=5) as connection:
        connection.sendall(request)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:  # it closed without reading all of it
            pass
        return received


EPOCH = Epoch(
    epoch=1,
    train=Score(loss=0.5, accuracy=0.9),
    validation=Score(loss=0.25, accuracy=0.95),
    test=None,
    lr=0.1,
)


def test_the_page_tells_what_the_run_told(page: LivePage) -> None:
    assert state(page)["epochs"] == []
    page.describe("tiny, seed 3", 0.994, 2)
    page.progress(1, 3, 10, 0.7, 0.8, 1234.5)
    page.note(EPOCH, 2.0)
    found = state(page)
    assert (found["name"], found["target"], found["num_epochs"]) == ("tiny, seed 3", 0.994, 2)
    assert found["progress"] == {
        "epoch": 1,
        "batch": 3,
        "num_batches": 10,
        "loss": 0.7,
        "accuracy": 0.8,
        "images_per_second": 1234.5,
    }
    (epoch,) = found["epochs"]  # type: ignore[misc]
    assert epoch["validation"] == {"loss": 0.25, "accuracy": 0.95}  # type: ignore[has-type]
    assert epoch["seconds"] == 2.0  # type: ignore[has-type]
    assert not found["ended"]


def test_a_loss_that_ran_away_is_still_json(page: LivePage) -> None:
    page.progress(1, 1, 1, math.nan, 0.1, math.inf)
    progress = state(page)["progress"]
    assert isinstance(progress, dict)
    assert (progress["loss"], progress["images_per_second"]) == (None, None)


def test_an_open_page_is_told_the_end_and_then_the_server_is_gone(page: LivePage) -> None:
    state(page)
    closing = threading.Thread(target=page.close, args=("inside the budget",))
    closing.start()
    found: dict[str, object] = {}
    while not found.get("ended"):
        found = state(page)
    assert found["result"] == "inside the budget"
    closing.join(5)
    with pytest.raises(ConnectionError):
        state(page)


def test_nobody_waits_for_a_page_that_nobody_opened() -> None:
    page = LivePage()
    page.start()
    begun = time.perf_counter()
    page.close()
    assert time.perf_counter() - begun < 1


def test_a_page_that_was_never_started_closes() -> None:
    LivePage().close()


def test_the_page_is_one_file_that_runs_its_own_script_only(page: LivePage) -> None:
    status, headers, body = ask(page)
    text = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", text)
    assert not re.search(r"<[^>]* (style|on\w+)=|\bsrc=|@import|innerHTML", text)
    for colour in ("#0072B2", "#D55E00", "#009E73"):
        assert colour in text
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == 2


@pytest.mark.parametrize("path", ["/", "/state.json", "/nothing"])
def test_every_answer_says_what_a_browser_may_do_with_it(page: LivePage, path: str) -> None:
    _, headers, _ = ask(page, path)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


def test_it_listens_on_loopback_only(page: LivePage) -> None:
    assert page._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    [
        "/page.html",
        "/../page.html",
        "/%2e%2e/page.html",
        "/..%2fpage.html",
        "/etc/passwd",
        "/state.json?x=1",
        "/state.json/",
        "/?",
        "/\\..\\page.html",
        "*",
    ],
)
def test_only_two_paths_are_there(page: LivePage, path: str) -> None:
    status, _, body = ask(page, path)
    assert (status, body) == (404, b"404 Not Found\n")


@pytest.mark.parametrize(
    "host",
    ["example.com", "127.0.0.1", "localhost", "127.0.0.1:1", "localhost.:{port}", "", "[::1]"],
)
def test_another_host_is_refused(page: LivePage, host: str) -> None:
    assert ask(page, "/state.json", Host=host.format(port=port_of(page)))[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_its_own_names_are_accepted(page: LivePage, host: str) -> None:
    own = f"{host}:{port_of(page)}"
    assert ask(page, "/state.json", Host=own, Origin=f"http://{own}")[0] == 200


@pytest.mark.parametrize("hosts", [b"", b"Host: 127.0.0.1:%d\r\nHost: 127.0.0.1:%d\r\n"])
def test_no_host_and_two_hosts_are_refused(page: LivePage, hosts: bytes) -> None:
    hosts = hosts.replace(b"%d", str(port_of(page)).encode())
    assert raw(page, b"GET / HTTP/1.1\r\n" + hosts + b"\r\n").startswith(b"HTTP/1.0 403 ")


@pytest.mark.parametrize("origin", ["http://example.com", "null", "https://127.0.0.1:{port}", ""])
def test_another_origin_is_refused(page: LivePage, origin: str) -> None:
    status, _, _ = ask(page, "/state.json", Origin=origin.format(port=port_of(page)))
    assert status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_other_methods_are_refused(page: LivePage, method: str) -> None:
    status, headers, _ = ask(page, "/", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_has_no_body(page: LivePage) -> None:
    status, headers, body = ask(page, "/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"GET / HTTP/1.1 more\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    ],
)
def test_garbage_is_refused(page: LivePage, request_: bytes) -> None:
    answer = raw(page, request_)
    assert answer == b"" or re.match(rb"HTTP/1.0 (400|403|431|505) |\d{3} ", answer)
    assert state(page)["epochs"] == []


@pytest.mark.parametrize(
    "request_", [b"GET /" + b"a" * 40_000, b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 40_000]
)
def test_a_request_that_is_too_long_is_not_read(page: LivePage, request_: bytes) -> None:
    assert raw(page, request_) == b""


def test_a_body_is_not_read(page: LivePage) -> None:
    head = f"GET /state.json HTTP/1.1\r\nHost: 127.0.0.1:{port_of(page)}\r\n"
    answer = raw(page, f"{head}Content-Length: 1000000000\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 200 ")


def test_a_slow_request_is_dropped_as_a_whole(
    page: LivePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.3)
    with socket.create_connection(("127.0.0.1", port_of(page)), timeout=5) as connection:
        begun = time.perf_counter()
        try:
            for byte in b"GET / HTTP/1.1 and so on, a byte at a time, which buys no time":
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert 0.2 < time.perf_counter() - begun < 2


def test_the_number_of_connections_is_bounded(
    page: LivePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = [
        socket.create_connection(("127.0.0.1", port_of(page)), timeout=5)
        for _ in range(server._MOST_CONNECTIONS)
    ]
    time.sleep(0.3)
    threads = threading.active_count()
    try:
        for _ in range(5):
            assert raw(page, b"GET / HTTP/1.1\r\n") == b""  # closed unanswered
        assert threading.active_count() <= threads
    finally:
        for connection in waiting:
            connection.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert state(page)["ended"] is False
            return
        except ConnectionError:
            time.sleep(0.05)
    pytest.fail("the places were not freed")


def test_a_bug_in_an_answer_keeps_its_traceback_and_the_server(
    page: LivePage, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(page, "_lock", None)
        with pytest.raises(ConnectionError):
            state(page)
    assert state(page)["ended"] is False
    assert "TypeError" in capfd.readouterr().err


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(SmidgenError, match=rf"port {port} of 127.0.0.1 cannot be had"):
        LivePage(port)


def test_a_port_that_is_taken() -> None:
    first = LoopbackServer({})
    with pytest.raises(SmidgenError, match=r"Address already in use"):
        LivePage(first.port)
    first.stop()


def test_it_needs_no_torch() -> None:
    code = "import sys, smidgen.report.live; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
