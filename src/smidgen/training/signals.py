"""Signals that are to stop a run between two steps, not within one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def noted_signals() -> Iterator[Callable[[], int | None]]:
    """While the context lasts, the first Ctrl-C or SIGTERM is noted: a call gives its number.

    A second one does what it did before. Outside of the main thread, which alone gets signals,
    nothing changes.
    """
    noted: list[int] = []
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        restore()

    if threading.current_thread() is threading.main_thread():
        before.update({number: signal.signal(number, note) for number in SIGNALS})
    try:
        yield lambda: noted[0] if noted else None
    finally:
        restore()
