import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from smidgen.callbacks import Callback, CallbackList, Progress, RunInfo
from smidgen.config import Experiment
from smidgen.errors import ConfigError
from smidgen.record import Epoch, RunRecord, Score
from smidgen.training.tracking import (
    TensorBoardCallback,
    TrackioCallback,
    epoch_metrics,
    make_trackers,
)

FIRST = Epoch(
    epoch=1,
    train=Score(loss=0.5, accuracy=0.75),
    validation=Score(loss=0.25, accuracy=0.875),
    test=None,
    lr=0.125,
)
METRICS = {
    "loss/train": 0.5,
    "accuracy/train": 0.75,
    "loss/validation": 0.25,
    "accuracy/validation": 0.875,
    "learning_rate": 0.125,
    "seconds": 2.0,
}


@pytest.fixture
def run(tmp_path: Path, tiny: Experiment, record: RunRecord) -> RunInfo:
    """A run that is about to train."""
    folder = tmp_path / "tiny" / "seed-3"
    folder.mkdir(parents=True)
    return RunInfo(
        folder=folder,
        experiment=tiny,
        seed=3,
        data=record.data,
        profile=record.profile,
        environment=record.environment,
    )


def unused() -> Any:
    raise AssertionError


def train(callback: Callback, run: RunInfo) -> None:
    """Call `callback` as a run of one epoch does."""
    callback.on_train_start(run)
    callback.on_epoch_end(FIRST, 2.0, unused)
    callback.on_train_end(None)


def test_a_split_that_was_not_scored_has_no_metrics() -> None:
    assert epoch_metrics(FIRST, 2.0) == METRICS


class Named(Callback):
    def __init__(self, name: str, calls: list[tuple[str, object]]) -> None:
        self.name, self.calls = name, calls

    def on_message(self, text: str) -> None:
        self.calls.append((self.name, text))

    def on_train_start(self, run: RunInfo) -> None:
        self.calls.append((self.name, run))

    def on_step_end(self, capture: Any) -> None:
        self.calls.append((self.name, capture))

    def on_progress(self, progress: Progress) -> None:
        self.calls.append((self.name, progress))

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Any) -> None:
        self.calls.append((self.name, (epoch, seconds, capture)))

    def on_train_end(self, record: RunRecord | None) -> None:
        self.calls.append((self.name, record))
        if self.name == "fails":
            raise KeyboardInterrupt


def test_all_callbacks_are_called_in_order_and_ended_in_reverse(
    run: RunInfo, record: RunRecord
) -> None:
    calls: list[tuple[str, object]] = []
    progress = Progress(
        epoch=1, batch=1, num_batches=2, loss=1.0, accuracy=0.5, images_per_second=9.0
    )
    both = CallbackList([Named("a", calls), Named("b", calls)])
    both.on_message("a sentence")
    both.on_train_start(run)
    both.on_step_end(unused)
    both.on_progress(progress)
    both.on_epoch_end(FIRST, 2.0, unused)
    both.on_train_end(record)
    arguments = ("a sentence", run, unused, progress, (FIRST, 2.0, unused))
    assert calls == [
        *((name, argument) for argument in arguments for name in "ab"),
        *(("b", record), ("a", record)),
    ]


def test_a_callback_that_fails_at_the_end_does_not_stop_the_others() -> None:
    calls: list[tuple[str, object]] = []
    names = ("a", "fails", "b")
    with pytest.raises(KeyboardInterrupt):
        CallbackList([Named(name, calls) for name in names]).on_train_end(None)
    assert [name for name, _ in calls] == ["b", "fails", "a"]


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("trackio", "trackio")]
)
def test_a_package_that_is_missing_is_named_with_what_installs_it(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"package {name}, .* pip install '\.\[track\]' in"):
        make_trackers([name])


def test_an_unknown_tracker() -> None:
    with pytest.raises(ConfigError, match="--track is 'wandb'; it must be one of tensor"):
        make_trackers(["wandb"])


class FakeWriter:
    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir
        self.texts: dict[str, str] = {}
        self.scalars: list[tuple[str, float, int]] = []
        self.state = "open"
        written.append(self)

    def add_text(self, name: str, text: str) -> None:
        self.texts[name] = text

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.state = "closed"


written: list[FakeWriter] = []


@pytest.fixture
def fake_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    written.clear()
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)


