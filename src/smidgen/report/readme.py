"""Marked sections of somebody's README, filled from records.

    <!-- smidgen results runs/*/seed-* -->
    whatever stands here is replaced
    <!-- smidgen end -->

`results PATTERN...` is a table with a row for each experiment, its seeds together; `layers RUN` the
layer table of one run, `verdict RUN` its budget against its figures. Patterns are globs of run
folders, or of their run.json files, relative to the README; one that matches nothing is an error
unless `if-any` comes first: `results if-any runs/*/seed-*` says that there are no runs yet. Marks
inside code blocks, fenced or indented, are text.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from smidgen._storage.files import read_text, write_atomic
from smidgen.errors import ConfigError, RecordError
from smidgen.formatting import capitalized, markdown_table, percent, seconds
from smidgen.record import RECORD, RunRecord, Times, read_record, read_times
from smidgen.record.profile import layer_table, totals
from smidgen.report.observations import result_sentence

_MARK = re.compile(r" {0,3}<!--\s*smidgen\s+(?P<words>.*?)\s*-->")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_IF_ANY = "if-any"
NO_RUNS = "No runs yet."


@dataclass(frozen=True, slots=True)
class _Run:
    folder: Path
    record: RunRecord
    times: Times | None


def update(path: Path) -> bool:
    """Fill the marked sections of the README at `path`; whether that changed it.

    A file that is up to date is not written.

    Raises:
        ConfigError: it cannot be read, or a mark makes no sense; names file and line.
        RecordError: a record is missing or damaged; names file, line and record.
    """
    old = read_text(path)
    new = _filled(path, old)
    if new != old:
        write_atomic(path.resolve(), new)
    return new != old


def is_stale(path: Path) -> bool:
    """Whether `update` would change the README at `path`; raises as it does."""
    old = read_text(path)
    return _filled(path, old) != old


def _filled(path: Path, text: str) -> str:
    """The text with every section as its records say, in the text's own line ends."""
    ending = "\r" if "\r\n" in text else ""
    lines: list[str] = []
    begun: tuple[int, str] | None = None
    for number, line, words in _lines(text):
        where = f"{path}, line {number}"
        if words is None:
            if begun is None:
                lines.append(line)
        elif words == "end":
            if begun is None:
                raise ConfigError(f"{where}: 'smidgen end' ends no section; none is open here.")
            content = _section(path, *begun)
            lines += [entry + ending for entry in ("", *content.split("\n"), "")]
            lines.append(line)
            begun = None
        elif begun is None:
            begun = (number, words)
            lines.append(line)
        else:
            raise ConfigError(
                f"{where}: a section begins inside the one of line {begun[0]}; end that one first "
                "with <!-- smidgen end -->."
            )
    if begun is not None:
        raise ConfigError(
            f"{path}, line {begun[0]}: the section has no end; write <!-- smidgen end --> below it."
        )
    return "\n".join(lines)


