"""What is committed as a result must be what its files say."""

import hashlib
import re
from pathlib import Path
from statistics import fmean

import pytest

from smidgen import check
from smidgen.formatting import capitalized, percent
from smidgen.record import WEIGHTS, read_record

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "records").rglob("run.json"))


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


def test_the_readme_links_to_the_page_of_every_record_in_its_table() -> None:
    links = re.findall(r"\]\((records/[^)]*)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    pages = [str((folder / "report.md").relative_to(ROOT)) for folder in FOLDERS]
    assert len(pages) == 25
    assert sorted({link for link in links if link.endswith("report.md")}) == sorted(pages)
    assert all((ROOT / link).is_file() for link in links)


@pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_the_page_of_a_record_says_what_the_record_says(folder: Path) -> None:
    record, text = read_record(folder), (folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {record.experiment.name}, seed-{record.seed}\n")
    result = text.split("## Result\n\n")[1].split("\n## ")[0]
    assert result.startswith(f"**{capitalized(record.verdict.status)}.**")
    assert f"{percent(record.test.score.accuracy)} of {record.test.num_images:,}" in result
    assert f"| {percent(record.test.score.accuracy)} " in result
    assert f"| {record.profile.num_params:,} " in result
    assert "The folder has no" not in text
    assert record.weights_sha256 in text
    links = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert "figures/network.png" in links
    assert sorted(links) == sorted(f"figures/{path.name}" for path in folder.glob("figures/*"))


def test_the_pages_of_the_records_are_small() -> None:
    files = [path for folder in FOLDERS for path in [folder / "report.md", *folder.glob("fig*/*")]]
    assert sum(path.stat().st_size for path in files) < 2_000_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_a_record_counts_and_scores_the_same_again(folder: Path, mnist_folder: Path) -> None:
    found = check(folder, data_dir=mnist_folder)
    assert found.differences == ()
    assert found.verdict == found.record.verdict
