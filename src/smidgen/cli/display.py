"""What the terminal shows while a network trains: a progress bar and a line for each epoch."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.status import Status

from smidgen.callbacks import Callback, Progress, RunInfo, TrainState
from smidgen.formatting import percent
from smidgen.record import Epoch, RunRecord, Score

_HEADER = (
    " epoch  training:  loss  accuracy  validation:  loss  accuracy     learning rate        s"
)


class Display(Callback):
    """Prints one run; on a terminal, with a progress bar below the lines."""

    def __init__(self, quiet: bool = False) -> None:
        """Print nothing if `quiet`."""
        self.console = Console(quiet=quiet, highlight=False, markup=False, soft_wrap=True)
        self._num_epochs = 0
        self._best = 0.0
        self._bar: Bar | None = None
        self._status: Status | None = None

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
        elif self.console.is_terminal and not self.console.quiet:
            self.close()
            self._status = self.console.status(text)
            self._status.start()

    def on_message(self, text: str) -> None:
        """Print it."""
        self.console.print(f"note: {text}")

    def on_train_start(self, run: RunInfo) -> None:
        """Print the data, the network and earlier epochs; start the bar."""
        self.close()
        self._num_epochs = run.experiment.train.epochs
        data = run.data
        self.console.print(
            f"{data.name}, {data.source}: {data.num_train:,} training and "
            f"{data.num_validation:,} validation images"
        )
        for note in data.notes:
            self.on_message(note)
        self.console.print(
            f"network: {run.profile.num_params:,} parameters, {run.profile.macs:,} multiply-adds; "
            f"run: {run.folder}"
        )
        self.console.print(_HEADER)
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
        text = (
            f"epoch {progress.epoch}/{self._num_epochs}  "
            f"batch {progress.batch}/{progress.num_batches}  "
            f"loss {progress.loss:.4f}  accuracy {percent(progress.accuracy)}  "
            f"{progress.images_per_second:,.0f} images/s"
        )
        total = self._num_epochs * progress.num_batches
        self._bar.update(self._task, completed=done, total=total, description=text)

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """Print the epoch's line."""
        self._print_epoch(epoch, seconds)

    def on_train_end(self, record: RunRecord | None) -> None:
        """Remove the bar."""
        self.close()

    def _print_epoch(self, epoch: Epoch, seconds: float) -> None:
        score = epoch.validation or epoch.train
        mark = "*" if score.accuracy > self._best else " "
        self._best = max(self._best, score.accuracy)
        line = (
            f"{epoch.epoch:>4}/{self._num_epochs:<4}       {_cells(epoch.train)}  "
            f"          {_cells(epoch.validation)} {mark}   {epoch.lr:>13.6f}  "
            f"{seconds:>7.1f}"
        )
        if epoch.test:
            line += f"   test: {_cells(epoch.test)}"
        self.console.print(line)


def _cells(score: Score | None) -> str:
    return f"{score.loss:>7.4f}  {percent(score.accuracy):>8}" if score else f"{'-':>7}  {'-':>8}"
