import http.client
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smidgen._storage.locks import locked
from smidgen.callbacks import Progress, RunInfo
from smidgen.errors import SmidgenError
from smidgen.record import (
    EXPERIMENT,
    FAILURE,
    METRICS,
    PAGE,
    PROGRESS,
    RECORD,
    TIMES,
    Epoch,
    RunRecord,
    Score,
)
from smidgen.report.live import LivePage, RunsPage, server
from smidgen.report.live.server import LoopbackServer
from smidgen.report.progress_log import ProgressLog


@pytest.fixture
def page() -> Iterator[LivePage]:
    page = LivePage("seed 3")
    page.start()
    yield page
    page._last_request = -math.inf  # no page is open
    page.close()


def port_of(page: LivePage | RunsPage) -> int:
    return page._server.server_port


def ask(
    page: LivePage | RunsPage, path: str = "/", method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=5)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def state(page: LivePage | RunsPage) -> dict[str, Any]:
    status, _, body = ask(page, "/state.json")
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


def run_state(page: LivePage) -> dict[str, Any]:
    (run,) = state(page)["runs"]
    return run  # type: ignore[no-any-return]


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


def info(record: RunRecord, completed: tuple[tuple[Epoch, float], ...] = ()) -> RunInfo:
    """What callbacks are given when the run of `record` starts."""
    return RunInfo(
        folder=Path("runs/tiny/seed-3"),
        experiment=record.experiment,
        seed=record.seed,
        data=record.data,
        profile=record.profile,
        environment=record.environment,
        completed=completed,
    )


def end_epoch(page: LivePage) -> None:
    page.on_epoch_end(EPOCH, 2.0, lambda: pytest.fail("a page has no use for the state"))


def test_the_page_shows_the_state_of_the_run(page: LivePage, record: RunRecord) -> None:
    assert run_state(page)["epochs"] == []
    page.on_train_start(info(record))
    page.on_progress(
        Progress(epoch=1, batch=3, num_batches=10, loss=0.7, accuracy=0.8, images_per_second=1234.5)
    )
    end_epoch(page)
    found = run_state(page)
    assert (found["name"], found["target"], found["num_epochs"]) == ("tiny, seed 3", 0.15, 2)
    assert found["progress"] == {
        "epoch": 1,
        "batch": 3,
        "num_batches": 10,
        "loss": 0.7,
        "accuracy": 0.8,
        "images_per_second": 1234.5,
    }
    (epoch,) = found["epochs"]
    assert epoch["validation"] == {"loss": 0.25, "accuracy": 0.95}
    assert epoch["seconds"] == 2.0
    assert found["status"] == "running"
    assert not state(page)["ended"]


def step(
    batch: int, loss: float = 0.7, epoch: int = 1, images_per_second: float = 100.0
) -> Progress:
    return Progress(
        epoch=epoch,
        batch=batch,
        num_batches=10,
        loss=loss,
        accuracy=0.8,
        images_per_second=images_per_second,
    )


def test_the_page_says_what_the_run_does_besides_training(
    page: LivePage, record: RunRecord
) -> None:
    page.on_status("loading digits")
    assert run_state(page)["doing"] == "loading digits"
    page.on_train_start(info(record))
    assert run_state(page)["doing"] == ""
    page.on_status("scoring the test set")
    assert run_state(page)["doing"] == "scoring the test set"


def test_the_curves_begin_with_the_first_steps(page: LivePage, record: RunRecord) -> None:
    page.on_train_start(info(record))
    page.on_progress(step(2))
    page.on_progress(step(5, loss=0.5))
    assert run_state(page)["steps"] == [[0.2, 0.7, 0.8], [0.5, 0.5, 0.8]]


