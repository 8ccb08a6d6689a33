"""A report over several runs: what changed from one to the next, and what it changed."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from smidgen.formatting import percent, seconds
from smidgen.record import PAGE, RunRecord
from smidgen.report.comparison_plots import MOST_NAMED, comparison_plots
from smidgen.report.grouping import Group, differing, fields_of, group_runs, mean_accuracy
from smidgen.report.observations import first_epoch_at
from smidgen.report.page import Table, Tile, write_page
from smidgen.report.run_folder import RunFolder, read_run

HEADER = (
    "run", "seed", "data", "parameters", "epochs", "test accuracy", "first at target", "training",
    "verdict",
)  # fmt: skip
GROUP_HEADER = (
    "experiment", "runs", "parameters", "epochs", "test accuracy", "lowest", "highest", "training",
    "verdict",
)  # fmt: skip

Runs = Sequence[RunFolder]


def write_comparison(runs: "Sequence[RunFolder | str | os.PathLike[str]]", out: Path) -> Path:
    """Write report.html, report.md and figures/ over all `runs` into the folder `out`.

    `runs` are the runs' folders, or what was read from them. Runs of one experiment are shown
    together. Returns the path of the HTML page.

    Raises:
        RecordError: a folder has no run, or a file of it is damaged.
        SmidgenError: a file cannot be written.
    """
    read = [run if isinstance(run, RunFolder) else read_run(Path(run)) for run in runs]
    groups = group_runs(read)
    ordered = [run for group in groups for run in group.runs]
    plots = comparison_plots(groups)
    context: dict[str, Any] = {
        "title": _title(groups),
        "verdict": _verdict_of_all(ordered),
        "tiles": tiles(ordered),
        "runs": Table(HEADER, run_rows(groups), text_columns=(2,)),
        "links": [_link(run, out) for run in ordered],
        "groups": Table(GROUP_HEADER, group_rows(groups)) if len(groups) < len(ordered) else None,
        "settings": differing_settings(groups),
        "numbered": len(groups) > MOST_NAMED,
        "texts": _texts(groups),
        "plots": plots,
    }
    return write_page("comparison", context, plots, out)


def _title(groups: Sequence[Group]) -> str:
    count = sum(len(group.runs) for group in groups)
    experiments = "1 experiment" if len(groups) == 1 else f"{len(groups)} experiments"
    return f"{count} runs of {experiments}" if len(groups) < count else f"{count} runs"


def _verdict_of_all(runs: Runs) -> tuple[str, str]:
    """How many runs pass, and the class that colors it: pass, fail or none."""
    judged = [run.record.verdict for run in runs if run.record and run.record.verdict.limits]
    passed = sum(verdict.passed for verdict in judged)
    unfinished = sum(run.record is None for run in runs)
    sentences = [f"{passed} of {len(judged)} are inside their budget."] if judged else []
    sentences += [f"{unfinished} did not finish."] if unfinished else []
    color = ("pass" if passed == len(judged) else "fail") if judged else ""
    return " ".join(sentences) or "No run has limits.", color


def tiles(runs: Runs) -> list[Tile]:
    """The best of the finished runs, each with the run that reached it."""
    finished = [(run, run.record) for run in runs if run.record]
    inside = [(run, record) for run, record in finished if record.verdict.passed]
    trained = [(run, run.times.train_seconds) for run, _ in inside if run.times and run.epochs]
    found: list[Tile] = []
    if finished:
        run, record = max(finished, key=lambda pair: pair[1].test.score.accuracy)
        found.append(("best test accuracy", percent(record.test.score.accuracy), run.title, ""))
    if inside:
        run, record = min(inside, key=lambda pair: pair[1].profile.num_params)
        params = f"{record.profile.num_params:,}"
        found.append(("fewest parameters inside the budget", params, run.title, ""))
    if trained:
        run, taken = min(trained, key=lambda pair: pair[1])
        found.append(("shortest training inside the budget", seconds(taken), run.title, ""))
    return found


def _link(run: RunFolder, out: Path) -> str:
    """The address of the run's page, relative to `out`; empty if it has none."""
    page = run.folder.resolve() / PAGE
    if not page.is_file():
        return ""
    try:
        return quote(Path(os.path.relpath(page, out.resolve())).as_posix())
    except ValueError:  # on another drive
        return page.as_uri()


