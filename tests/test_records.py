"""What is committed as a result must be what its files say."""

import hashlib
from pathlib import Path
from statistics import fmean

import pytest

from smidgen import check
from smidgen.record import WEIGHTS, read_record

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "records").rglob("run.json"))


def test_there_are_records_of_the_default_network_for_five_seeds() -> None:
    seeds = [read_record(folder).seed for folder in FOLDERS if folder.parent.name == "quickstart"]
    assert seeds == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", sorted({folder.parent.name for folder in FOLDERS}))
def test_the_mean_over_the_seeds_reaches_the_target_inside_all_limits(name: str) -> None:
    records = [read_record(folder) for folder in FOLDERS if folder.parent.name == name]
    target = records[0].experiment.budget.min_accuracy
    assert target is not None
    assert fmean(record.test.score.accuracy for record in records) >= target
    limits = [line for record in records for line in record.verdict.limits]
    assert all(line.passed for line in limits if line.limit != "min_accuracy")


@pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_a_record_s_weights_are_its_own(folder: Path) -> None:
    record = read_record(folder)
    assert record.test_looks == 1
    assert hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() == record.weights_sha256
    assert "/" not in record.data.source


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_a_record_counts_and_scores_the_same_again(folder: Path, mnist_folder: Path) -> None:
    found = check(folder, data_dir=mnist_folder)
    assert found.differences == ()
    assert found.verdict == found.record.verdict
