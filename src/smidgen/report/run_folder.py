"""Everything that the folder of a run holds, of a finished run or not."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smidgen._storage.serialization import from_plain
from smidgen._storage.tensors import read_arrays
from smidgen.config import Experiment, read_experiment
from smidgen.errors import ConfigError, RecordError
from smidgen.record import (
    DIAGNOSTICS,
    EXPERIMENT,
    METRICS,
    RECORD,
    WEIGHTS,
    Epoch,
    RunRecord,
    Times,
    read_record,
    read_times,
    require_files,
)

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """The content of a run's folder, or of a run that just ended."""

    folder: Path
    """Where the run's files are, and its report by default."""
    experiment: Experiment
    """As recorded; target and analysis as experiment.toml has them now."""
    epochs: tuple[Epoch, ...]
    """As many as were completed."""
    record: RunRecord | None
    """None if the run did not finish."""
    times: Times | None
    """None if there is no times.json."""
    diagnostics: Arrays
    """Sample images, worst predictions and feature maps, by name, as `runs` writes them."""
    weights: Arrays
    """The network's parameters and buffers, by name."""

    @property
    def title(self) -> str:
        """The names of the experiment and of the folder."""
        return f"{self.experiment.name}, {self.folder.resolve().name}"

    @property
    def filters(self) -> NDArray[np.float32] | None:
        """Weights of the first 2D convolution, (filters, channels, height, width), if any.

        First is the one that runs first, or without a record, the first by name.
        """
        layers = self.record.profile.layers if self.record else ()
        for name in [*(f"{layer.path}.weight" for layer in layers), *sorted(self.weights)]:
            weights = self.weights.get(name, np.zeros(0))
            if weights.ndim == 4 and weights.size and np.isfinite(weights).all():
                return weights
        return None

    @property
    def missing(self) -> tuple[str, ...]:
        """One sentence for each thing that a report would show, but the folder lacks."""
        sentences = []
        if self.record is None:
            sentences.append(
                f"The run did not finish: it has {len(self.epochs)} of "
                f"{self.experiment.train.epochs} epochs, and no test score, verdict or profile."
            )
        elif not self.record.test.calibration:
            sentences.append("The record has no calibration of the network's confidence.")
        if not self.diagnostics:
            sentences.append("The folder has no sample images, worst predictions or feature maps.")
        elif "wrong" not in self.diagnostics:
            sentences.append("The folder has no misclassified images.")
        if not self.weights:
            sentences.append("The folder has no weights, so no filters are shown.")
        elif self.filters is None and "maps" not in self.diagnostics:
            sentences.append("The network has no convolution, so no filters or maps are shown.")
        elif self.diagnostics and "maps" not in self.diagnostics:
            sentences.append("The folder has no feature maps.")
        return tuple(sentences)


def read_run(folder: Path) -> RunFolder:
    """What the folder of a run holds, finished or not.

    Raises:
        RecordError: the folder has no run, or a file of it is damaged.
    """
    if not folder.is_dir():
        raise RecordError(f"there is no folder {folder}; name one that holds a run, or runs.")
    require_files(folder)
    if (folder / RECORD).exists():
        record = read_record(folder)
        experiment, epochs = _with_current_texts(record.experiment, folder), record.epochs
    else:
        record = None
        try:
            experiment = read_experiment(folder / EXPERIMENT)
        except ConfigError as error:
            raise RecordError(f"{folder} has no run: {error}") from None
        epochs = read_epochs(folder / METRICS)
    diagnostics = _read_arrays(folder / DIAGNOSTICS, record.diagnostics_sha256 if record else None)
    if record is not None:
        _check_diagnostics(diagnostics, record, folder / DIAGNOSTICS)
    return RunFolder(
        folder=folder,
        experiment=experiment,
        epochs=epochs,
        record=record,
        times=read_times(folder),
        # without a record, there is no digest that vouches for them
        diagnostics=diagnostics if record else {},
        weights=_read_arrays(folder / WEIGHTS, record.weights_sha256 if record else None),
    )


def _check_diagnostics(diagnostics: Arrays, record: RunRecord, path: Path) -> None:
    """Refuse arrays of a type or shape that does not fit the record.

    Raises:
        RecordError: names the array.
    """
    image, classes = record.data.image_shape, len(record.data.classes)
    layouts: dict[str, tuple[str, tuple[int, ...]]] = {
        "samples": ("uint8", image),
        "augmented": ("uint8", image),
        "wrong": ("uint8", image),
        "wrong_labels": ("int64", ()),
        "wrong_shares": ("float32", (classes,)),
        "pairs": ("uint8", image),
        "pairs_labels": ("int64", ()),
        "pairs_predicted": ("int64", ()),
        "maps": ("float16", diagnostics["maps"].shape[-2:] if "maps" in diagnostics else ()),
    }
    for name, (dtype, shape) in layouts.items():
        array = diagnostics.get(name, np.zeros((1, *shape), dtype))
        empty = 0 in (array.shape[1:] if name.startswith(("wrong", "pairs")) else array.shape)
        if array.ndim == 0 or array.dtype != dtype or array.shape[1:] != shape or empty:
            raise RecordError(
                f"{path} is damaged: {name} has the type {array.dtype} and the shape "
                f"{array.shape}, which do not fit the record."
            )
    for name in ("wrong_labels", "pairs_labels", "pairs_predicted"):
        labels = diagnostics.get(name, np.zeros(0))
        if not ((labels >= 0) & (labels < classes)).all():
            raise RecordError(f"{path} is damaged: {name} has labels of none of the classes.")


def read_epochs(path: Path) -> tuple[Epoch, ...]:
    """The epochs of a metrics.jsonl, without a last line that was cut off."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}.") from None
    complete = [line for line in lines if line.endswith("\n")]
    try:
        return tuple(from_plain(Epoch, json.loads(line)) for line in complete)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}") from None


def _read_arrays(path: Path, sha256: str | None) -> Arrays:
    return read_arrays(path, sha256) if path.exists() else {}


def _with_current_texts(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with target and analysis as its file has them now.

    Everything else is the record's; `smidgen check` reports where the file differs from it.
    """
    try:
        current = read_experiment(folder / EXPERIMENT)
    except ConfigError:
        return experiment
    return replace(experiment, target=current.target, analysis=current.analysis)
