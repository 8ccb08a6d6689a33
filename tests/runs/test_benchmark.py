import json

import pytest

from smidgen.cli import main
from smidgen.config import Experiment
from smidgen.training import BACKENDS

WORDS = ["--seconds", "0.02", "--threads", "1"]


@pytest.fixture
def toml(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bench") / "tiny.toml"
    path.write_text(tiny.to_toml())
    return str(path)


def test_all_forms_are_timed(toml: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", toml, *WORDS, "--batch-sizes", "16", "32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    backends = {row["backend"] for row in found["rows"]} | set(found["left_out"])
    assert backends == set(BACKENDS)
    assert {row["batch_size"] for row in found["rows"]} == {16, 32}
    speeds = [row["images_per_second"] for row in found["rows"]]
    assert speeds == sorted(speeds, reverse=True)
    for row in found["rows"]:
        # three passes of two operations for each multiply-add
        work = 6 * found["macs"] * row["images_per_second"] / 1e9
        assert row["share_of_peak"] == pytest.approx(work / found["peak_gflops"]["1"])
        assert row["epoch_seconds"] == pytest.approx(1137 / row["images_per_second"])


def test_it_says_what_the_experiment_takes(toml: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", toml, *WORDS]) == 0
    out = capsys.readouterr().out
    assert "2 epochs of 1,137 images take" in out
    assert {line.split()[2] for line in out.splitlines()[1:4]} <= {"16", "32", "128"}
    assert out.splitlines()[0].split() == [
        "backend",
        "threads",
        "batch",
        "images/s",
        "of",
        "peak",
        "epoch",
    ]


def test_more_threads_than_the_system_starts_are_refused(
    toml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", toml, "--threads", "1000000000"]) == 2
    assert "--threads is 1000000000; it must be from 1 to 1,024" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--threads", "0"], ["--batch-sizes", "-1"]])
def test_what_makes_no_sense_is_one_line(
    toml: str, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["bench", toml, *words]) == 2
    assert "must be 1 or more" in capsys.readouterr().err
