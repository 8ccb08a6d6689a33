"""The live page of one run: a callback that serves the run's state."""

import math
import threading
import time
from collections.abc import Callable

from smidgen.callbacks import Callback, Progress, RunInfo, TrainState
from smidgen.record import PAGE, Epoch, RunRecord
from smidgen.report.live.server import LoopbackServer
from smidgen.report.live.state import RunState, as_json, page_answers

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
        self._run = RunState()
        self._record: RunRecord | None = None
        self._ended = False
        self._last_request = -math.inf
        self._end_was_fetched = threading.Event()
        self._server = LoopbackServer(page_answers(self._snapshot), port)

    def start(self) -> str:
        """Serve the page; return its address."""
        return self._server.start()

    def close(self) -> None:
        """Show that the run has ended; stop serving once an open page has fetched that."""
        with self._lock:
            self._ended = True
            if self._record is not None:
                self._run.finish(self._record)
            else:
                self._run.status = "interrupted"
                self._run.result = "The run was interrupted, or stopped by an error."
                self._run.report = ""
            page_is_open = time.monotonic() - self._last_request < _LINGER
        if page_is_open:
            self._end_was_fetched.wait(_LINGER)
        self._server.stop()

    def on_status(self, text: str) -> None:
        """Show it until training starts, or until the end."""
        with self._lock:
            self._run.doing = text

    def on_train_start(self, run: RunInfo) -> None:
        """Show the run's name, its target and the epochs from before an interruption."""
        with self._lock:
            self._run = RunState.of(run.experiment)
            self._run.name = ", ".join(filter(None, [run.experiment.name, self._run_name]))
            self._run.num_params = run.profile.num_params
            self._run.report = str((run.folder / PAGE).resolve())
            for epoch, seconds in run.completed:
                self._run.end_epoch(epoch, seconds)

    def on_progress(self, progress: Progress) -> None:
        """Show the position within the epoch, and add it to the curves."""
        with self._lock:
            self._run.advance(progress)

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """Add the epoch to the curves."""
        with self._lock:
            self._run.end_epoch(epoch, seconds)

    def on_train_end(self, record: RunRecord | None) -> None:
        """Keep the record, to show its verdict when the report is written too."""
        self._record = record

    def _snapshot(self) -> bytes:
        with self._lock:
            self._last_request = time.monotonic()
            ended = self._ended
            content = as_json([self._run], ended=ended)
        if ended:
            self._end_was_fetched.set()
        return content
