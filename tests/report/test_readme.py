"""Sections of a README, filled from records."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.errors import ConfigError, RecordError
from smidgen.record import RECORD, TIMES, RunRecord, Times, format_record, format_times
from smidgen.report.audit import audit
from smidgen.report.readme import is_stale, update

Put = Callable[..., Path]


@pytest.fixture
def put(record: RunRecord, tmp_path: Path) -> Put:
    """Writes the record of a run, changed, into runs/NAME/seed-SEED next to the README."""

    def write(name: str, seed: int, right: int = 200, max_params: int = 1000) -> Path:
        budget = dataclasses.replace(record.experiment.budget, max_params=max_params)
        experiment = dataclasses.replace(record.experiment, name=name, budget=budget)
        score = dataclasses.replace(record.test.score, accuracy=right / record.test.num_images)
        limits = tuple(
            dataclasses.replace(limit, bound=max_params, passed=limit.value <= max_params)
            if limit.limit == "max_params"
            else limit
            for limit in record.verdict.limits
        )
        changed = dataclasses.replace(
            record,
            experiment=experiment,
            seed=seed,
            test=dataclasses.replace(record.test, score=score, num_correct=right),
            verdict=dataclasses.replace(record.verdict, limits=limits),
        )
        folder = tmp_path / "runs" / name / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / RECORD).write_text(format_record(changed), encoding="utf-8")
        times = Times(started="2026-01-01T00:00:00+00:00", train_seconds=10.0 + seed)
        (folder / TIMES).write_text(format_times(times), encoding="utf-8")
        return folder

    return write


def readme(folder: Path, *sections: str, inside: str = "old") -> Path:
    path = folder / "README.md"
    text = "".join(
        f"<!-- smidgen {words} -->\n{inside}\n<!-- smidgen end -->\n" for words in sections
    )
    path.write_text(f"# Title\n\n{text}\nLast line", encoding="utf-8")
    return path


def cells(path: Path, first: str) -> list[str]:
    line = next(x for x in path.read_text("utf-8").split("\n") if x.startswith(f"| {first} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_for_each_run(put: Put, tmp_path: Path, record: RunRecord) -> None:
    put("one", 0, right=180)
    put("two", 1, right=90, max_params=10)
    path = readme(tmp_path, "results runs/*/seed-*")
    images = record.test.num_images
    assert update(path)
    params = f"{record.profile.num_params:,}"
    assert cells(path, "one") == [
        *("one", params, "2", f"{18000 / images:.2f} %", "10 s", "inside the budget"),
    ]
    assert cells(path, "two")[3:] == [f"{9000 / images:.2f} %", "11 s", "NOT inside the budget"]
    assert path.read_text("utf-8").startswith("# Title\n\n<!-- smidgen results")
    assert path.read_text("utf-8").endswith("<!-- smidgen end -->\n\nLast line")


def test_seeds_of_one_experiment_are_one_row(put: Put, tmp_path: Path, record: RunRecord) -> None:
    for seed, right in enumerate((100, 110, 120)):
        put("same", seed, right)
    put("other", 0, 90)
    path = readme(tmp_path, "results runs/*/*/run.json runs/same/seed-1")
    update(path)
    one = 100 / record.test.num_images  # a percentage for each image
    spread = f"{110 * one:.2f} ± {10 * one:.2f} %"  # of 100, 110, 120 the sample's SD is 10
    ends = [f"{100 * one:.2f} %", f"{120 * one:.2f} %"]
    assert cells(path, "same")[3:] == [spread, "3", *ends, "11 s", "inside the budget"]
    assert cells(path, "other")[3:5] == [f"{90 * one:.2f} %", "1"]
    assert "standard deviation" in path.read_text("utf-8")


def test_runs_with_a_page_in_markdown_are_linked(put: Put, tmp_path: Path) -> None:
    for name, seed in (("same", 0), ("same", 3), ("a b", 1)):
        (put(name, seed) / "report.md").touch()
    put("none", 0)
    path = readme(tmp_path, "results runs/*/seed-*")
    update(path)
    assert cells(path, "same")[4] == (
        "2: [0](runs/same/seed-0/report.md) [3](runs/same/seed-3/report.md)"
    )
    assert "| [a b](runs/a%20b/seed-1/report.md) " in path.read_text("utf-8")
    assert cells(path, "none")[4] == "1"


def test_one_name_with_two_budgets_is_two_rows(put: Put, tmp_path: Path) -> None:
    first = put("same", 0)
    first.rename(tmp_path / "first")
    put("same", 1, max_params=10)
    path = readme(tmp_path, "results first runs/same/seed-1")
    update(path)
    rows = [line for line in path.read_text("utf-8").split("\n") if line.startswith("| same")]
    assert [row.split("|")[1].strip() for row in rows] == [
        "same, budget.max_params 1000",
        "same, budget.max_params 10",
    ]


def test_verdict_and_layers_of_one_run(put: Put, tmp_path: Path, record: RunRecord) -> None:
    put("one", 0)
    path = readme(tmp_path, "verdict runs/one/seed-0", "layers runs/one/seed-0/run.json")
    assert update(path)
    text = path.read_text("utf-8")
    assert "**Inside the budget.**" in text
    assert cells(path, "parameters")[1:3] == ["at most 1,000", f"{record.profile.num_params:,}"]
    assert "Layer (type)" in text
    assert audit(text).findings == ()


def test_updating_twice_changes_nothing_the_second_time(put: Put, tmp_path: Path) -> None:
    put("one", 0)
    path = readme(tmp_path, "results runs/*/*", "layers runs/one/seed-0", "verdict runs/one/seed-0")
    assert is_stale(path)
    assert update(path)
    written = path.stat().st_mtime_ns
    assert not is_stale(path)
    assert not update(path)
    assert path.stat().st_mtime_ns == written
    put("two", 0)
    assert is_stale(path)


def test_line_ends_and_links_do_not_change(put: Put, tmp_path: Path) -> None:
    put("one", 0)
    path = readme(tmp_path, "results runs/*/*")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    link = tmp_path / "LINK.md"
    link.symlink_to(path.name)
    assert update(link)
    assert link.is_symlink()
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n") > 8
    assert not update(path)


def test_marks_in_code_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    text = (
        "```\n<!-- smidgen nonsense -->\n```\n\n    <!-- smidgen end -->\n\n`<!-- smidgen x -->`\n"
    )
    path.write_text(text, encoding="utf-8")
    assert not update(path)


def test_if_any_allows_that_there_are_no_runs(put: Put, tmp_path: Path) -> None:
    path = readme(tmp_path, "results if-any runs/*/seed-*", "verdict if-any runs/one/seed-0")
    update(path)
    assert path.read_text("utf-8").count("No runs yet.") == 2
    put("one", 0)
    assert update(path)
    assert "No runs yet." not in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("result runs/*", "line 3: unknown section 'result'; known are results, layers, verdict"),
        ("results runs/x-*", r"line 3: nothing matches 'runs/x-\*' relative to README.md"),
        ("results", "line 3: results needs the folder of a run"),
        ("results if-any", "line 3: results needs the folder of a run"),
        ("results /runs/*", "line 3: '/runs/.*' is not a pattern"),
        ('results "runs', "line 3: .* cannot be read: No closing quotation"),
        ("layers runs/*/*", "line 3: this section is about one run, not 2"),
    ],
)
def test_an_invalid_mark_is_named_with_its_line(
    put: Put, tmp_path: Path, words: str, said: str
) -> None:
    put("one", 0)
    put("one", 1)
    path = readme(tmp_path, words)
    before = path.read_text("utf-8")
    for action in (update, is_stale):
        with pytest.raises(ConfigError, match=f"README.md, {said}"):
            action(path)
    assert path.read_text("utf-8") == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n<!-- smidgen results x -->\nb\n", "line 2: the section has no end"),
        ("<!-- smidgen end -->\n", "line 1: 'smidgen end' has no section to end"),
        (
            "<!-- smidgen layers x -->\n\n<!-- smidgen verdict x -->\n<!-- smidgen end -->\n",
            "line 3: a section begins inside the one of line 1",
        ),
    ],
)
def test_marks_that_do_not_pair_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        update(path)


def test_a_seed_does_not_count_twice(put: Put, tmp_path: Path) -> None:
    shutil.copytree(put("one", 0), tmp_path / "runs" / "one" / "seed-0-2")
    with pytest.raises(ConfigError, match=r"line 3: .*seed-0 and .*seed-0-2 are one experiment"):
        update(readme(tmp_path, "results runs/one/*"))


def test_a_damaged_record_is_named_with_the_line(put: Put, tmp_path: Path) -> None:
    record = put("one", 0) / RECORD
    path = readme(tmp_path, "results runs/*/*")
    record.write_text(record.read_text("utf-8")[:-20], encoding="utf-8")
    with pytest.raises(RecordError, match=r"README.md, line 3: .*run.json is damaged"):
        update(path)
    record.unlink()
    with pytest.raises(RecordError, match=r"line 3: .*seed-0 is not a finished run"):
        update(path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        update(tmp_path / "README.md")
    (tmp_path / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        update(tmp_path / "README.md")
