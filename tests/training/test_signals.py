import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from smidgen.training.signals import SIGNALS, noted_signals


class Stopped(BaseException):
    """Raised by the handlers that were set before."""


@pytest.fixture(autouse=True)
def before() -> Iterator[None]:
    """Set a handler that raises for both signals, as the command does."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    old = {number: signal.signal(number, stop) for number in SIGNALS}
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_has_its_usual_effect(number: int) -> None:
    old = handlers()
    with noted_signals() as stopped:
        assert stopped() is None
        os.kill(os.getpid(), number)
        assert stopped() == number
        with pytest.raises(Stopped):
            os.kill(os.getpid(), number)
        assert stopped() == number
    assert handlers() == old


def test_after_one_signal_the_other_has_its_usual_effect(before: None) -> None:
    with noted_signals() as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)
        assert stopped() == signal.SIGTERM


def test_afterwards_handlers_are_restored() -> None:
    old = handlers()

    def fail() -> None:
        with noted_signals():
            assert handlers() != old
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert handlers() == old
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)


def test_one_within_another_gives_way_to_it() -> None:
    with noted_signals() as outer, noted_signals() as inner:
        os.kill(os.getpid(), signal.SIGINT)
        assert (inner(), outer()) == (signal.SIGINT, None)
        os.kill(os.getpid(), signal.SIGINT)
        assert outer() == signal.SIGINT


def test_outside_of_the_main_thread_nothing_changes() -> None:
    old, seen = handlers(), []

    def work() -> None:
        with noted_signals() as stopped:
            seen.append((handlers(), stopped()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(old, None)]
