"""What a person sees while a network trains: a live bar and an aligned line for each epoch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from smidgen.callbacks import Listener
from smidgen.data import Dataset
from smidgen.formatting import percent
from smidgen.record import Epoch, Profile, Score
from smidgen.training import Progress as Step

_HEADER = (
    " epoch  training:  loss  accuracy  validation:  loss  accuracy     learning rate        s"
)


class Display:
    """The lines of one run; on a terminal, with a bar below them. Silent when `quiet`."""

    def __init__(self, num_epochs: int, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, highlight=False, markup=False, soft_wrap=True)
        self.num_epochs = num_epochs
        self.best = 0.0
        self._bar: Progress | None = None
        self._past: list[tuple[Epoch, float]] = []

    @contextmanager
    def live(self) -> Iterator[Listener]:
        """The listener that shows a run, with the bar for as long as the context lasts."""
        listener = Listener(
            ready=self._show_start,
            note=self._show_note,
            past=self._remember,
            batch=self._show_batch,
            epoch=self._show_epoch,
        )
        if not self.console.is_terminal or self.console.quiet:
            yield listener
            return
        columns = (BarColumn(20), TextColumn("{task.description}"), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as self._bar:
            self._task = self._bar.add_task("", total=None)
            yield listener
        self._bar = None

    def _show_start(self, dataset: Dataset, profile: Profile, folder: Path) -> None:
        validation = len(dataset.validation) if dataset.validation else 0
        self.console.print(
            f"{dataset.name}, {dataset.source}: {len(dataset.train):,} training and "
            f"{validation:,} validation images"
        )
        for note in dataset.notes:
            self._show_note(note)
        self.console.print(
            f"network: {profile.num_params:,} parameters, {profile.macs:,} multiply-adds; "
            f"run: {folder}"
        )
        self.console.print(_HEADER)
        for epoch, seconds in self._past:
            self._show_epoch(epoch, seconds)

    def _show_note(self, text: str) -> None:
        self.console.print(f"note: {text}")

    def _remember(self, epoch: Epoch, seconds: float) -> None:
        self._past.append((epoch, seconds))

    def _show_batch(self, step: Step) -> None:
        if self._bar is None:
            return
        done = (step.epoch - 1) * step.num_batches + step.batch
        text = (
            f"epoch {step.epoch}/{self.num_epochs}  batch {step.batch}/{step.num_batches}  "
            f"loss {step.running.loss:.4f}  accuracy {percent(step.running.accuracy)}  "
            f"{step.images_per_second:,.0f} images/s"
        )
        total = self.num_epochs * step.num_batches
        self._bar.update(self._task, completed=done, total=total, description=text)

    def _show_epoch(self, epoch: Epoch, seconds: float) -> None:
        counted = epoch.validation or epoch.train
        mark = "*" if counted.accuracy > self.best else " "
        self.best = max(self.best, counted.accuracy)
        line = (
            f"{epoch.epoch:>4}/{self.num_epochs:<4}       {_cells(epoch.train)}  "
            f"          {_cells(epoch.validation)} {mark}   {epoch.lr:>13.6f}  "
            f"{seconds:>7.1f}"
        )
        if epoch.test:
            line += f"   test: {_cells(epoch.test)}"
        self.console.print(line)


def _cells(score: Score | None) -> str:
    return f"{score.loss:>7.4f}  {percent(score.accuracy):>8}" if score else f"{'-':>7}  {'-':>8}"
