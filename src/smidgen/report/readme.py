"""Marked sections of a README, filled from records.

    <!-- smidgen results runs/*/seed-* -->
    everything here is replaced
    <!-- smidgen end -->

`results PATTERN...` is a table with a row for each experiment, its seeds together, and links to the
report.md of runs that have one; `layers RUN` the layer table of one run, `verdict RUN` its result
and verdict. Patterns are globs of run folders, or of their run.json files, relative to the README.
One that matches nothing is an error, unless `if-any` comes first: `results if-any runs/*/seed-*`
says that there are no runs yet. Marks in code blocks, fenced or indented, are ignored.
"""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

from smidgen._storage.files import read_text, write_atomic
from smidgen.errors import ConfigError, RecordError
from smidgen.formatting import capitalized, markdown_table, percent, seconds
from smidgen.record import MARKDOWN_PAGE, RECORD, RunRecord, Times, read_record, read_times
from smidgen.record.profile import layer_table, totals
from smidgen.report.grouping import distinct_names, group_key, mean_accuracy
from smidgen.report.observations import result_sentence

_MARK = re.compile(r" {0,3}<!--\s*smidgen\s+(?P<words>.*?)\s*-->")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_END = "end"
_IF_ANY = "if-any"
_NO_RUNS = "No runs yet."


@dataclass(frozen=True, slots=True)
class _Run:
    folder: Path
    record: RunRecord
    times: Times | None
    page: str | None
    """The link from the README to its report.md; None if it has none."""

    def linked(self, text: str) -> str:
        """The text as a link to the page, if there is one."""
        return f"[{text}]({self.page})" if self.page else text


def update(path: Path) -> bool:
    """Fill the marked sections of the README at `path`; return whether that changed it.

    A file that is up to date is not written.

    Raises:
        ConfigError: the file cannot be read, or a mark is invalid; names file and line.
        RecordError: a record is missing or damaged; names file, line and record.
    """
    old = read_text(path)
    new = _fill(path, old)
    if new != old:
        write_atomic(path.resolve(), new)
    return new != old


def is_stale(path: Path) -> bool:
    """Whether `update` would change the README at `path`; raises the same errors."""
    old = read_text(path)
    return _fill(path, old) != old


def _fill(path: Path, text: str) -> str:
    """The text with every section filled, in the text's own line ends."""
    line_end = "\r" if "\r\n" in text else ""
    lines = text.split("\n")
    filled: list[str] = []
    copied = 0
    for begin, end, words in _sections(path, lines):
        try:
            content = _section(path, words)
        except (ConfigError, RecordError) as error:
            raise type(error)(f"{path}, line {begin + 1}: {error}") from None
        filled += lines[copied : begin + 1]
        filled += [line + line_end for line in ("", *content.split("\n"), "")]
        copied = end
    return "\n".join([*filled, *lines[copied:]])


def _sections(path: Path, lines: Sequence[str]) -> list[tuple[int, int, str]]:
    """The indices of the two marks of each section, and the words of the first."""
    sections = []
    begun: tuple[int, str] | None = None
    for index, words in _marks(lines):
        place = f"{path}, line {index + 1}"
        if begun is None and words == _END:
            raise ConfigError(f"{place}: 'smidgen end' has no section to end.")
        if begun is None:
            begun = (index, words)
        elif words == _END:
            sections.append((begun[0], index, begun[1]))
            begun = None
        else:
            raise ConfigError(
                f"{place}: a section begins inside the one of line {begun[0] + 1}; end that one "
                "first with <!-- smidgen end -->."
            )
    if begun is not None:
        raise ConfigError(
            f"{path}, line {begun[0] + 1}: the section has no end; add <!-- smidgen end --> below."
        )
    return sections