def run_rows(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """A row of HEADER's cells for each run; what its folder does not tell is a dash."""
    rows: list[tuple[str, ...]] = []
    for name, run in ((group.name, run) for group in groups for run in group.runs):
        record = run.record
        first = first_epoch_at(run.epochs, run.experiment.budget.min_accuracy)
        data = run.experiment.data
        rows.append(
            (
                f"{name}, {run.folder.resolve().name}",
                str(record.seed) if record else "-",
                record.data.name if record else data.name or data.path or "-",
                f"{record.profile.num_params:,}" if record else "-",
                "-" if record and not run.epochs else str(len(run.epochs)),
                percent(record.test.score.accuracy) if record else "-",
                str(first) if first else "-",
                seconds(run.times.train_seconds) if run.times else "-",
                _verdict(record) if record else "not finished",
            )
        )
    return rows


def group_rows(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """A row of GROUP_HEADER's cells for each experiment, with mean and SD of its finished runs."""
    rows: list[tuple[str, ...]] = []
    for number, group in enumerate(groups):
        records = [run.record for run in group.runs if run.record]
        accuracies = [record.test.score.accuracy for record in records]
        taken = [run.times.train_seconds for run in group.runs if run.times]
        passed = sum(record.verdict.passed for record in records)
        one = len({_verdict(record) for record in records}) == 1 and len(records) == len(group.runs)
        rows.append(
            (
                group.name if len(groups) <= MOST_NAMED else f"{number + 1}. {group.name}",
                str(len(group.runs)),
                f"{records[0].profile.num_params:,}" if records else "-",
                str(max(len(run.epochs) for run in group.runs)),
                mean_accuracy(accuracies) if records else "-",
                percent(min(accuracies)) if records else "-",
                percent(max(accuracies)) if records else "-",
                seconds(fmean(taken)) if taken else "-",
                _verdict(records[0]) if one else f"{passed} of {len(group.runs)} pass",
            )
        )
    return rows


def _verdict(record: RunRecord) -> str:
    if not record.verdict.limits:
        return record.verdict.status
    return "pass" if record.verdict.passed else "FAIL"


def differing_settings(groups: Sequence[Group]) -> Table | None:
    """The fields in which the experiments differ, a row each; None if there are none."""
    settings = [fields_of(group.runs[0].experiment) for group in groups]
    rows = [
        (key, *(str(fields.get(key, "-")) for fields in settings)) for key in differing(settings)
    ]
    header = ("setting", *(group.name for group in groups))
    return Table(header, rows, text_columns=range(1, len(header))) if rows else None


Text = tuple[str, str]
"""Whose text it is, and the text."""


def _texts(groups: Sequence[Group]) -> list[tuple[str, list[Text]]]:
    """Headings, and below each what was written about the runs or is missing, each text once."""
    headings: dict[str, Callable[[RunFolder], str]] = {
        "Target": lambda run: run.experiment.target,
        "Analysis": lambda run: run.experiment.analysis,
        "What is missing": lambda run: " ".join(run.missing),
    }
    found = {heading: _grouped(groups, text) for heading, text in headings.items()}
    return [(heading, texts) for heading, texts in found.items() if texts]


def _grouped(groups: Sequence[Group], text_of: Callable[[RunFolder], str]) -> list[Text]:
    """Each text once, with the experiments or the runs that have it."""
    runs = [run for group in groups for run in group.runs]
    found = []
    for text in filter(None, dict.fromkeys(map(text_of, runs))):
        whose: list[str] = []
        for group in groups:
            those = [run for run in group.runs if text_of(run) == text]
            whose += [group.name] if those == group.runs else [run.title for run in those]
        more = f" and {len(whose) - 4} more" if len(whose) > 4 else ""
        everyone = all(text_of(run) == text for run in runs)
        found.append(("all runs" if everyone else "; ".join(whose[:4]) + more, text))
    return found
