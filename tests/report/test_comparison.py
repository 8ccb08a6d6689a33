import dataclasses
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.budget import Budget, Verdict
from smidgen.config import Experiment
from smidgen.formatting import seconds
from smidgen.record import Score
from smidgen.report import read_run, write_comparison
from smidgen.report.comparison import (
    differing_settings,
    group_rows,
    run_rows,
    tiles,
)
from smidgen.report.comparison_plots import _accuracy, common_split, pareto_front
from smidgen.report.grouping import Group, group_runs
from smidgen.report.run_folder import RunFolder
from smidgen.report.style import line_style


@pytest.fixture
def run(finished_folder: Path) -> RunFolder:
    return read_run(finished_folder)


def with_epochs(experiment: Experiment, epochs: int) -> Experiment:
    return dataclasses.replace(
        experiment, train=dataclasses.replace(experiment.train, epochs=epochs)
    )


def test_settings_that_differ_are_a_table(run: RunFolder, tiny: Experiment) -> None:
    renamed = dataclasses.replace(tiny, name="other", target="", analysis="text")
    deeper = dataclasses.replace(
        with_epochs(tiny, 5), model=dataclasses.replace(tiny.model, chain="8 G")
    )
    groups = [
        Group(experiment.name, [dataclasses.replace(run, experiment=experiment)])
        for experiment in (tiny, renamed, deeper)
    ]
    assert differing_settings(groups[:2]) is None
    found = differing_settings(groups)
    assert found is not None
    assert found.header == ("setting", "tiny", "other", "tiny")
    assert found.rows == [
        ("model.chain", "6,s2 8,s2,o0.1 G", "6,s2 8,s2,o0.1 G", "8 G"),
        ("train.epochs", "2", "2", "5"),
    ]


def test_the_header_has_the_verdict_and_the_best_runs(run: RunFolder, tmp_path: Path) -> None:
    record = run.record
    assert record is not None
    good, better = with_result(run, 0, 0.80), with_result(run, 1, 0.84)
    missed = dataclasses.replace(record.verdict.limits[-1], passed=False)
    bad = dataclasses.replace(record, seed=2, verdict=Verdict(limits=(missed,)))
    runs = [good, better, dataclasses.replace(run, record=bad, folder=tmp_path / "bad")]
    best, *inside = tiles(runs)
    assert best == ("best test accuracy", "84.00 %", better.title, "")
    assert [(name, value) for name, value, _, _ in inside] == [
        ("fewest parameters inside the budget", f"{record.profile.num_params:,}"),
        ("shortest training inside the budget", seconds(run.times.train_seconds)),  # type: ignore[union-attr]
    ]
    text = write_comparison(runs, tmp_path).read_text()
    assert '<p class="verdict fail"><strong>2 of 3 are inside their budget.</strong></p>' in text
    assert '<td class="fail">2 of 3 pass</td>' in text
    assert '<a href="#runs">Runs</a>' in text
    text = write_comparison(runs[:2], tmp_path).read_text()
    assert '<p class="verdict pass"><strong>2 of 2 are inside their budget.</strong></p>' in text


def test_each_run_has_a_row(run: RunFolder, tiny: Experiment) -> None:
    unfinished = dataclasses.replace(run, record=None, experiment=with_epochs(tiny, 9))
    first, second = run_rows(group_runs([run, unfinished]))
    assert run.record is not None
    assert first[0] == f"tiny, train.epochs 2, {run.folder.name}"
    assert first[1:4] == ("3", "digits", f"{run.record.profile.num_params:,}")
    assert first[-1] == "pass"
    assert second[1:4] == ("-", "digits", "-")
    assert second[-1] == "not finished"


def with_result(run: RunFolder, seed: int, accuracy: float) -> RunFolder:
    assert run.record is not None
    score = dataclasses.replace(run.record.test.score, accuracy=accuracy)
    test = dataclasses.replace(run.record.test, score=score)
    return dataclasses.replace(run, record=dataclasses.replace(run.record, seed=seed, test=test))


def test_runs_of_one_experiment_are_one_row(run: RunFolder, tiny: Experiment) -> None:
    seeds = [with_result(run, seed, accuracy) for seed, accuracy in enumerate((0.80, 0.84, 0.88))]
    longer = dataclasses.replace(run, experiment=with_epochs(tiny, 5))
    unfinished = dataclasses.replace(run, record=None)
    groups = group_runs([seeds[0], longer, *seeds[1:], unfinished])
    first, second = group_rows(groups)
    assert first[:2] == ("tiny, train.epochs 2", "4")
    assert first[4:7] == ("84.00 ± 4.00 %", "80.00 %", "88.00 %")
    assert first[-1] == "3 of 4 pass"  # one is not finished
    assert second[:2] == ("tiny, train.epochs 5", "1")
    assert "±" not in second[4]
    renamed = dataclasses.replace(longer, experiment=dataclasses.replace(tiny, name="other"))
    assert [group.name for group in group_runs([run, renamed])] == ["tiny", "other"]


