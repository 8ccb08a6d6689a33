"""The live page as a callback."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from smidgen.callbacks import Callback, Progress, RunInfo
from smidgen.record import Epoch, RunRecord
from smidgen.report.live import LivePage

if TYPE_CHECKING:
    from smidgen.training import TrainState


class LiveCallback(Callback):
    """Shows a run's curves on a page of this machine."""

    def __init__(self, run_name: str) -> None:
        self._page, self._run_name = LivePage(), run_name
        self._result = "The run was interrupted, or stopped by an error."

    def start(self) -> str:
        """Serve the page; return its address."""
        return self._page.start()

    def close(self) -> None:
        """Show the result and stop serving."""
        self._page.close(self._result)

    def on_train_start(self, run: RunInfo) -> None:
        """Show the run's name, its target and earlier epochs."""
        experiment = run.experiment
        self._page.describe(
            f"{experiment.name}, {self._run_name}",
            experiment.budget.min_accuracy,
            experiment.train.epochs,
        )
        for epoch, seconds in run.completed:
            self._page.note(epoch, seconds)

    def on_progress(self, progress: Progress) -> None:
        """Show where the run stands."""
        self._page.progress(
            progress.epoch,
            progress.batch,
            progress.num_batches,
            progress.loss,
            progress.accuracy,
            progress.images_per_second,
        )

    def on_epoch_end(
        self, epoch: Epoch, seconds: float, capture: "Callable[[], TrainState]"
    ) -> None:
        """Add the epoch to the curves."""
        self._page.note(epoch, seconds)

    def on_train_end(self, record: RunRecord | None) -> None:
        """Remember the verdict."""
        if record is not None:
            self._result = str(record.verdict)
