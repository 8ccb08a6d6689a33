"""What a run tells as it goes on, and the page that shows it."""

import base64
import json
import math
import re
import threading
import time
from importlib import resources
from typing import Any

from smidgen._storage.digests import running_sha256
from smidgen._storage.serialization import to_plain
from smidgen.record import Epoch
from smidgen.report.live.server import Answer, LoopbackServer

_LINGER = 2.5  # seconds that an open page is given to fetch the end: it asks every second


class LivePage:
    """The curves of one run, in any browser on this machine, for as long as the run lasts.

    It may be told things from any thread. The page needs nothing from any other host.
    """

    def __init__(self, port: int = 0) -> None:
        """Take `port` of 127.0.0.1, or one that the system chooses.

        Raises:
            SmidgenError: the port cannot be had.
        """
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {
            "name": "",
            "target": None,
            "num_epochs": None,
            "epochs": [],
            "progress": None,
            "ended": False,
            "result": "",
        }
        self._asked = -math.inf  # when the page last fetched the state
        self._told_end = threading.Event()
        page = resources.files("smidgen.report.live").joinpath("page.html").read_bytes()
        self._server = LoopbackServer(
            {
                "/": Answer("text/html; charset=utf-8", lambda: page, _policy(page)),
                "/state.json": Answer("application/json", self._snapshot),
            },
            port,
        )

    def start(self) -> str:
        """Serve the page; its address."""
        return self._server.start()

    def describe(self, name: str, target: float | None, num_epochs: int) -> None:
        """The run's name, the accuracy that is wanted, and the number of epochs to come."""
        with self._lock:
            self._state |= {"name": name, "target": target, "num_epochs": num_epochs}

    def progress(
        self,
        epoch: int,
        batch: int,
        num_batches: int,
        loss: float,
        accuracy: float,
        images_per_second: float,
    ) -> None:
        """Where the run stands within an epoch, with loss and accuracy over it so far."""
        now = {
            "epoch": epoch,
            "batch": batch,
            "num_batches": num_batches,
            "loss": loss,
            "accuracy": accuracy,
            "images_per_second": images_per_second,
        }
        with self._lock:
            self._state["progress"] = now

    def note(self, epoch: Epoch, seconds: float) -> None:
        """An epoch that is over, and how long it took."""
        with self._lock:
            self._state["epochs"].append(to_plain(epoch) | {"seconds": seconds})

    def close(self, result: str = "") -> None:
        """Say how the run ended, and stop serving once an open page has fetched that."""
        with self._lock:
            self._state |= {"ended": True, "result": result}
            watched = time.monotonic() - self._asked < _LINGER
        if watched:
            self._told_end.wait(_LINGER)
        self._server.stop()

    def _snapshot(self) -> bytes:
        with self._lock:
            self._asked = time.monotonic()
            ended = self._state["ended"]
            content = json.dumps(_finite(self._state), allow_nan=False).encode()
        if ended:
            self._told_end.set()
        return content


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for: a loss that ran away."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _policy(page: bytes) -> str:
    """Only the page's own script and style run, and it may ask this server only."""

    def digest(element: bytes) -> str:
        (content,) = re.findall(rb"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
        return base64.b64encode(running_sha256(content).digest()).decode()

    return (
        f"script-src 'sha256-{digest(b'script')}'; style-src 'sha256-{digest(b'style')}'; "
        "connect-src 'self'; img-src data:"
    )
