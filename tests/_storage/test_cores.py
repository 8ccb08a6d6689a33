"""Affinity and cgroups limit the cores of a process."""

import pytest

from smidgen._storage.cores import usable_cores


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", 4), ("150000 100000", 2), ("1 2", 1)])
def test_usable_cores_heed_affinity_and_cgroup(
    limit: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr("pathlib.Path.read_text", lambda _: limit)
    assert usable_cores() == cores
