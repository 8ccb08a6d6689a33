import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen._storage.locks import locked
from smidgen.budget import Verdict
from smidgen.errors import ConfigError
from smidgen.record import EXPERIMENT, FAILURE, METRICS, RECORD, TIMES, RunRecord, format_record
from smidgen.runs.listing import ListedRun, list_runs


@pytest.fixture
def runs(finished_folder: Path, record: RunRecord, tmp_path: Path) -> Path:
    """Five runs: finished, older, without limits, interrupted and damaged."""
    folder = tmp_path / "runs"
    for number, name in enumerate(["free", "tiny", "old", "cut", "broken", ".hidden"]):
        copy = Path(shutil.copytree(finished_folder, folder / name / "seed-0"))
        (copy / TIMES).unlink()
        os.utime(copy / EXPERIMENT, (1e9 - 100 * number,) * 2)
    free = replace(record, verdict=Verdict(limits=()))
    (folder / "free/seed-0" / RECORD).write_text(format_record(free))
    (folder / "cut/seed-0" / RECORD).unlink()
    (folder / "broken/seed-0" / RECORD).write_text("{}")
    return folder


def test_runs_are_listed_newest_first_whatever_their_state(runs: Path, record: RunRecord) -> None:
    listed = list_runs(runs)
    assert [Path(run.folder).relative_to(runs).as_posix() for run in listed] == [
        f"{name}/seed-0" for name in ("free", "tiny", "old", "cut", "broken")
    ]
    assert [run.result for run in listed] == [
        *("no limits", "pass", "pass", "interrupted", "unreadable")
    ]
    assert listed[1] == ListedRun(
        folder=str(runs / "tiny" / "seed-0"),
        experiment="tiny",
        started="2001-09-09T01:45:00+00:00",
        data="digits",
        num_params=record.profile.num_params,
        epochs=2,
        accuracy=record.test.score.accuracy,
        passed=True,
    )
    assert (listed[3].data, listed[3].epochs, listed[3].accuracy) == ("digits", 2, None)


def test_a_run_without_a_record_is_running_interrupted_or_failed(runs: Path) -> None:
    folder = runs / "cut/seed-0"
    with locked(folder):
        assert [run.result for run in list_runs(folder)] == ["running"]
    (folder.parent / ".seed-0.lock").touch()  # as a killed process leaves it
    assert [run.result for run in list_runs(folder)] == ["interrupted"]
    (folder / FAILURE).write_text("the loss became nan\n")
    assert [run.result for run in list_runs(folder)] == ["failed"]


def test_the_time_that_a_run_recorded_counts(finished_folder: Path) -> None:
    [run] = list_runs(finished_folder)
    assert run.started.startswith("20")
    assert run.started in (finished_folder / TIMES).read_text()


def test_runs_are_chosen_by_experiment(runs: Path) -> None:
    path = runs / "old/seed-0" / EXPERIMENT
    path.write_text(path.read_text().replace('name = "tiny"', 'name = "other"', 1))
    (runs / "old/seed-0" / RECORD).unlink()
    assert [run.experiment for run in list_runs(runs, "other")] == ["other"]
    assert len(list_runs(runs, "tiny")) == 4
    with pytest.raises(ConfigError, match=r"no run of othr; it has .* Did you mean other\?"):
        list_runs(runs, "othr")


def test_a_folder_without_runs_is_empty_and_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / EXPERIMENT).write_text("")  # no run: it has neither metrics nor a record
    assert list_runs(tmp_path) == list_runs(tmp_path, "any") == []
    with pytest.raises(ConfigError, match="there is no folder"):
        list_runs(tmp_path / METRICS)


def test_listing_needs_no_torch(finished_folder: Path) -> None:
    program = f"""
import sys
from smidgen.cli import main
assert main(["list", {str(finished_folder)!r}]) == 0
print(sorted({{"torch", "matplotlib", "sklearn", "numpy", "jinja2"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.endswith("\n[]\n"), done.stderr
