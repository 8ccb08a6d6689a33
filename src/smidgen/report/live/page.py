"""The live page: a callback that serves the state of a run, and the page that shows it."""

import base64
import json
import math
import re
import threading
import time
from collections.abc import Callable
from importlib import resources
from typing import Any

from smidgen._storage.digests import running_sha256
from smidgen._storage.serialization import to_plain
from smidgen.callbacks import Callback, Progress, RunInfo, TrainState
from smidgen.record import Epoch, RunRecord
from smidgen.report.live.server import LoopbackServer

_LINGER = 2.5  # seconds for an open page to fetch the result: it asks every second


class LivePage(Callback):
    """Shows the curves of a run, as long as it lasts, in any browser on this machine.

    The page needs nothing from any other host. Methods may be called from any thread.
    """

    def __init__(self, run_name: str = "", port: int = 0) -> None:
        """Take `port` of 127.0.0.1, or one that the system chooses.

        `run_name` tells the runs of an experiment apart, such as "seed 0".

        Raises:
            SmidgenError: the port is not available.
        """
        self._run_name = run_name
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {
            "name": "",
            "target": None,
            "num_epochs": None,
            "epochs": [],
            "progress": None,
            "ended": False,
            "result": "The run was interrupted, or stopped by an error.",
        }
        self._last_request = -math.inf
        self._end_was_fetched = threading.Event()
        page = resources.files("smidgen.report.live").joinpath("page.html").read_bytes()
        self._server = LoopbackServer(
            {
                "/": ("text/html; charset=utf-8", lambda: page),
                "/state.json": ("application/json", self._snapshot),
            },
            _content_security_policy(page),
            port,
        )

    def start(self) -> str:
        """Serve the page; return its address."""
        return self._server.start()

    def close(self) -> None:
        """Show that the run has ended; stop serving once an open page has fetched that."""
        with self._lock:
            self._state["ended"] = True
            page_is_open = time.monotonic() - self._last_request < _LINGER
        if page_is_open:
            self._end_was_fetched.wait(_LINGER)
        self._server.stop()

    def on_train_start(self, run: RunInfo) -> None:
        """Show the run's name, its target and the epochs from before an interruption."""
        experiment = run.experiment
        with self._lock:
            self._state |= {
                "name": ", ".join(filter(None, [experiment.name, self._run_name])),
                "target": experiment.budget.min_accuracy,
                "num_epochs": experiment.train.epochs,
                "epochs": [_epoch(*completed) for completed in run.completed],
            }

    def on_progress(self, progress: Progress) -> None:
        """Show the position within the epoch."""
        with self._lock:
            self._state["progress"] = to_plain(progress)

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """Add the epoch to the curves."""
        with self._lock:
            self._state["epochs"].append(_epoch(epoch, seconds))

    def on_train_end(self, record: RunRecord | None) -> None:
        """Show the verdict from now on, or that there is none."""
        if record is not None:
            with self._lock:
                self._state["result"] = str(record.verdict)

    def _snapshot(self) -> bytes:
        with self._lock:
            self._last_request = time.monotonic()
            ended = self._state["ended"]
            state = self._state if ended else self._state | {"result": ""}
            content = json.dumps(_finite(state), allow_nan=False).encode()
        if ended:
            self._end_was_fetched.set()
        return content


def _epoch(epoch: Epoch, seconds: float) -> dict[str, Any]:
    return {**to_plain(epoch), "seconds": seconds}


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON lacks, such as the loss of a diverged run."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _content_security_policy(page: bytes) -> str:
    """Allow the page's own script and style only, and requests to this server only."""

    def digest(element: bytes) -> str:
        (content,) = re.findall(rb"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
        return base64.b64encode(running_sha256(content).digest()).decode()

    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"script-src 'sha256-{digest(b'script')}'; style-src 'sha256-{digest(b'style')}'; "
        "connect-src 'self'; img-src data:"
    )
