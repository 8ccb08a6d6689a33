"""The Python in docs/gate.md runs."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "gate.md").read_text("utf-8")
MODEL = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, {channels}, 3), nn.ReLU(), nn.Flatten())
        self.append(nn.Linear({channels} * 26 * 26, 1))
"""


@pytest.mark.parametrize(("channels", "passes"), [(4, True), (40, False)])
def test_the_pytest_examples_gate_a_repository(
    channels: int,
    passes: bool,
    finished_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "my_model.py").write_text(MODEL.format(channels=channels), encoding="utf-8")
    shutil.copytree(finished_folder, tmp_path / "records" / "tiny" / "seed-0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    tests: dict[str, Any] = {}
    for block in blocks:
        exec(block, tests)
    monkeypatch.delitem(sys.modules, "my_model")
    tests["test_the_run_is_inside_its_budget_and_equals_its_record"]()
    for name in ("test_the_network_is_inside_its_budget", "test_the_network_fits_the_device"):
        if passes:
            tests[name]()
        else:
            with pytest.raises(AssertionError):
                tests[name]()


def test_a_run_that_was_tampered_with_fails(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    shutil.copytree(run_copy, tmp_path / "records" / "tiny" / "seed-0")
    record = tmp_path / "records/tiny/seed-0/run.json"
    text = record.read_text("utf-8")
    record.write_text(re.sub(r'"num_correct": \d+', '"num_correct": 300', text), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    tests: dict[str, Any] = {}
    exec(block, tests)
    with pytest.raises(AssertionError, match=r"correct test images: .* 300 in the record"):
        tests["test_the_run_is_inside_its_budget_and_equals_its_record"]()
