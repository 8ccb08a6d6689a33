"""A teacher's table: broken, slow, greedy and good submissions, side by side."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from smidgen.cli import main
from smidgen.errors import ConfigError
from smidgen.runs.submissions import read_limits

MODEL = """
from torch import nn


class {name}(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))
"""
LIMITS = """
[budget]
max_params = 8000
[data]
name = "digits"
"""


def submit(folder: Path, code: str) -> None:
    folder.mkdir()
    (folder / "model.py").write_text(code)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    torch.save(network.state_dict(), folder / "weights.pth")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_no_submission_stops_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "limits.toml").write_text(LIMITS)
    good = MODEL.format(name="Tiny")
    submissions = {
        "a-syntax": "def",
        "b-raises": "raise KeyError('x')\n" + MODEL.format(name="Net"),
        "c-exits": "import os\nos._exit(3)\n" + good,
        "d-hungry": f"{good}\nimport torch\nx = torch.zeros(1 << 36)\n",
        "e-slow": f"{good}\nimport time\ntime.sleep(600)\n",
        "f-two": MODEL.format(name="A") + MODEL.format(name="B"),
        "h-forged": "import os\nprint('[]', flush=True)\nos._exit(0)\n" + good,
        "i-good": good,
    }
    for name, code in submissions.items():
        submit(tmp_path / name, code)
    (tmp_path / "g-empty").mkdir()
    folders = [*sorted(submissions), "g-empty", "missing"]
    words = ["--limits", "limits.toml", "--timeout", "20", "--memory", "16", "--csv"]
    assert main(["evaluate", *folders, *words]) == 1
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert list(rows) == folders
    expected = {
        "a-syntax": "model.py is not valid Python",
        "b-raises": "KeyError",
        "c-exits": "exit status 3",
        "d-hungry": "out of memory, with a limit of 16 GiB",
        "e-slow": "stopped after the time limit of 20 s",
        "f-two": "a class Net or one subclass of nn.Module; it has A, B",
        "g-empty": "there must be one .py file; there is none",
        "h-forged": "error",
        "missing": "missing is not a folder",
        "i-good": "inside the budget",
    }
    for name, text in expected.items():
        assert text in rows[name]["result"], rows[name]
        assert rows[name]["result"].startswith("error: ") == (name != "i-good")
    assert rows["i-good"]["parameters"] == "7850"
    assert (tmp_path / "runs" / "i-good" / "evaluated" / "report.html").exists()


def test_a_table_of_submissions_that_all_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "limits.toml").write_text(LIMITS)
    submit(tmp_path / "anna", MODEL.format(name="Net"))
    (tmp_path / "anna" / "experiment.toml").write_text('[model]\nmodule = "model.py:Net"\n')
    assert main(["evaluate", "anna", "--limits", "limits.toml", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["num_params"], found["passed"]) == ("anna", 7850, True)


def test_limits_with_other_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(LIMITS + "[train]\nepochs = 3\n")
    with pytest.raises(ConfigError, match="has 'train'; limits have budget, data, model"):
        read_limits(path)
    path.write_text("[budget]\nmax_params = 3\n")
    with pytest.raises(ConfigError, match=r"has no table \[data\]"):
        read_limits(path)
