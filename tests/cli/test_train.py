import http.client
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from smidgen.cli import main
from smidgen.config import Experiment
from smidgen.report.live import LivePage
from smidgen.training.tracking import TRACKERS


@pytest.fixture
def command(tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A training of seconds, without its report."""
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)
    path = tmp_path / "tiny.toml"
    path.write_text(tiny.to_toml(), encoding="utf-8")
    return ["train", str(path), "--out", str(tmp_path / "runs"), "--threads", "1"]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a browser would have got from the live page after each epoch, and at its end."""
    states: list[dict[str, Any]] = []
    on_epoch_end, close = LivePage.on_epoch_end, LivePage.close

    def look(page: LivePage) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", page._server.server_port, timeout=5)
        connection.request("GET", "/state.json")
        states.append(json.loads(connection.getresponse().read())["runs"][0])
        connection.close()

    def end_epoch_and_look(page: LivePage, *arguments: Any) -> None:
        on_epoch_end(page, *arguments)
        look(page)

    def close_without_waiting(page: LivePage) -> None:
        page._last_request = float("-inf")
        close(page)
        states.append({"result": page._run.result})

    monkeypatch.setattr(LivePage, "on_epoch_end", end_epoch_and_look)
    monkeypatch.setattr(LivePage, "close", close_without_waiting)
    return states


def test_live_shows_a_run_as_it_goes_on(
    command: list[str], seen: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--live", "--seed", "3"]) == 0
    assert re.match(r"live: http://127\.0\.0\.1:\d+/\n", capsys.readouterr().out)
    first, second, end = seen
    assert (first["name"], first["target"], first["num_epochs"]) == ("tiny, seed 3", 0.15, 2)
    assert [len(first["epochs"]), len(second["epochs"])] == [1, 2]
    assert second["progress"]["epoch"] == 2
    assert end["result"] == "inside the budget"


def test_live_says_when_a_run_failed(
    command: list[str], seen: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--live", "--train.optimizer.lr", "1e30"]) == 2
    assert "the loss became" in capsys.readouterr().err
    assert seen[-1]["result"] == "The run was interrupted, or stopped by an error."


def test_a_missing_package_costs_one_line_and_no_training(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert main([*command, "--track", "trackio"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "pip install '.[track]' in smidgen's checkout, or pip" in err
    assert not (tmp_path / "runs").exists()


def test_track_logs_every_epoch(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, log_dir: str) -> None:
            assert Path(log_dir) == tmp_path / "runs" / "tiny" / "seed-0" / "tensorboard"

        def add_text(self, name: str, text: str) -> None: ...

        def add_scalar(self, name: str, value: float, step: int) -> None:
            steps.append((name, step))

        def flush(self) -> None: ...

        def close(self) -> None: ...

    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    assert main([*command, "--track", "tensorboard", "--quiet"]) == 0
    assert {step for name, step in steps if name == "accuracy/validation"} == {1, 2}


def test_the_flag_names_every_tracker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "gap-6k", "--track", "wandb"]) == 2
    err = capsys.readouterr().err
    assert all(name in err for name in TRACKERS)
