import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from smidgen.callbacks import Listener, together
from smidgen.config import Experiment, format_experiment
from smidgen.data import Dataset
from smidgen.errors import ConfigError
from smidgen.record import EXPERIMENT, Epoch, RunRecord, Score
from smidgen.training.tracking import TensorBoardSink, TrackioSink, figures, tracked

FIRST = Epoch(
    epoch=1,
    train=Score(loss=0.5, accuracy=0.75),
    validation=Score(loss=0.25, accuracy=0.875),
    test=None,
    lr=0.125,
)
FIGURES = {
    "loss/train": 0.5,
    "accuracy/train": 0.75,
    "loss/validation": 0.25,
    "accuracy/validation": 0.875,
    "learning_rate": 0.125,
    "seconds": 2.0,
}


@pytest.fixture
def folder(tmp_path: Path, tiny: Experiment) -> Path:
    """A run's folder as it is when the run begins."""
    folder = tmp_path / "tiny" / "seed-3"
    folder.mkdir(parents=True)
    (folder / EXPERIMENT).write_text(format_experiment(tiny), encoding="utf-8")
    return folder


def test_what_was_not_scored_has_no_figure() -> None:
    assert figures(FIRST, 2.0) == FIGURES


def test_all_listeners_are_told_in_their_order(
    digits: Dataset, record: RunRecord, tmp_path: Path
) -> None:
    told: list[tuple[str, object]] = []

    def named(name: str) -> Listener:
        return Listener(
            ready=lambda _, __, folder: told.append((name, folder)),
            note=lambda text: told.append((name, text)),
            past=lambda epoch, seconds: told.append((name, (epoch, seconds))),
            batch=lambda progress: told.append((name, progress)),
            epoch=lambda epoch, seconds: told.append((name, seconds)),
        )

    both = together(named("a"), named("b"))
    both.ready(digits, record.profile, tmp_path)
    both.note("a sentence")
    both.past(FIRST, 2.0)
    both.batch("progress")  # type: ignore[arg-type]
    both.epoch(FIRST, 3.0)
    whats = (tmp_path, "a sentence", (FIRST, 2.0), "progress", 3.0)
    assert told == [(n, what) for what in whats for n in "ab"]


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("trackio", "trackio")]
)
def test_a_package_that_is_missing_is_named_with_what_installs_it(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"package {name}, .* pip install 'smidgen\[track\]'"):
        tracked([name]).__enter__()


def test_an_unknown_sink() -> None:
    with pytest.raises(ConfigError, match="--track wandb: it must be one of tensorboard, trackio"):
        tracked(["wandb"]).__enter__()


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
def test_tensorboard_gets_each_epoch_in_the_runs_folder(
    folder: Path, digits: Dataset, record: RunRecord
) -> None:
    with tracked(["tensorboard", "tensorboard"]) as (listener,):
        listener.ready(digits, record.profile, folder)
        listener.epoch(FIRST, 2.0)
        (writer,) = written
        assert writer.state == "open"
    assert writer.state == "closed"
    assert writer.log_dir == str(folder / "tensorboard")
    assert writer.scalars == [(name, value, 1) for name, value in FIGURES.items()]
    assert 'chain = "6,s2 8,s2,o0.1 G"' in writer.texts["experiment"]


