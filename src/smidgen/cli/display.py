"""What the terminal shows while a network trains: a progress bar and a line for each epoch."""

from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from smidgen._storage.progress import spinner, terminal
from smidgen.callbacks import Callback, Progress, RunInfo, TrainState
from smidgen.formatting import counted, percent
from smidgen.record import Epoch, RunRecord, Score

_WIDTH = 100
"""Columns of a terminal that shows everything next to the bar; on others the time left counts."""


class Display(Callback):
    """Prints one run; on a terminal, with a progress bar below the lines."""

    def __init__(self, quiet: bool = False) -> None:
        """Print nothing if `quiet`."""
        self.console = Console(quiet=quiet, highlight=False, markup=False, soft_wrap=True)
        self._num_epochs = 0
        self._best = 0.0
        self._splits: dict[str, bool] = {}
        self._bar: Bar | None = None
        self._status: Live | None = None

    def close(self) -> None:
        """Remove the bar and the status line."""
        for shown in (self._bar, self._status):
            if shown is not None:
                shown.stop()
        self._bar = self._status = None

    def on_status(self, text: str) -> None:
        """On a terminal, show it until something else happens."""
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        elif terminal().is_terminal and not self.console.quiet:
            self.close()
            self._status = spinner(text)
            self._status.start()

    def on_message(self, text: str) -> None:
        """Print it."""
        if self._status is not None:
            self.close()
        self.console.print(f"note: {text}")

    def on_train_start(self, run: RunInfo) -> None:
        """Print the data, the network and earlier epochs; start the bar."""
        self.close()
        self._num_epochs = run.experiment.train.epochs
        data = run.data
        self.console.print(
            f"{data.origin}: {data.num_train:,} training and "
            f"{counted(data.num_validation, 'validation image')}"
        )
        for note in data.notes:
            self.on_message(note)
        self.console.print(
            f"network: {run.profile.num_params:,} parameters, {run.profile.macs:,} multiply-adds; "
            f"run: {run.folder}"
        )
        self._splits = {
            "training": True,
            "validation": data.num_validation > 0,
            "test": run.experiment.train.test_each_epoch,
        }
        self._print_header()
        for epoch, seconds in run.completed:
            self._print_epoch(epoch, seconds)
        if self.console.is_terminal and not self.console.quiet:
            columns = (BarColumn(20), TextColumn("{task.description}"), TimeRemainingColumn())
            self._bar = Bar(*columns, console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=None)

    def on_progress(self, progress: Progress) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        done = (progress.epoch - 1) * progress.num_batches + progress.batch
        details = f"batch {progress.batch}/{progress.num_batches}  loss {progress.loss:.4f}  "
        text = (
            f"epoch {progress.epoch}/{self._num_epochs}  "
            f"{details if self.console.width >= _WIDTH else ''}"
            f"accuracy {percent(progress.accuracy)}  {progress.images_per_second:,.0f} images/s"
        )
        total = self._num_epochs * progress.num_batches
        self._bar.update(self._task, completed=done, total=total, description=text)

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """Print the epoch's line."""
        self._print_epoch(epoch, seconds)

    def on_train_end(self, record: RunRecord | None) -> None:
        """Remove the bar."""
        self.close()

    def _print_header(self) -> None:
        """Print the columns' names; two numbers of each split that is scored."""
        shown = [name for name, is_shown in self._splits.items() if is_shown]
        titles = "".join(f"{name:>17}" + "  " * (name == "validation") for name in shown)
        names = "".join(f"{'loss':>8}{'accuracy':>9}" + "  " * (n == "validation") for n in shown)
        legend = f"{'* best so far':>16}" if "validation" in shown else ""
        self.console.print(f"{'':7}{titles}{legend}\n{'epoch':>7}{names}{'lr':>9}{'s':>7}")

    def _print_epoch(self, epoch: Epoch, seconds: float) -> None:
        cells = _cells(epoch.train)
        if self._splits["validation"]:
            accuracy = epoch.validation.accuracy if epoch.validation else 0.0
            cells += _cells(epoch.validation) + (" *" if accuracy > self._best else "  ")
            self._best = max(self._best, accuracy)
        if self._splits["test"]:
            cells += _cells(epoch.test)
        number = f"{epoch.epoch}/{self._num_epochs}"
        self.console.print(f"{number:>7}{cells}{epoch.lr:>9.6f}{seconds:>7.1f}")


def _cells(score: Score | None) -> str:
    return f"{score.loss:>8.4f}{percent(score.accuracy):>9}" if score else f"{'-':>8}{'-':>9}"
