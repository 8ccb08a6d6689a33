"""Flash and RAM are estimated before training, and what cannot be exported is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smidgen.budget import Budget
from smidgen.cli import main
from smidgen.config import Experiment, Model
from smidgen.data import Dataset
from smidgen.errors import ModelError
from smidgen.models.chain import build_chain
from smidgen.profiling import profile
from smidgen.runs.check import check
from smidgen.runs.judge import judge
from smidgen.runs.options import RunOptions
from smidgen.runs.run import run

SHAPE = (1, 8, 8)


def test_flash_and_ram_are_judged_before_training() -> None:
    network = build_chain("6,s2 8,s2 G", SHAPE, 10)
    budget = Budget(max_flash_bytes=10_000, max_ram_bytes=10, target="cortex-m0")
    flash, ram = judge(budget, network, profile(network, SHAPE), epochs=1).limits
    assert flash.passed
    assert 1500 < flash.value < 6000
    assert not ram.passed
    assert 200 < ram.value < 1000


def test_fewer_bits_need_less_flash() -> None:
    network = build_chain("6,s2 8,s2 G", SHAPE, 10)
    found = []
    for bits in (8, 4):
        budget = Budget(max_flash_bytes=10_000, target="cortex-m0", weight_bits=bits)
        found.append(judge(budget, network, profile(network, SHAPE), epochs=1).limits[0].value)
    assert found[1] < found[0] - 200


def test_a_layer_that_cannot_be_exported_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 10))
    found = profile(network, SHAPE)
    with pytest.raises(ModelError, match=r"GELU 1 .* cannot be exported"):
        judge(Budget(max_ram_bytes=2000, target="rv32i"), network, found, epochs=1)
    assert judge(Budget(max_params=10_000), network, found, epochs=1).passed


def test_a_network_that_does_not_fit_is_not_trained(
    tiny: Experiment, digits: Dataset, tmp_path: Path
) -> None:
    budget = replace(tiny.budget, max_flash_bytes=1000, target="cortex-m0")
    result = run(replace(tiny, budget=budget), RunOptions(out=tmp_path), dataset=digits)
    assert result.record is None
    assert not result.verdict.passed
    assert "flash bytes, estimated  at most 1,000" in str(result.verdict)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_record_has_the_estimates_and_a_check_repeats_them(
    tiny: Experiment, digits: Dataset, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {"max_flash_bytes": 8000, "max_ram_bytes": 2000}
    experiment = replace(
        tiny,
        budget=replace(tiny.budget, target="rv32i", **limits),
        model=Model(chain="4 4,p1,r 6,s2 G"),
    )
    result = run(experiment, RunOptions(out=tmp_path, threads=1), dataset=digits)
    assert result.folder is not None
    assert {limit.limit for limit in result.verdict.limits} >= limits.keys()
    assert check(result.folder).differences == ()


def test_summary_judges_flash(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--budget.max-flash-bytes", "1000", "--budget.target", "atmega328p"]
    torch.manual_seed(0)
    assert main(["summary", "6,s2 8,s2 G", "--input", "1x8x8", "--classes", "10", *flags]) == 1
    assert "flash bytes, estimated" in capsys.readouterr().out
