"""Callbacks that write a run's metrics for TensorBoard and trackio.

Both packages are optional: `smidgen[track]` installs them.
"""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from smidgen._storage.serialization import to_plain
from smidgen.callbacks import Callback, RunInfo, TrainState
from smidgen.errors import ConfigError, install_extra
from smidgen.record import Epoch, RunRecord


class TensorBoardCallback(Callback):
    """Writes event files for `tensorboard --logdir`, by default to `tensorboard/` in the run.

    Loss and accuracy by split, learning rate and duration, once per epoch; the experiment as text.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Write to `folder` instead of the run's.

        Raises:
            ConfigError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._make_writer: Callable[..., Any] = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def on_train_start(self, run: RunInfo) -> None:
        """Open the event file and write the experiment."""
        self._writer = self._make_writer(log_dir=str(self._folder or run.folder / "tensorboard"))
        text = run.experiment.to_toml()
        self._writer.add_text("experiment", f"```toml\n{text}```")
        self._writer.add_text("parameters", f"{run.profile.num_params:,}")

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """Write the epoch's metrics."""
        for name, value in epoch_metrics(epoch, seconds).items():
            self._writer.add_scalar(name, value, epoch.epoch)
        self._writer.flush()

    def on_train_end(self, record: RunRecord | None) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


class TrackioCallback(Callback):
    """Logs to trackio: by default to its database on this machine (`trackio show`).

    The project is the experiment's name unless another is given; the run is named after its
    folder. trackio's own settings (TRACKIO_DIR, TRACKIO_SPACE_ID and so on) decide where the
    metrics go. Without a Space, Hugging Face's client is put into offline mode (HF_HUB_OFFLINE),
    so that nothing leaves this machine.
    """

    def __init__(self, project: str | None = None) -> None:
        """Log to `project` instead of the experiment's name.

        Raises:
            ConfigError: trackio is not installed.
        """
        if "TRACKIO_SPACE_ID" not in os.environ:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the client is imported
        try:
            import trackio
        except ImportError:
            raise _missing("trackio") from None
        self._trackio: Any = trackio
        self._project = project
        self._run: Any = None

    def on_train_start(self, run: RunInfo) -> None:
        """Start a trackio run with the experiment as its configuration.

        Raises:
            ConfigError: trackio refuses the project's name.
        """
        try:
            with _silenced():
                self._run = self._trackio.init(
                    project=self._project or run.experiment.name,
                    name=run.folder.name,
                    config=to_plain(run.experiment) | {"num_params": run.profile.num_params},
                    embed=False,
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                )
        except ValueError as error:
            raise ConfigError(f"trackio refuses this run: {error}") from None

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        """Log the epoch's metrics."""
        self._run.log(epoch_metrics(epoch, seconds), step=epoch.epoch)

    def on_train_end(self, record: RunRecord | None) -> None:
        """Finish the trackio run."""
        if self._run is not None:
            with _silenced():
                self._trackio.finish()


TRACKERS: dict[str, Callable[[], Callback]] = {
    "tensorboard": TensorBoardCallback,
    "trackio": TrackioCallback,
}


def make_trackers(names: Sequence[str]) -> list[Callback]:
    """One callback for each of `names`; repeated names count once.

    Raises:
        ConfigError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"--track is {name!r}; it must be one of {', '.join(TRACKERS)}.")
    return [TRACKERS[name]() for name in dict.fromkeys(names)]


def epoch_metrics(epoch: Epoch, seconds: float) -> dict[str, float]:
    """An epoch's metrics by name, such as loss/validation; splits not scored are left out."""
    splits = {"train": epoch.train, "validation": epoch.validation, "test": epoch.test}
    metrics = {}
    for split, score in splits.items():
        if score is not None:
            metrics[f"loss/{split}"] = score.loss
            metrics[f"accuracy/{split}"] = score.accuracy
    return metrics | {"learning_rate": epoch.lr, "seconds": seconds}


def _missing(package: str) -> ConfigError:
    return ConfigError(
        f"--track {package} needs the package {package}, which is not installed: "
        + install_extra("track")
    )


def _silenced() -> contextlib.redirect_stdout[io.StringIO]:
    """Discards what trackio prints, which would disturb the progress display."""
    return contextlib.redirect_stdout(io.StringIO())
