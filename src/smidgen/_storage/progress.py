"""Progress bars on the terminal, the same for downloads and for decoding images."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FEW = 100


@contextmanager
def progress_bar(
    title: str, total: int, *, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr, if that is a terminal; yield a function that sets how much is done.

    A few items are done before one could read a bar, so they get none.

    With `in_bytes`, `total` is a number of bytes, and the bar shows kB, MB and a transfer speed.
    """
    from rich.console import Console  # imported late: it takes a tenth of a second
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
    console, hidden = Console(stderr=True), total < _FEW or not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=hidden) as progress:
        task = progress.add_task(title, total=total)
        yield lambda completed: progress.update(task, completed=completed)