def _lines(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Each line with its number, and the words of its mark if it is one outside a code block."""
    fence = None
    for number, line in enumerate(text.split("\n"), start=1):
        mark = _MARK.fullmatch(line.rstrip())
        if found := _FENCE.match(line):
            fence = found[1] if fence is None else None if fence == found[1] else fence
        yield number, line, mark["words"] if mark and fence is None else None


def _section(path: Path, number: int, words: str) -> str:
    """What belongs between the marks of a section."""
    where = f"{path}, line {number}"
    try:
        kind, *patterns = shlex.split(words)
    except ValueError as error:
        raise ConfigError(f"{where}: {words!r} is not understood: {error}.") from None
    if kind not in _KINDS:
        raise ConfigError(f"{where}: unknown section {kind!r}; known are {', '.join(_KINDS)}.")
    if_any = patterns[:1] == [_IF_ANY]
    patterns = patterns[if_any:]
    if not patterns:
        raise ConfigError(f"{where}: {kind} needs the folder of a run, or a pattern of folders.")
    runs = _find(path, where, patterns, if_any)
    return _KINDS[kind](where, runs) if runs else NO_RUNS


def _find(path: Path, where: str, patterns: Sequence[str], if_any: bool) -> list[_Run]:
    """The runs that the patterns match, each once, by name of experiment and seed."""
    folders: dict[Path, None] = {}
    for pattern in patterns:
        try:
            if pattern.count("**") > 1:  # each more is a search in each folder of the one before
                raise ValueError
            matches = sorted(path.parent.glob(pattern))
        except (ValueError, NotImplementedError):
            raise ConfigError(
                f"{where}: {pattern!r} is no pattern of run folders; one relative to {path.name} "
                "is, such as runs/*/seed-0."
            ) from None
        if not matches and not if_any:
            raise ConfigError(
                f"{where}: nothing matches {pattern!r} beside {path.name}; correct it, or write "
                f"{_IF_ANY} before it if the runs may be missing."
            )
        folders |= dict.fromkeys(m.parent if m.name == RECORD else m for m in matches)
    try:
        runs = [_Run(folder, read_record(folder), read_times(folder)) for folder in folders]
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from None
    return sorted(runs, key=lambda run: (run.record.experiment.name, run.record.seed))


def _results(where: str, runs: Sequence[_Run]) -> str:
    """A row for each experiment; where one has several seeds, their mean and spread."""
    groups = _by_experiment(where, runs)
    several = any(len(group) > 1 for group in groups)
    rows = []
    for runs_of_one in groups:
        group = [run.record for run in runs_of_one]
        taken = [run.times.train_seconds for run in runs_of_one if run.times]
        accuracies = [record.test.score.accuracy for record in group]
        spread = f" ± {100 * stdev(accuracies):.2f}" if len(group) > 1 else ""
        among = (str(len(group)), percent(min(accuracies)), percent(max(accuracies)))
        rows.append(
            (
                group[0].experiment.name,
                f"{group[0].profile.num_params:,}",
                str(len(group[0].epochs)),
                f"{100 * fmean(accuracies):.2f}{spread} %",
                *(among if several else ()),
                seconds(fmean(taken)) if len(taken) == len(group) else "-",
                _verdicts(group),
            )
        )
    spreads = ("seeds", "lowest", "highest") if several else ()
    header = (
        "experiment",
        "parameters",
        "epochs",
        "test accuracy",
        *spreads,
        "training",
        "verdict",
    )
    table = markdown_table(header, rows)
    if not several:
        return table
    return (
        f"{table}\n\nTest accuracy after the last epoch, over the seeds: mean ± standard "
        "deviation; training: the mean."
    )


def _by_experiment(where: str, runs: Sequence[_Run]) -> list[list[_Run]]:
    """The runs with one experiment and network together; words about it make no difference."""
    groups: list[tuple[object, dict[int, _Run]]] = []
    for run in runs:
        key = (run.record.experiment.without_texts(), run.record.profile.num_params)
        group = next((group for known, group in groups if known == key), None)
        if group is None:
            groups.append((key, group := {}))
        if (other := group.get(run.record.seed)) is not None:
            raise ConfigError(
                f"{where}: {other.folder} and {run.folder} are one experiment with one seed, "
                f"{run.record.seed}, which would count twice; name one of them."
            )
        group[run.record.seed] = run
    return [list(group.values()) for _, group in groups]


def _verdicts(records: Sequence[RunRecord]) -> str:
    passed = sum(record.verdict.passed for record in records)
    if passed < len(records) > 1:
        return f"{passed} of {len(records)} inside"
    return records[0].verdict.status


def _layers(where: str, runs: Sequence[_Run]) -> str:
    profile = _only(where, runs).record.profile
    return f"```\n{layer_table(profile)}\n\n{totals(profile)}\n```"


def _verdict(where: str, runs: Sequence[_Run]) -> str:
    run = _only(where, runs)
    record = run.record
    text = f"**{capitalized(record.verdict.status)}.** {result_sentence(record, run.times)}"
    if not record.verdict.limits:
        return text
    return f"{text}\n\n{markdown_table(record.verdict.HEADER, record.verdict.rows)}"


def _only(where: str, runs: Sequence[_Run]) -> _Run:
    if len(runs) > 1:
        names = ", ".join(str(run.folder) for run in runs[:3])
        raise ConfigError(f"{where}: this section is about one run, not {len(runs)} ({names}).")
    return runs[0]


_KINDS: dict[str, Callable[[str, Sequence[_Run]], str]] = {
    "results": _results,
    "layers": _layers,
    "verdict": _verdict,
}