@pytest.mark.usefixtures("fake_tensorboard")
def test_a_run_that_never_began_writes_nothing() -> None:
    with TensorBoardSink().live() as listener:
        assert listener.batch is not None
    assert written == []


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore")
def test_event_files_hold_what_tensorboard_reads_back(
    folder: Path, digits: Dataset, record: RunRecord, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    with TensorBoardSink(tmp_path / "events").live() as listener:
        listener.ready(digits, record.profile, folder)
        listener.epoch(FIRST, 2.0)
    assert read_events(tmp_path / "events") == {n: [(1, v)] for n, v in FIGURES.items()}


class FakeTrackio(ModuleType):
    """Notes what it is told, and in which surroundings."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = 0
        self.surroundings: list[tuple[str | None, bool]] = []

    def init(self, **given: Any) -> SimpleNamespace:
        print("* Created new run")
        if given["project"].startswith("registry-"):
            raise ValueError("names beginning with 'registry-' are reserved")
        self.begun.append(given)
        self.look()
        return SimpleNamespace(log=self.log)

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((metrics, step))
        self.look()

    def finish(self) -> None:
        print("* Run finished")
        self.finished += 1
        self.look()

    def look(self) -> None:
        offline: bool = sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE
        self.surroundings.append((os.environ.get("TRACKIO_SPACE_ID"), offline))


@pytest.fixture
def fake_trackio(monkeypatch: pytest.MonkeyPatch) -> FakeTrackio:
    constants: Any = ModuleType("huggingface_hub.constants")
    constants.HF_HUB_OFFLINE = False
    hub: Any = ModuleType("huggingface_hub")
    hub.constants = constants
    trackio = FakeTrackio()
    for module in (constants, hub, trackio):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/somewhere")
    return trackio


def test_trackio_stays_at_home(
    fake_trackio: FakeTrackio,
    folder: Path,
    digits: Dataset,
    record: RunRecord,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with tracked(["trackio"]) as (listener,):
        listener.ready(digits, record.profile, folder)
        listener.epoch(FIRST, 2.0)
    (begun,) = fake_trackio.begun
    assert (begun["project"], begun["name"]) == ("tiny", "seed-3")
    assert begun["config"]["num_params"] == record.profile.num_params
    assert begun["config"]["train"]["batch_size"] == 32
    assert not any(begun[flag] for flag in ("embed", "auto_log_gpu", "auto_log_cpu"))
    assert fake_trackio.logged == [(FIGURES, 1)]
    assert fake_trackio.finished == 1
    assert set(fake_trackio.surroundings) == {(None, True)}
    assert os.environ["TRACKIO_SPACE_ID"] == "somebody/somewhere"
    assert not sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE
    assert capsys.readouterr().out == ""


def test_trackio_finishes_a_run_that_failed(
    fake_trackio: FakeTrackio, folder: Path, digits: Dataset, record: RunRecord
) -> None:
    def interrupted() -> None:
        with tracked(["trackio"]) as (listener,):
            listener.ready(digits, record.profile, folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert fake_trackio.finished == 1


@pytest.mark.usefixtures("fake_trackio")
def test_a_name_that_trackio_refuses(folder: Path, digits: Dataset, record: RunRecord) -> None:
    with (
        TrackioSink("registry-x").live() as listener,
        pytest.raises(ConfigError, match="trackio does not take this run: names beginning"),
    ):
        listener.ready(digits, record.profile, folder)


REAL = """
import pathlib, socket, sys
from smidgen.record import Epoch, Score, read_record
from smidgen.training.tracking import TrackioSink

asked = []
def refuse(*given, **_):
    asked.append(given)
    raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
run, folder = map(pathlib.Path, sys.argv[1:])
with TrackioSink().live() as listener:
    listener.ready(None, read_record(run).profile, folder)
    score = Score(loss=0.5, accuracy=0.75)
    epoch = Epoch(epoch=1, train=score, validation=None, test=None, lr=0.1)
    listener.epoch(epoch, 1.0)
assert not asked, asked
from trackio.sqlite_storage import SQLiteStorage
(row,) = SQLiteStorage.get_logs("tiny", "seed-3")
print(row["step"], row["loss/train"], row["accuracy/train"])
"""


def test_trackio_keeps_what_it_was_told_and_asks_no_host(
    folder: Path, finished_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trackio")
    done = subprocess.run(
        [sys.executable, "-c", REAL, finished_folder, folder],
        env=os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_TOKEN": "hf_none"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "1 0.5 0.75\n"), done.stderr
