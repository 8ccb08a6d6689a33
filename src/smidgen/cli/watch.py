"""Who watches a run: the terminal, and a live page and sinks where they are asked for."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from smidgen.callbacks import Listener, together
from smidgen.cli.display import Display
from smidgen.config import Experiment
from smidgen.report.live import LivePage
from smidgen.training import Progress
from smidgen.training.tracking import tracked


@dataclass(slots=True)
class Watch:
    """The listener of a run, and in the end its result in words."""

    listener: Listener
    result: str = "The run was interrupted, or stopped by an error."


@contextmanager
def watching(experiment: Experiment, which: str, given: argparse.Namespace) -> Iterator[Watch]:
    """What --quiet, --live and --track ask for, for as long as the context lasts.

    `which` run of `experiment` it is stands in the live page's title.

    Raises:
        ConfigError: a sink's package is not installed.
    """
    watch = Watch(Listener())
    with ExitStack() as stack:
        listeners = stack.enter_context(tracked(given.track))
        page = LivePage() if given.live else None
        if page is not None:
            page.describe(
                f"{experiment.name}, {which}",
                experiment.budget.min_accuracy,
                experiment.train.epochs,
            )
            stack.callback(lambda: page.close(watch.result))
            print(f"live: {page.start()}", flush=True)
            listeners.append(_listener(page))
        display = Display(experiment.train.epochs, quiet=given.quiet)
        listeners.append(stack.enter_context(display.live()))
        watch.listener = together(*listeners)
        yield watch


def _listener(page: LivePage) -> Listener:
    def batch(step: Progress) -> None:
        page.progress(
            step.epoch,
            step.batch,
            step.num_batches,
            step.running.loss,
            step.running.accuracy,
            step.images_per_second,
        )

    return Listener(past=page.note, batch=batch, epoch=page.note)
