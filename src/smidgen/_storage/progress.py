"""What is being done, on the terminal: a line with a spinner, or a progress bar."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_FEW = 100


@functools.cache
def terminal() -> "Console":
    """Stderr; one console for all, so that a bar within a status goes below it."""
    from rich.console import Console  # imported late: it takes a tenth of a second

    return Console(stderr=True)


def spinner(text: str) -> "Live":
    """A line with a spinner on stderr, to be started and stopped; nothing else may print meanwhile.

    Unlike rich's own status line, it leaves stdout where it is, which may be a file.
    """
    from rich.live import Live
    from rich.spinner import Spinner

    return Live(
        Spinner("dots", text),
        console=terminal(),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show `text` with a spinner on stderr while this lasts, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with spinner(text):
        yield


@contextmanager
def progress_bar(
    title: str, total: int, *, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr, if that is a terminal; yield a function that sets how much is done.

    A few items are done before one could read a bar, so they get none.

    With `in_bytes`, `total` is a number of bytes, and the bar shows kB, MB and a transfer speed.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts = [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn()]
    hidden = total < _FEW or not sys.stderr.isatty()
    with Progress(*columns, console=terminal(), disable=hidden) as progress:
        task = progress.add_task(title, total=total)
        yield lambda completed: progress.update(task, completed=completed)
