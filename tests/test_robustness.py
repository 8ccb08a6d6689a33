"""tests/robustness.py, with a few trials by default and as many as its page promises when slow."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("robustness.py")


def held(*words: str) -> dict[str, Any]:
    """What the script counted, where all of it held."""
    command = [sys.executable, str(SCRIPT), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_five_killed_runs_end_as_if_they_had_not_been() -> None:
    found = held("kill", "--trials", "5", "--seed", "1")
    assert found["trials"] == 5
    assert found["kills"] >= 5


def test_damage_is_found() -> None:
    found = held("damage", "--lengths", "100", "--flips", "100")
    assert (found["cuts"], found["flips"]) == (300, 300)


@pytest.mark.slow
def test_a_hundred_killed_runs_end_as_if_they_had_not_been() -> None:
    found = held("kill", "--trials", "100")
    assert found["trials_with_one"] >= 34


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_call_goes_on() -> None:
    assert held("ends")["calls"] >= 60


@pytest.mark.slow
def test_a_disk_that_fails_at_any_call_costs_no_more_than_the_run() -> None:
    assert held("faults")["trials"] >= 180


@pytest.mark.slow
def test_a_limit_on_file_sizes_costs_no_more_than_the_run() -> None:
    assert held("sizes")["trials"] == 40


@pytest.mark.slow
def test_damage_at_a_thousand_lengths_and_bits_is_found() -> None:
    assert held("damage")["flips"] == 3000


@pytest.mark.slow
def test_fresh_processes_give_one_digest() -> None:
    assert held("repeat", "--trials", "5")["digests_by_threads"] == {"1": 1, "2": 1}
