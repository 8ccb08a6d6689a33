"""tests/robustness.py: a few trials by default, all that docs/robustness.md reports if slow."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("robustness.py")


def count(*arguments: str) -> dict[str, Any]:
    """Run the script, which must pass, and return its counts."""
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_five_killed_runs_finish_as_usual() -> None:
    found = count("kill", "--trials", "5", "--seed", "1")
    assert found["trials"] == 5
    assert found["kills"] >= 5


def test_damage_is_found() -> None:
    found = count("damage", "--lengths", "100", "--flips", "100")
    assert (found["truncations"], found["flips"]) == (300, 300)


@pytest.mark.slow
def test_a_hundred_killed_runs_finish_as_usual() -> None:
    found = count("kill", "--trials", "100")
    assert found["trials_with_one"] >= 34


@pytest.mark.slow
def test_a_run_killed_at_any_call_resumes() -> None:
    assert count("ends")["calls"] >= 60


@pytest.mark.slow
def test_a_disk_error_at_any_call_can_be_recovered() -> None:
    assert count("faults")["trials"] >= 180


@pytest.mark.slow
def test_a_limit_on_file_sizes_can_be_recovered() -> None:
    assert count("sizes")["trials"] == 40


@pytest.mark.slow
def test_damage_at_a_thousand_lengths_and_bits_is_found() -> None:
    assert count("damage")["flips"] == 3000


@pytest.mark.slow
def test_fresh_processes_give_one_digest() -> None:
    assert count("repeat", "--trials", "5")["digests_by_threads"] == {"1": 1, "2": 1}
