import copy
import itertools
import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from smidgen.cli import main
from smidgen.config import Experiment
from smidgen.models import build
from smidgen.runs import benchmark as module
from smidgen.runs.benchmark import benchmark, matrix_flops
from smidgen.training import BACKENDS

WORDS = ["--seconds", "0.02", "--threads", "1"]
NUM_IMAGES = 1137  # of the digits, for training


@pytest.fixture
def toml(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bench") / "tiny.toml"
    path.write_text(tiny.to_toml())
    return str(path)


def operations_of_a_step(experiment: Experiment) -> int:
    """Floating-point operations for one image, forward and backward, counted by torch."""
    network = build(experiment.model, (1, 28, 28), 10)
    image = torch.randn(2, 1, 28, 28, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(network(image).sum())
    return int(counter.get_total_flops()) // 2


def test_every_backend_is_timed(
    tiny: Experiment, toml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", toml, *WORDS, "--batch-sizes", "16", "32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["backend"] for row in found["rows"]} | set(found["unsupported"]) == set(BACKENDS)
    assert {row["batch_size"] for row in found["rows"]} == {16, 32}
    speeds = [row["images_per_second"] for row in found["rows"]]
    assert speeds == sorted(speeds, reverse=True)
    operations, peak = operations_of_a_step(tiny), 1e9 * found["peak_gflops"]["1"]
    for row in found["rows"]:
        speed = row["images_per_second"]
        assert row["share_of_peak"] * peak == pytest.approx(speed * operations)
        assert row["epoch_seconds"] * speed == pytest.approx(NUM_IMAGES)


def test_speed_is_images_over_time(tiny: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that advances a second at each reading, a step takes a second."""
    clock = itertools.count()
    monkeypatch.setattr(module, "perf_counter", lambda: float(next(clock)))
    found = benchmark(tiny, 100, threads=[1], batch_sizes=[40], seconds=8)
    assert [row.images_per_second for row in found.rows] == [30.0] * len(found.rows)  # 3 in 4 s


def test_the_peak_counts_the_operations_of_a_matrix_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(module, "perf_counter", lambda: float(next(clock)))
    matrix = torch.ones(64, 64)
    with FlopCounterMode(display=False) as counter:
        torch.mm(matrix, matrix)
    assert matrix_flops(1, side=64) == counter.get_total_flops()


def test_a_benchmark_leaves_process_and_generators_as_they_were(tiny: Experiment) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    benchmark(copy.deepcopy(tiny), 100, threads=[2], batch_sizes=[8], seconds=0.01)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_the_command_shows_a_table_and_the_expected_time(
    toml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", toml, *WORDS]) == 0
    out = capsys.readouterr().out
    assert "2 epochs of 1,137 images take" in out
    header, *rows = out.splitlines()
    assert header.split() == ["backend", "threads", "batch", "images/s", "of", "peak", "epoch"]
    assert {row.split()[2] for row in rows[:3]} <= {"16", "32", "128"}


def test_too_many_threads_are_an_error(toml: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", toml, "--threads", "1000000000"]) == 2
    assert "--threads is 1000000000; it must be from 1 to " in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--threads", "0"], ["--batch-sizes", "-1"]])
def test_numbers_below_one_are_an_error(
    toml: str, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["bench", toml, *words]) == 2
    assert "must be 1 or more" in capsys.readouterr().err
