"""Networks that were trained elsewhere: weights of every usual kind, their record, the verdict."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import smidgen
from smidgen.cli import main
from smidgen.errors import ConfigError, RecordError
from smidgen.record import RunRecord
from smidgen.runs.evaluate_weights import evaluate_weights, read_state_dict

MODEL = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))
"""


@pytest.fixture
def student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a student's model and weights trained for one pass over digits."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODEL)
    data = smidgen.load("digits")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    batches = zip(
        torch.split(data.train.images, 50), torch.split(data.train.labels, 50), strict=True
    )
    for images, labels in batches:
        optimizer.zero_grad()
        loss: torch.Tensor = nn.functional.cross_entropy(network(images / 255), labels)
        torch.autograd.backward(loss)
        optimizer.step()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    return tmp_path


RAW = {"mean": [0.0], "std": [1.0]}


def correct_images(folder: Path) -> int:
    """Scored without smidgen's evaluation, on pixels from 0 to 1."""
    data = smidgen.load("digits")
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    network.load_state_dict(torch.load(folder / "weights.pth", weights_only=True))
    predicted = network(data.test.images / 255).argmax(1)
    return int((predicted == data.test.labels).sum())


def test_the_score_is_the_one_that_the_students_own_script_gets(student: Path) -> None:
    result = evaluate_weights("net.py:Net", "weights.pth", "digits", **RAW)  # type: ignore[arg-type]
    assert result.record is not None
    assert result.record.test.num_correct == correct_images(student) > 180
    assert result.record.trained_elsewhere
    assert (result.record.epochs, result.record.test_looks) == ((), 1)
    other = evaluate_weights("net.py:Net", "weights.pth", "digits")
    assert other.record is not None
    assert other.record.data.mean == smidgen.load("digits").mean


def test_the_folder_can_be_checked_and_reported_and_used(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate_weights("net.py:Net", "weights.pth", "digits", **RAW)  # type: ignore[arg-type]
    assert result.folder is not None
    (student / "weights.pth").unlink()
    assert smidgen.check(result.folder).passed
    with pytest.raises(ConfigError, match="was trained elsewhere: leave out --repeat"):
        smidgen.check(result.folder, repeat=True)
    page = (result.folder / "report.html").read_text()
    assert "trained elsewhere" in page
    assert "Calibration" in page
    assert "<h2>Curves</h2>" not in page
    assert smidgen.load_network(result.folder).mean == (0.0,)
    assert main(["list", "runs"]) == 0
    assert "runs/Net/evaluated" in capsys.readouterr().out.replace(os.sep, "/")
    assert main(["report", str(result.folder), str(result.folder), "--out", "both"]) == 0


def test_the_command_in_the_record_gives_the_same_score(
    student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = smidgen.Budget(max_params=8_000, max_epochs=2)
    first = evaluate_weights(
        "net.py:Net",
        "weights.pth",
        "digits",
        budget=budget,
        epochs=3,
        **RAW,  # type: ignore[arg-type]
    )
    assert first.record is not None
    assert first.folder is not None
    monkeypatch.chdir(first.folder)
    assert main(first.record.command.split()[1:]) == 1
    second = smidgen.read_record("runs/Net/evaluated")
    assert second.test == first.record.test
    assert second.verdict == first.record.verdict


def test_epochs_are_judged_only_if_they_are_stated(student: Path) -> None:
    words = ["evaluate", "net.py:Net", "--weights", "weights.pth", "--data", "digits"]
    words += ["--mean", "0", "--std", "1", "--max-epochs", "2"]
    assert main([*words, "--max-params", "8000", "--min-accuracy", "0.5"]) == 0
    assert main([*words, "--epochs", "3"]) == 1
    assert main([*words, "--max-params", "7000"]) == 1


def test_weights_are_found_where_training_scripts_put_them(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    prefixed = {f"module.{name}": value for name, value in state.items()}
    for number, content in enumerate(
        [state, {"epoch": 3, "state_dict": state}, {"model_state_dict": prefixed}, {"model": state}]
    ):
        torch.save(content, tmp_path / f"{number}.pt")
        found = read_state_dict(tmp_path / f"{number}.pt")
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) for name in state)


class Code:
    """Pickles as a call of os.mkdir."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_weights_run_no_code_and_damage_costs_one_line(tmp_path: Path) -> None:
    torch.save({"state_dict": Code(tmp_path / "ran")}, tmp_path / "code.pth")
    torch.save(nn.Linear(2, 3), tmp_path / "module.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "noise.pth").write_bytes(b"PK\3\4" + bytes(range(256)))
    for name, reason in {
        "code": f"it holds {os.mkdir.__module__}.mkdir",
        "module": "it holds torch.nn.modules.linear.Linear",
        "list": "it holds a list",
        "empty": "it is damaged, or torch.save did not write it",
        "noise": "it is damaged, or torch.save did not write it",
    }.items():
        with pytest.raises(RecordError, match=r"pth is not a state dict .* torch\.save") as error:
            read_state_dict(tmp_path / f"{name}.pth")
        assert f"({reason})" in str(error.value)
    with pytest.raises(RecordError, match="cannot be read: No such file"):
        read_state_dict(tmp_path / "missing.pth")
    assert not (tmp_path / "ran").exists()


def test_other_weights_and_wrong_statistics_are_refused(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), "other.pth")
    words = ["evaluate", "net.py:Net", "--data", "digits", "--weights"]
    assert main([*words, "other.pth"]) == 2
    assert "holds the weights of another network: Missing key" in capsys.readouterr().err
    assert main([*words, "weights.pth", "--std", "0"]) == 2
    assert "std above 0" in capsys.readouterr().err
    assert main(["evaluate", "net.py:Net", "--data", "digits"]) == 2
    assert "needs either a network and --weights FILE, or" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_record_has_epochs_or_says_that_it_was_trained_elsewhere(student: Path) -> None:
    record = evaluate_weights("net.py:Net", "weights.pth", "digits").record
    assert isinstance(record, RunRecord)
    plain = json.loads(Path("runs/Net/evaluated/run.json").read_text())
    assert plain["trained_elsewhere"] is True
    from dataclasses import replace

    with pytest.raises(ValueError, match="it has no epochs"):
        replace(record, trained_elsewhere=False)
