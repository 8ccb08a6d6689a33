"""Optional sinks for the curves of a run: TensorBoard's event files and trackio's local database.

Both come with `pip install 'smidgen[track]'`, and nothing here needs them before a sink is made.
Neither sends anything anywhere.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smidgen._storage.serialization import to_plain
from smidgen.callbacks import Listener
from smidgen.config import read_experiment
from smidgen.data import Dataset
from smidgen.errors import ConfigError
from smidgen.record import EXPERIMENT, Epoch, Profile


class TensorBoardSink:
    """Event files that `tensorboard --logdir` reads, in `tensorboard/` of the run's folder.

    Loss and accuracy by part, the learning rate and the seconds, once an epoch; the experiment as
    text. `folder`, where it is given, takes the place of the one in the run's folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Make sure that the package is there, before anything is trained.

        Raises:
            ConfigError: it is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._writer: Callable[..., Any] = SummaryWriter
        self._folder = folder

    @contextmanager
    def live(self) -> Iterator[Listener]:
        """The listener that writes a run down; the file is closed where the context ends."""
        with contextlib.ExitStack() as stack:
            writers = []

            def ready(dataset: Dataset, profile: Profile, folder: Path) -> None:
                writer = self._writer(log_dir=str(self._folder or folder / "tensorboard"))
                stack.callback(writer.close)
                text = (folder / EXPERIMENT).read_text(encoding="utf-8")
                writer.add_text("experiment", f"```toml\n{text}```")
                writer.add_text("parameters", f"{profile.num_params:,}")
                writers.append(writer)

            def epoch(epoch: Epoch, seconds: float) -> None:
                for writer in writers:
                    for name, value in figures(epoch, seconds).items():
                        writer.add_scalar(name, value, epoch.epoch)
                    writer.flush()

            yield Listener(ready=ready, epoch=epoch)


# What makes trackio send its figures elsewhere.
_ELSEWHERE = (
    *("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_WRITE_TOKEN", "TRACKIO_BUCKET_ID"),
    *("TRACKIO_DATASET_ID", "TRACKIO_WEBHOOK_URL"),
)


class TrackioSink:
    """A run in trackio's database on this machine, for `trackio show --project NAME`.

    The project is the experiment's name unless another is given, the run is named after its folder.
    The database is where trackio keeps it, or where TRACKIO_DIR says. What trackio would ask or
    tell others is switched off while the run lasts: its Spaces, servers, buckets and webhooks, the
    name behind a Hugging Face token, the measurements of the machine.
    """

    def __init__(self, project: str | None = None) -> None:
        """Make sure that the package is there, before anything is trained.

        Raises:
            ConfigError: it is not installed.
        """
        try:
            with _at_home():
                import trackio
        except ImportError:
            raise _missing("trackio") from None
        self._trackio: Any = trackio
        self._project = project

    @contextmanager
    def live(self) -> Iterator[Listener]:
        """The listener that writes a run down; it is complete where the context ends."""
        with contextlib.ExitStack() as stack:
            runs = []

            def ready(dataset: Dataset, profile: Profile, folder: Path) -> None:
                experiment = read_experiment(folder / EXPERIMENT)
                stack.enter_context(_at_home())
                try:
                    with _silent():
                        run = self._trackio.init(
                            project=self._project or experiment.name,
                            name=folder.name,
                            config=to_plain(experiment) | {"num_params": profile.num_params},
                            embed=False,
                            auto_log_gpu=False,
                            auto_log_cpu=False,
                        )
                except ValueError as error:
                    raise ConfigError(f"trackio does not take this run: {error}") from None
                stack.callback(self._finish)
                runs.append(run)

            def epoch(epoch: Epoch, seconds: float) -> None:
                for run in runs:
                    run.log(figures(epoch, seconds), step=epoch.epoch)

            yield Listener(ready=ready, epoch=epoch)

    def _finish(self) -> None:
        with _silent():
            self._trackio.finish()


SINKS: dict[str, Callable[[], TensorBoardSink | TrackioSink]] = {
    "tensorboard": TensorBoardSink,
    "trackio": TrackioSink,
}


@contextmanager
def tracked(names: Sequence[str]) -> Iterator[list[Listener]]:
    """The listeners of the sinks of these names, each once, for as long as the context lasts.

    Raises:
        ConfigError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in SINKS:
            raise ConfigError(f"--track {name}: it must be one of {', '.join(SINKS)}.")
    sinks = [SINKS[name]() for name in dict.fromkeys(names)]
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(sink.live()) for sink in sinks]


def figures(epoch: Epoch, seconds: float) -> dict[str, float]:
    """The figures of an epoch by name, with the part after a slash; without what was not scored."""
    parts = {"train": epoch.train, "validation": epoch.validation, "test": epoch.test}
    found = {}
    for part, score in parts.items():
        if score is not None:
            found[f"loss/{part}"] = score.loss
            found[f"accuracy/{part}"] = score.accuracy
    return found | {"learning_rate": epoch.lr, "seconds": seconds}


def _missing(package: str) -> ConfigError:
    return ConfigError(
        f"--track {package} needs the package {package}, which is not installed: "
        "pip install 'smidgen[track]'"
    )


@contextmanager
def _at_home() -> Iterator[None]:
    """Without the settings that send trackio's figures elsewhere, and with its hub switched off.

    trackio asks Hugging Face for the name behind a stored token at the start of each run, a local
    one too; the hub's own switch for working offline is what keeps it from that.
    """
    from_outside = {name: os.environ.pop(name) for name in _ELSEWHERE if name in os.environ}
    try:
        import huggingface_hub.constants as hub
    except ImportError:
        hub = None
    before = getattr(hub, "HF_HUB_OFFLINE", None)
    try:
        if hub is not None:
            hub.HF_HUB_OFFLINE = True
        yield
    finally:
        if hub is not None:
            hub.HF_HUB_OFFLINE = before
        os.environ.update(from_outside)


def _silent() -> contextlib.redirect_stdout[io.StringIO]:
    """Whatever is printed goes nowhere: the terminal belongs to the run."""
    return contextlib.redirect_stdout(io.StringIO())
