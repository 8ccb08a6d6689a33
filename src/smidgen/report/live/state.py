"""What the live page shows of a run, as JSON; and the answers that every live page needs."""

import base64
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from smidgen._storage.digests import running_sha256
from smidgen._storage.serialization import to_plain
from smidgen.callbacks import Progress
from smidgen.config import Experiment
from smidgen.record import Epoch, RunRecord
from smidgen.report.live.server import Answer
from smidgen.report.page import render


@dataclass(kw_only=True, slots=True)
class RunState:
    """One run, as far as it has come."""

    name: str = ""
    """Of the experiment, and what tells its runs apart."""
    key: str = ""
    """Tells the runs of one page apart."""
    status: str = "waiting"
    """waiting, running, finished, interrupted, failed or unreadable."""
    doing: str = ""
    """What the run does besides training, such as loading the data."""
    target: float | None = None
    num_epochs: int | None = None
    batch_size: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """The completed ones, as metrics.jsonl has them, with their duration in `seconds` if known."""
    steps: list[tuple[float, float, float]] = field(default_factory=list)
    """Epochs done, running training loss and running training accuracy, a few times a second."""
    progress: dict[str, Any] | None = None
    seconds_left: float | None = None
    """Estimate for the rest of the training."""
    num_params: int | None = None
    accuracy: float | None = None
    """On the test images."""
    passed: bool | None = None
    """Whether the run is inside its budget; None without limits or record."""
    result: str = ""
    """The verdict in a few words, or why there is none."""
    limits: list[tuple[str, str, str, str]] = field(default_factory=list)
    """The verdict's rows."""
    report: str = ""
    """The path of the report on this machine."""
    report_url: str = ""
    """The report's address on this server, if it is served."""

    @classmethod
    def of(cls, experiment: Experiment) -> "RunState":
        """The state of a run of `experiment` before its first step."""
        return cls(
            status="running",
            target=experiment.budget.min_accuracy,
            num_epochs=experiment.train.epochs,
            batch_size=experiment.train.batch_size,
        )

    def advance(self, progress: Progress) -> None:
        """Move to a position within an epoch; of many steps, every second one is dropped."""
        done = progress.epoch - 1 + progress.batch / progress.num_batches
        self.progress = to_plain(progress)
        self.steps.append((done, progress.loss, progress.accuracy))
        if len(self.steps) > _MOST_STEPS:
            del self.steps[1::2]
        images = progress.num_batches * self.batch_size
        self._estimate(done, images / progress.images_per_second if images else None)

    def end_epoch(self, epoch: Epoch, seconds: float | None) -> None:
        """Add an epoch, which took `seconds` if that is known."""
        self.epochs.append({**to_plain(epoch), "seconds": seconds})
        self._estimate(epoch.epoch, None)

    def _estimate(self, done: float, epoch_seconds: float | None) -> None:
        """Set the time left, at the pace of the last epoch, or else of the present one."""
        if self.epochs and self.epochs[-1]["seconds"] is not None:
            epoch_seconds = self.epochs[-1]["seconds"]
        if self.num_epochs is not None and epoch_seconds is not None:
            self.seconds_left = epoch_seconds * (self.num_epochs - done)

    def finish(self, record: RunRecord) -> None:
        """Set what is known once there is a record."""
        self.status = "finished"
        self.num_params = record.profile.num_params
        self.accuracy = record.test.score.accuracy
        self.passed = record.verdict.passed if record.verdict.limits else None
        self.result, self.limits = record.verdict.status, record.verdict.rows
        self.seconds_left = None


_MOST_STEPS = 600


def as_json(runs: Sequence[RunState], *, ended: bool, title: str = "", note: str = "") -> bytes:
    """The content of state.json; numbers that JSON lacks, such as infinity, become null."""
    state = {
        "title": title,
        "note": note,
        "ended": ended,
        "runs": [_finite(asdict(run)) for run in runs],
    }
    return json.dumps(state, allow_nan=False).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def page_answers(snapshot: Callable[[], bytes]) -> dict[str, Answer]:
    """The page itself and state.json, which `snapshot` makes."""
    page = render("live.html", {"title": "smidgen: live"}).encode()
    policy = _content_security_policy(page)
    return {
        "/": Answer("text/html; charset=utf-8", lambda: page, policy),
        "/state.json": Answer("application/json", snapshot),
    }


def _content_security_policy(page: bytes) -> str:
    """Allow the page's own scripts and styles only, and requests to this server only."""

    def digests(element: bytes) -> str:
        found = re.findall(rb"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
        hashes = [base64.b64encode(running_sha256(text).digest()).decode() for text in found]
        return " ".join(f"'sha256-{digest}'" for digest in hashes)

    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"script-src {digests(b'script')}; style-src {digests(b'style')}; "
        "connect-src 'self'; img-src data:"
    )