def test_the_steps_of_a_long_run_are_thinned_out(page: LivePage, record: RunRecord) -> None:
    page.on_train_start(info(record))
    for number in range(5000):
        page.on_progress(step(number % 10 + 1, epoch=1 + number // 10))
    steps = run_state(page)["steps"]
    assert 200 < len(steps) <= 600
    assert steps[0][0] == 0.1
    assert steps == sorted(steps)


def test_the_time_left_is_that_of_the_whole_run(page: LivePage, record: RunRecord) -> None:
    page.on_train_start(info(record))  # 2 epochs
    page.on_progress(step(5, images_per_second=32))  # 10 batches of 32
    assert run_state(page)["seconds_left"] == pytest.approx(15)  # 1.5 epochs of 10 s
    end_epoch(page)  # which took 2 s
    assert run_state(page)["seconds_left"] == pytest.approx(2)
    page.on_progress(step(5, epoch=2))
    assert run_state(page)["seconds_left"] == pytest.approx(1)


def test_numbers_that_are_not_finite_are_null(page: LivePage) -> None:
    page.on_progress(
        Progress(
            epoch=1, batch=1, num_batches=1, loss=math.nan, accuracy=0.1, images_per_second=math.inf
        )
    )
    progress = run_state(page)["progress"]
    assert run_state(page)["steps"] == [[1.0, None, 0.1]]
    assert (progress["loss"], progress["images_per_second"]) == (None, None)


def test_a_resumed_run_shows_the_epochs_before_it(page: LivePage, record: RunRecord) -> None:
    page.on_train_start(info(record, completed=((EPOCH, 1.5),)))
    end_epoch(page)
    epochs = run_state(page)["epochs"]
    assert [epoch["seconds"] for epoch in epochs] == [1.5, 2.0]


def test_an_open_page_gets_the_result_before_the_server_stops(
    page: LivePage, record: RunRecord
) -> None:
    page.on_train_start(info(record))
    page.on_train_end(record)
    assert run_state(page)["result"] == ""
    closing = threading.Thread(target=page.close)
    closing.start()
    found: dict[str, Any] = {}
    while not found.get("ended"):
        found = state(page)
    (run,) = found["runs"]
    assert (run["status"], run["result"]) == ("finished", "inside the budget")
    assert run["limits"] == [list(row) for row in record.verdict.rows]
    assert run["passed"] is True
    assert run["report"] == str(Path("runs/tiny/seed-3/report.html").resolve())
    closing.join(5)
    with pytest.raises(ConnectionError):
        state(page)


def test_a_run_that_fails_says_so(page: LivePage) -> None:
    state(page)
    page.on_train_end(None)
    closing = threading.Thread(target=page.close)
    closing.start()
    found: dict[str, Any] = {}
    while not found.get("ended"):
        found = state(page)
    closing.join(5)
    (run,) = found["runs"]
    assert (run["status"], run["report"]) == ("interrupted", "")
    assert run["result"] == "The run was interrupted, or stopped by an error."


def test_closing_does_not_wait_for_a_page_that_was_never_opened() -> None:
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
    for color in ("#0072B2", "#D55E00", "#009E73"):
        assert color.lower() in text.lower()
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == 3  # one script, two styles


@pytest.fixture
def runs_page(run_copy: Path) -> Iterator[RunsPage]:
    """Shows two runs: a finished one, and one with two epochs that stopped."""
    stopped = Path(shutil.copytree(run_copy, run_copy.parent / "more" / "stopped"))
    for name in (RECORD, PAGE, TIMES):
        (stopped / name).unlink()
    os.utime(stopped / METRICS, (2e9, 2e9))  # the newest
    (run_copy.parent / "no run").mkdir()
    page = RunsPage(run_copy.parent)
    page.start()
    yield page
    page.close()


def test_one_page_shows_all_runs_in_a_folder(runs_page: RunsPage, record: RunRecord) -> None:
    stopped, finished = state(runs_page)["runs"]
    assert (stopped["name"], stopped["status"]) == ("tiny, stopped", "interrupted")
    assert [epoch["epoch"] for epoch in stopped["epochs"]] == [1, 2]
    assert (finished["name"], finished["status"]) == ("tiny, run_copy", "finished")
    assert finished["accuracy"] == record.test.score.accuracy
    assert finished["passed"] is True
    assert finished["epochs"][0]["seconds"] > 0


def test_the_page_follows_the_files(runs_page: RunsPage) -> None:
    folder = runs_page.folder / "more" / "stopped"
    metrics = folder / METRICS
    lines = metrics.read_text("utf-8").splitlines(keepends=True)
    with locked(folder):
        metrics.write_text(lines[0] + lines[1][:9], encoding="utf-8")  # the second is being written
        run = state(runs_page)["runs"][0]
        assert (run["status"], len(run["epochs"])) == ("running", 1)
        metrics.write_text("".join(lines), encoding="utf-8")
        os.utime(metrics, (2e9, 2e9))
        assert len(state(runs_page)["runs"][0]["epochs"]) == 2
    assert state(runs_page)["runs"][0]["status"] == "interrupted"
    (folder / FAILURE).write_text("the loss became nan\n")
    run = state(runs_page)["runs"][0]
    assert (run["status"], run["result"]) == ("failed", "the loss became nan")
    metrics.write_text("nonsense\n", encoding="utf-8")
    run = state(runs_page)["runs"][0]
    assert (run["name"], run["status"]) == ("more/stopped", "unreadable")
    assert "is damaged" in run["result"]


def test_runs_of_experiments_with_one_name_have_different_names(runs_page: RunsPage) -> None:
    path = runs_page.folder / "more" / "stopped" / EXPERIMENT
    path.write_text(
        path.read_text("utf-8").replace("\nepochs = 2", "\nepochs = 5"), encoding="utf-8"
    )
    names = [run["name"] for run in state(runs_page)["runs"]]
    assert names == ["tiny, train.epochs 5, stopped", "tiny, train.epochs 2, run_copy"]


def test_a_killed_run_is_interrupted(runs_page: RunsPage) -> None:
    lock = runs_page.folder / "more" / ".stopped.lock"
    lock.touch()  # a killed process leaves the file, but not its lock
    assert state(runs_page)["runs"][0]["status"] == "interrupted"


def test_a_resumed_run_is_followed_within_an_epoch(
    runs_page: RunsPage, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs_page.folder / "more" / "stopped"
    lines = (folder / METRICS).read_text("utf-8").splitlines(keepends=True)
    (folder / METRICS).write_text(lines[0], encoding="utf-8")
    os.utime(folder / EXPERIMENT, (1e9, 1e9))  # the files' times say nothing about the pace
    log = ProgressLog()
    with locked(folder):
        log.on_train_start(replace(info(record, completed=((EPOCH, 30.0),)), folder=folder))
        monkeypatch.setattr(time, "perf_counter", lambda: math.inf)  # the next line is due
        log.on_progress(step(5, epoch=2))
        monkeypatch.undo()
        log.on_progress(step(6, epoch=2))  # too soon after
        run = state(runs_page)["runs"][0]
        assert run["epochs"][0]["seconds"] == 30
        assert run["steps"] == [[1.5, 0.7, 0.8]]
        assert run["progress"]["batch"] == 5
        assert run["num_params"] == record.profile.num_params
        assert run["seconds_left"] == pytest.approx(15)  # half an epoch of two
    run = state(runs_page)["runs"][0]
    assert (run["seconds_left"], run["steps"]) == (None, [[1.5, 0.7, 0.8]])
    log.on_train_end(None)
    assert not (folder / PROGRESS).exists()


def test_reports_are_served_apart_from_the_page(runs_page: RunsPage) -> None:
    url = state(runs_page)["runs"][1]["report_url"]
    status, headers, body = ask(runs_page, url)
    assert status == 200
    assert body == (runs_page.folder / "run_copy" / PAGE).read_bytes()
    policy = headers["Content-Security-Policy"]
    assert "sandbox allow-scripts;" in policy  # without allow-same-origin: another origin
    assert "default-src 'none'" in policy
    assert ask(runs_page, "/report-9.html")[0] == 404


def test_a_report_that_is_gone_is_not_found(runs_page: RunsPage) -> None:
    url = state(runs_page)["runs"][1]["report_url"]
    (runs_page.folder / "run_copy" / PAGE).unlink()
    assert ask(runs_page, url)[0] == 404


def test_runs_of_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SmidgenError, match=r"there is no folder .*none; name the one that holds the runs"
    ):
        RunsPage(tmp_path / "none")


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


def test_it_listens_on_this_machine_only(page: LivePage) -> None:
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
def test_only_two_paths_exist(page: LivePage, path: str) -> None:
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
    assert (status, headers["Allow"]) == (501, "GET, HEAD")


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
    assert answer == b"" or re.match(rb"HTTP/1.0 (400|403|431|505) |4\d{2} ", answer)
    assert run_state(page)["epochs"] == []


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 70_000, b"414"),
        (b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 70_000, b"431"),
    ],
)
def test_a_line_that_is_too_long_is_refused(page: LivePage, request_: bytes, status: bytes) -> None:
    assert raw(page, request_)[:12].removeprefix(b"HTTP/1.0 ")[:3] in (status, b"")


def test_the_body_of_a_request_is_not_read(page: LivePage) -> None:
    head = f"GET /state.json HTTP/1.1\r\nHost: 127.0.0.1:{port_of(page)}\r\n"
    answer = raw(page, f"{head}Content-Length: 1000000000\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 200 ")


def test_a_silent_connection_is_closed(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._Handler, "timeout", 0.3)
    begun = time.perf_counter()
    assert raw(page, b"GET / HTTP/1.1\r\nHost: ") == b""
    assert 0.2 < time.perf_counter() - begun < 2


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
def test_a_port_that_does_not_exist_is_refused(port: int) -> None:
    with pytest.raises(SmidgenError, match=rf"port {port} of 127.0.0.1 is not available"):
        LivePage(port=port)


def test_a_port_that_is_taken_is_refused() -> None:
    first = LoopbackServer({})
    with pytest.raises(SmidgenError, match=r"Address already in use"):
        LivePage(port=first.server_port)
    first.stop()


def test_it_needs_no_torch() -> None:
    code = "import sys, smidgen.report.live; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