@pytest.mark.usefixtures("fake_tensorboard")
def test_tensorboard_gets_each_epoch_in_the_runs_folder(run: RunInfo) -> None:
    (callback,) = make_trackers(["tensorboard", "tensorboard"])
    callback.on_train_start(run)
    callback.on_epoch_end(FIRST, 2.0, unused)
    (writer,) = written
    assert writer.state == "open"
    callback.on_train_end(None)
    assert writer.state == "closed"
    assert writer.log_dir == str(run.folder / "tensorboard")
    assert writer.scalars == [(name, value, 1) for name, value in METRICS.items()]
    assert 'chain = "6,s2 8,s2,o0.1 G"' in writer.texts["experiment"]


@pytest.mark.usefixtures("fake_tensorboard")
def test_a_run_that_never_started_writes_nothing() -> None:
    TensorBoardCallback().on_train_end(None)
    assert written == []


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore")
def test_event_files_hold_what_tensorboard_reads_back(run: RunInfo, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(TensorBoardCallback(tmp_path / "events"), run)
    assert read_events(tmp_path / "events") == {n: [(1, v)] for n, v in METRICS.items()}


class FakeTrackio(ModuleType):
    """Remembers its calls, and prints as trackio does."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.started: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = 0

    def init(self, **given: Any) -> SimpleNamespace:
        print("* Created new run")
        if given["project"].startswith("registry-"):
            raise ValueError("names beginning with 'registry-' are reserved")
        self.started.append(given)
        return SimpleNamespace(log=self.log)

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((metrics, step))

    def finish(self) -> None:
        print("* Run finished")
        self.finished += 1


@pytest.fixture
def fake_trackio(monkeypatch: pytest.MonkeyPatch) -> FakeTrackio:
    trackio = FakeTrackio()
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # restored afterwards
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRACKIO_SPACE_ID", raising=False)
    return trackio


def test_trackio_logs_each_epoch_and_prints_nothing(
    fake_trackio: FakeTrackio, run: RunInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    (callback,) = make_trackers(["trackio"])
    train(callback, run)
    (started,) = fake_trackio.started
    assert (started["project"], started["name"]) == ("tiny", "seed-3")
    assert started["config"]["num_params"] == run.profile.num_params
    assert started["config"]["train"]["batch_size"] == 32
    assert not any(started[flag] for flag in ("embed", "auto_log_gpu", "auto_log_cpu"))
    assert fake_trackio.logged == [(METRICS, 1)]
    assert fake_trackio.finished == 1
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("fake_trackio")
def test_a_user_who_names_a_space_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/somewhere")
    TrackioCallback()
    assert "HF_HUB_OFFLINE" not in os.environ


@pytest.mark.usefixtures("fake_trackio")
def test_a_name_that_trackio_refuses(run: RunInfo) -> None:
    with pytest.raises(ConfigError, match="trackio refuses this run: names beginning"):
        TrackioCallback("registry-x").on_train_start(run)


REAL = """
import pathlib, socket, sys
from smidgen.callbacks import RunInfo
from smidgen.record import Epoch, Score, read_record
from smidgen.training.tracking import TrackioCallback

connections = []
def refuse(*given, **_):
    connections.append(given)
    raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
folder, record = pathlib.Path("tiny/seed-3"), read_record(sys.argv[1])
callback = TrackioCallback()
callback.on_train_start(
    RunInfo(
        folder=folder,
        experiment=record.experiment,
        seed=3,
        data=record.data,
        profile=record.profile,
        environment=record.environment,
    )
)
score = Score(loss=0.5, accuracy=0.75)
epoch = Epoch(epoch=1, train=score, validation=None, test=None, lr=0.1)
callback.on_epoch_end(epoch, 1.0, None)
callback.on_train_end(None)
assert not connections, connections
from trackio.sqlite_storage import SQLiteStorage
(row,) = SQLiteStorage.get_logs("tiny", "seed-3")
print(row["step"], row["loss/train"], row["accuracy/train"])
"""


def test_real_trackio_stores_the_metrics_and_connects_to_no_host(
    finished_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trackio")
    done = subprocess.run(
        [sys.executable, "-c", REAL, finished_folder],
        env=os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_TOKEN": "hf_none"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "1 0.5 0.75\n"), done.stderr