def _marks(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The index of each line that is a mark outside a code block, and the mark's words."""
    fence = None
    for index, line in enumerate(lines):
        if found := _FENCE.match(line):
            fence = found[1] if fence is None else None if fence == found[1] else fence
        elif fence is None and (mark := _MARK.fullmatch(line.rstrip())):
            yield index, mark["words"]


def _section(path: Path, words: str) -> str:
    """The content of a section."""
    try:
        kind, *patterns = shlex.split(words)
    except ValueError as error:
        raise ConfigError(f"{words!r} cannot be read: {error}.") from None
    if kind not in _KINDS:
        raise ConfigError(f"unknown section {kind!r}; known are {', '.join(_KINDS)}.")
    if_any = patterns[:1] == [_IF_ANY]
    patterns = patterns[if_any:]
    if not patterns:
        raise ConfigError(f"{kind} needs the folder of a run, or a pattern of folders.")
    runs = _find_runs(path, patterns, if_any)
    return _KINDS[kind](runs) if runs else _NO_RUNS


def _find_runs(path: Path, patterns: Sequence[str], if_any: bool) -> list[_Run]:
    """The runs that match, each once, sorted by experiment and seed."""
    folders: dict[Path, None] = {}
    for pattern in patterns:
        try:
            if pattern.count("**") > 1:  # each more is a search in each folder of the one before
                raise ValueError
            matches = sorted(path.parent.glob(pattern))
        except (ValueError, NotImplementedError):
            raise ConfigError(
                f"{pattern!r} is not a pattern of run folders relative to {path.name}, such as "
                "runs/*/seed-0."
            ) from None
        if not matches and not if_any:
            raise ConfigError(
                f"nothing matches {pattern!r} relative to {path.name}; correct it, or write "
                f"{_IF_ANY} before it if there may be no runs."
            )
        folders |= dict.fromkeys(m.parent if m.name == RECORD else m for m in matches)
    runs = [
        _Run(folder, read_record(folder), read_times(folder), _page_link(path, folder))
        for folder in folders
    ]
    return sorted(runs, key=lambda run: (run.record.experiment.name, run.record.seed))


def _page_link(path: Path, folder: Path) -> str | None:
    page = folder / MARKDOWN_PAGE
    return quote(Path(os.path.relpath(page, path.parent)).as_posix()) if page.exists() else None


def _results(runs: Sequence[_Run]) -> str:
    """A row for each experiment, with mean and spread over its seeds."""
    groups = _group_by_experiment(runs)
    several = any(len(group) > 1 for group in groups)
    spread = ("seeds", "lowest", "highest") if several else ()
    header = ("experiment", "parameters", "epochs", "test accuracy", *spread, "training", "verdict")
    names = distinct_names(
        [group[0].record.experiment for group in groups],
        [group[0].record.profile.num_params for group in groups],
    )
    cells = [_result_cells(*named, several) for named in zip(names, groups, strict=True)]
    table = markdown_table(header, cells)
    if not several:
        return table
    return (
        f"{table}\n\nTest accuracy after the last epoch, over the seeds: mean ± standard "
        "deviation; training: the mean."
    )


def _result_cells(name: str, runs: Sequence[_Run], several: bool) -> tuple[str, ...]:
    records = [run.record for run in runs]
    times = [run.times.train_seconds for run in runs if run.times and run.record.epochs]
    accuracies = [record.test.score.accuracy for record in records]
    has_pages = any(run.page for run in runs)
    seeds = " ".join(run.linked(str(run.record.seed)) for run in runs)
    spread = (
        f"{len(runs)}: {seeds}" if has_pages and len(runs) > 1 else str(len(runs)),
        percent(min(accuracies)),
        percent(max(accuracies)),
    )
    passed = sum(record.verdict.passed for record in records)
    verdict = records[0].verdict.status
    return (
        runs[0].linked(name) if len(runs) == 1 else name,
        f"{records[0].profile.num_params:,}",
        "-" if records[0].num_epochs is None else str(records[0].num_epochs),
        mean_accuracy(accuracies),
        *(spread if several else ()),
        seconds(fmean(times)) if len(times) == len(runs) else "-",
        f"{passed} of {len(runs)} inside" if passed < len(runs) > 1 else verdict,
    )


def _group_by_experiment(runs: Sequence[_Run]) -> list[list[_Run]]:
    """The runs of one experiment and network together; its texts make no difference."""
    groups: dict[tuple[str, int | None], dict[int, _Run]] = {}
    for run in runs:
        record = run.record
        group = groups.setdefault(group_key(record.experiment, record.profile.num_params), {})
        if (other := group.get(record.seed)) is not None:
            raise ConfigError(
                f"{other.folder} and {run.folder} are one experiment with one seed, {record.seed}, "
                "which would count twice; name one of them."
            )
        group[record.seed] = run
    return [list(group.values()) for group in groups.values()]


def _layers(runs: Sequence[_Run]) -> str:
    profile = _single(runs).record.profile
    return f"```\n{layer_table(profile)}\n\n{totals(profile)}\n```"


def _verdict(runs: Sequence[_Run]) -> str:
    run = _single(runs)
    verdict = run.record.verdict
    text = f"**{capitalized(verdict.status)}.** {result_sentence(run.record, run.times)}"
    return f"{text}\n\n{markdown_table(verdict.HEADER, verdict.rows)}" if verdict.limits else text


def _single(runs: Sequence[_Run]) -> _Run:
    if len(runs) > 1:
        names = ", ".join(str(run.folder) for run in runs[:3])
        raise ConfigError(f"this section is about one run, not {len(runs)} ({names}).")
    return runs[0]


_KINDS = {"results": _results, "layers": _layers, "verdict": _verdict}
