"""What a run's folder tells, finished or not."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from smidgen.config import Experiment, read_experiment
from smidgen.errors import ConfigError, RecordError
from smidgen.record import (
    EXHIBITS,
    EXPERIMENT,
    METRICS,
    RECORD,
    WEIGHTS,
    Epoch,
    RunRecord,
    read_record,
)
from smidgen.schema import from_plain

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """A run as its folder holds it; what is not there is None or empty, and said in `missing`."""

    folder: Path
    experiment: Experiment
    epochs: tuple[Epoch, ...]
    record: RunRecord | None
    exhibits: Arrays
    filters: NDArray[np.float32] | None
    """Weights of the first convolution, (filters, channels, height, width)."""
    missing: tuple[str, ...]
    """A sentence for each thing that the folder does not tell."""

    @property
    def title(self) -> str:
        """The experiment's name and the folder's."""
        return f"{self.experiment.name}, {self.folder.resolve().name}"


def read_run(folder: Path) -> RunFolder:
    """What the run in `folder` left, a record or not.

    Raises:
        RecordError: there is no run at all in the folder, or a file of it is damaged.
    """
    missing = []
    if (folder / RECORD).exists():
        record = read_record(folder)
        experiment, epochs = record.experiment, record.epochs
    else:
        record = None
        try:
            experiment = read_experiment(folder / EXPERIMENT)
        except ConfigError as error:
            raise RecordError(f"{folder} holds no run: {error}") from None
        epochs = _read_epochs(folder / METRICS)
        missing.append(
            f"The run did not finish: {len(epochs)} of {experiment.train.epochs} epochs are on "
            "record, and no test score, verdict or profile."
        )
    exhibits = _read_arrays(folder / EXHIBITS)
    weights = _read_arrays(folder / WEIGHTS)
    filters = _first_filters(weights, record)
    if record is not None and not record.test.calibration:
        missing.append("The record does not tell how the network's confidence is calibrated.")
    missing += _not_shown(exhibits, weights, filters)
    return RunFolder(
        folder=folder,
        experiment=experiment,
        epochs=epochs,
        record=record,
        exhibits=exhibits,
        filters=filters,
        missing=tuple(missing),
    )


def _not_shown(exhibits: Arrays, weights: Arrays, filters: NDArray[np.float32] | None) -> list[str]:
    """A sentence for each kind of picture that the run's arrays do not hold."""
    said = []
    if not exhibits:
        said.append("No pictures were kept of this run.")
    elif "wrong" not in exhibits:
        said.append("No misclassified images were kept of this run.")
    if not weights:
        said.append("The folder holds no weights, so no filters are shown.")
    elif filters is None and "maps" not in exhibits:
        said.append(
            "The network has no convolution, so neither filters nor feature maps are shown."
        )
    elif exhibits and "maps" not in exhibits:
        said.append("No feature maps were kept of this run.")
    return said


def _first_filters(weights: Arrays, record: RunRecord | None) -> NDArray[np.float32] | None:
    """Of the layer that ran first, where the record says which; else the first by name."""
    layers = record.profile.layers if record else ()
    # a safetensors file keeps no order, and its reader gives another one each time
    for name in [*(f"{layer.path}.weight" for layer in layers), *sorted(weights)]:
        if name in weights and weights[name].ndim == 4:
            return weights[name]
    return None


def _read_epochs(path: Path) -> tuple[Epoch, ...]:
    """The epochs of a metrics.jsonl; a last line that was cut off is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}.") from None
    whole = [line for line in lines if line.endswith("\n")]
    try:
        return tuple(from_plain(Epoch, json.loads(line)) for line in whole)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}") from None


def _read_arrays(path: Path) -> Arrays:
    try:
        return safetensors.numpy.load(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    except (safetensors.SafetensorError, ValueError) as error:
        raise RecordError(f"{path} is damaged: {error}.") from None
