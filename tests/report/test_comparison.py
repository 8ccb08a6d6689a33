import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.budget import Budget, Verdict
from smidgen.config import Experiment
from smidgen.record import Score
from smidgen.report import read_run, write_comparison
from smidgen.report.comparison import _accuracy, changes, comparison_rows, pareto_front
from smidgen.report.run_folder import RunFolder
from smidgen.report.style import line_style


@pytest.fixture
def run(finished_folder: Path) -> RunFolder:
    return read_run(finished_folder)


def with_epochs(experiment: Experiment, epochs: int) -> Experiment:
    return dataclasses.replace(
        experiment, train=dataclasses.replace(experiment.train, epochs=epochs)
    )


def test_changes_are_listed_by_field(tiny: Experiment) -> None:
    renamed = dataclasses.replace(tiny, name="other", target="", analysis="text")
    assert changes(tiny, renamed) == []
    deeper = dataclasses.replace(
        with_epochs(tiny, 5), model=dataclasses.replace(tiny.model, chain="8 G")
    )
    assert changes(tiny, deeper) == [
        "model.chain 6,s2 8,s2,o0.1 G → 8 G",
        "train.epochs 2 → 5",
    ]


def test_each_run_has_a_row(run: RunFolder, tiny: Experiment) -> None:
    unfinished = dataclasses.replace(run, record=None, experiment=with_epochs(tiny, 9))
    first, second, third = comparison_rows([run, run, unfinished])
    assert run.record is not None
    assert first[1] == f"{run.record.profile.num_params:,}"
    assert first[-2:] == ("pass", "")
    assert second[-1] == "nothing"
    other = dataclasses.replace(run, record=dataclasses.replace(run.record, seed=4))
    assert comparison_rows([run, other])[1][-1] == "the seed"
    assert third[1] == third[3] == "-"
    assert third[-2:] == ("not finished", "train.epochs 2 → 9")


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
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
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
    axes = _accuracy([run, dataclasses.replace(run, epochs=epochs)]).axes[0]
    assert axes.get_ylim()[0] < 10


def test_many_runs_are_named_by_numbers_and_their_target_once(
    run: RunFolder, tmp_path: Path
) -> None:
    text = write_comparison([run] * 20, tmp_path).read_text()
    assert "20. tiny, seed-3" in text
    assert text.count(run.experiment.target) == 1
    assert text.count("<h2>") == 1  # no analysis was written, and nothing is missing
    figure = _accuracy([run] * 20)
    figure.draw_without_rendering()  # lays it out
    (axes,) = figure.axes
    assert axes.get_legend_handles_labels()[1][:20] == [str(n) for n in range(1, 21)]
    assert axes.get_position().height > 0.5


def test_a_run_without_limits_passes_nothing(run: RunFolder) -> None:
    assert run.record is not None
    free = dataclasses.replace(run.record, verdict=Verdict(limits=()))
    experiment = dataclasses.replace(run.experiment, budget=Budget())
    unlimited = dataclasses.replace(run, record=free, experiment=experiment)
    assert comparison_rows([unlimited])[0][-2] == "no limits to judge"