def test_curves_of_one_kind_are_compared(run: RunFolder, tmp_path: Path) -> None:
    assert run.epochs[0].validation is not None
    assert common_split([run, run]) == "validation"
    epochs = tuple(dataclasses.replace(e, validation=None) for e in run.epochs)
    unvalidated = dataclasses.replace(run, epochs=epochs)
    assert common_split([run, unvalidated]) == "training"
    other = dataclasses.replace(
        unvalidated, experiment=dataclasses.replace(run.experiment, name="other")
    )
    lines = _accuracy(group_runs([run, other])).axes[0].lines
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in lines}
    assert drawn["tiny"] == drawn["other"] == [100 * e.train.accuracy for e in run.epochs]
    (faint,) = (line for line in lines if line.get_alpha() == 0.5)
    assert faint.get_linestyle() == "--"
    validation = [100 * e.validation.accuracy for e in run.epochs if e.validation]
    assert np.asarray(faint.get_ydata()).tolist() == validation
    page = write_comparison([run, other], tmp_path).read_text()
    assert "Training accuracy by epoch" in page
    assert "faint and dashed, validation accuracy of the runs that have it" in page


def test_pointing_at_a_curve_shows_its_values(run: RunFolder, tmp_path: Path) -> None:
    experiment = dataclasses.replace(run.experiment, name="a & $b$")
    page = write_comparison([run, dataclasses.replace(run, experiment=experiment)], tmp_path)
    titles = [
        html.unescape(title) for title in re.findall("<title>(.*?)</title>", page.read_text())
    ]
    accuracy = 100 * run.epochs[-1].validation.accuracy  # type: ignore[union-attr]
    for name in ("tiny", experiment.name):
        assert any(
            title.startswith(f"{name}: ") and title.endswith(f"epoch 2: {accuracy:.4g}")
            for title in titles
        )
    assert any(" parameters, " in title for title in titles)


def test_runs_link_to_their_pages(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "seed 0"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("page")
    without = dataclasses.replace(run, folder=tmp_path / "runs" / "none")
    page = write_comparison([dataclasses.replace(run, folder=folder), without], tmp_path / "out")
    assert re.findall(r'<a href="([^#].*?)">(.*?)</a>', page.read_text()) == [
        ("../runs/seed%200/report.html", "tiny, seed 0")
    ]


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_pareto_front_is_what_nothing_beats(points: list[tuple[int, float]]) -> None:
    front = [points[i] for i in pareto_front(points)]
    for params, accuracy in points:
        beaten = any(
            p <= params and a >= accuracy and (p, a) != (params, accuracy) for p, a in points
        )
        assert ((params, accuracy) in front) == (not beaten)


class Page(HTMLParser):
    """Collects what a page loads and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.labels: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (
                tag != "a"
                and name in ("src", "href", "xlink:href")
                and value
                and not value.startswith("#")
            ):
                self.loads.append(value)
            if tag == "svg" and name == "aria-label" and value:
                self.labels.append(value)
            if name == "id" and value:
                self.ids.append(value)


def test_the_page_needs_nothing_else(run: RunFolder, tmp_path: Path) -> None:
    page = write_comparison([run, run], tmp_path)
    text = page.read_text()
    parsed = Page()
    parsed.feed(text)
    assert all(load.startswith("data:") for load in parsed.loads)
    assert "url(http" not in text
    assert len(parsed.labels) == 3
    assert len(parsed.ids) == len(set(parsed.ids))
    markdown = (tmp_path / "report.md").read_text()
    for name in re.findall(r"\((figures/.*?)\)", markdown):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_same_records_give_the_same_bytes(run: RunFolder, tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pages.append(write_comparison([run, run], tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_no_two_of_many_curves_look_alike() -> None:
    assert len({tuple(sorted(line_style(number).items())) for number in range(36)}) == 36
    pairs = {(line_style(number)["color"], line_style(number)["marker"]) for number in range(36)}
    assert len(pairs) == 36


def test_the_accuracy_axis_shows_where_every_run_ends(run: RunFolder) -> None:
    guessing = Score(loss=2.3, accuracy=0.1)
    epochs = tuple(dataclasses.replace(e, train=guessing, validation=guessing) for e in run.epochs)
    other = dataclasses.replace(run.experiment, name="other")
    guess = dataclasses.replace(run, epochs=epochs, experiment=other)
    axes = _accuracy(group_runs([run, guess])).axes[0]
    assert axes.get_ylim()[0] < 10


def test_many_experiments_are_named_by_numbers_and_their_target_once(
    run: RunFolder, tmp_path: Path
) -> None:
    named = [dataclasses.replace(run.experiment, name=f"net {number}") for number in range(20)]
    runs = [dataclasses.replace(run, experiment=experiment) for experiment in named]
    text = write_comparison([*runs, runs[0]], tmp_path).read_text()
    assert "21 runs of 20 experiments" in text
    assert "20. net 19" in text
    assert text.count(run.experiment.target) == 1
    figure = _accuracy(group_runs(runs))
    figure.draw_without_rendering()  # lays it out
    (axes,) = figure.axes
    assert axes.get_legend_handles_labels()[1][:20] == [str(n) for n in range(1, 21)]
    assert axes.get_position().height * figure.get_figheight() > 2  # inches


def test_a_run_without_limits_passes_nothing(run: RunFolder) -> None:
    assert run.record is not None
    free = dataclasses.replace(run.record, verdict=Verdict(limits=()))
    experiment = dataclasses.replace(run.experiment, budget=Budget())
    unlimited = dataclasses.replace(run, record=free, experiment=experiment)
    assert run_rows(group_runs([unlimited]))[0][-1] == "no limits to judge"
