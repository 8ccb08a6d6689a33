"""A report over several runs: what changed from one to the next, and what it changed."""

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from smidgen.config import Experiment
from smidgen.formatting import percent, seconds
from smidgen.record import PAGE, RunRecord
from smidgen.report.comparison_plots import MOST_NAMED, comparison_plots
from smidgen.report.grouping import Group, fields_of, group_runs, mean_accuracy
from smidgen.report.observations import first_epoch_at
from smidgen.report.page import write_page
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
        "status": _status(ordered),
        "header": HEADER,
        "rows": comparison_rows(ordered),
        "links": [_link(run, out) for run in ordered],
        "group_header": GROUP_HEADER,
        "group_rows": group_rows(groups) if len(groups) < len(ordered) else [],
        "numbered": len(groups) > MOST_NAMED,
        "texts": _texts(groups),
        "plots": plots,
    }
    return write_page("comparison", context, plots, out)


def _title(groups: Sequence[Group]) -> str:
    count = sum(len(group.runs) for group in groups)
    experiments = "1 experiment" if len(groups) == 1 else f"{len(groups)} experiments"
    return f"{count} runs of {experiments}" if len(groups) < count else f"{count} runs"


def _status(runs: Runs) -> str:
    judged = [run.record.verdict for run in runs if run.record and run.record.verdict.limits]
    passed = sum(verdict.passed for verdict in judged)
    unfinished = sum(run.record is None for run in runs)
    return f"{passed} of {len(judged)} are inside their budget." + (
        f" {unfinished} did not finish." if unfinished else ""
    )


def _link(run: RunFolder, out: Path) -> str:
    """The address of the run's page, relative to `out`; empty if it has none."""
    page = run.folder.resolve() / PAGE
    if not page.is_file():
        return ""
    try:
        return quote(Path(os.path.relpath(page, out.resolve())).as_posix())
    except ValueError:  # on another drive
        return page.as_uri()


def comparison_rows(runs: Runs) -> list[tuple[str, ...]]:
    """A row of HEADER's cells for each run; what its folder does not tell is a dash."""
    rows: list[tuple[str, ...]] = []
    for run in runs:
        record = run.record
        first = first_epoch_at(run.epochs, run.experiment.budget.min_accuracy)
        data = run.experiment.data
        rows.append(
            (
                run.title,
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


def changes(before: Experiment, after: Experiment) -> list[str]:
    """The fields of budget, model, data and training that differ, each with both values.

    >>> from smidgen.config import Data, Model, Optimizer, Train
    >>> sgd = Optimizer(name="sgd", lr=0.1)
    >>> def experiment(epochs):
    ...     return Experiment(name="a", model=Model(chain="8 G"), data=Data(name="mnist"),
    ...                       train=Train(epochs=epochs, batch_size=128, optimizer=sgd))
    >>> changes(experiment(5), experiment(9))
    ['train.epochs 5 → 9']
    """
    old, new = fields_of(before), fields_of(after)
    return [
        f"{key} {old.get(key, 'none')} → {new.get(key, 'none')}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


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
    found["What changed from one experiment to the next"] = [
        (after.name, "; ".join(changed))
        for before, after in pairwise(groups)
        if (changed := changes(before.runs[0].experiment, after.runs[0].experiment))
    ]
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
