"""What a run's folder tells, finished or not."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smidgen._storage.serialization import from_plain, to_plain
from smidgen._storage.tensors import read_arrays
from smidgen.budget import Budget
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

_MOST = 2**63  # of any figure
_MOST_MAPS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """A run as its folder holds it; what is not there is None or empty, and said in `missing`."""

    folder: Path
    experiment: Experiment
    epochs: tuple[Epoch, ...]
    record: RunRecord | None
    times: Times | None
    diagnostics: Arrays
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
    require_files(folder)
    missing = []
    if (folder / RECORD).exists():
        record = read_record(folder)
        _require_sound(record, folder / RECORD)
        experiment, epochs = _with_words(record.experiment, folder), record.epochs
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
    diagnostics = _read_arrays(folder / DIAGNOSTICS, record.diagnostics_sha256 if record else None)
    _require_pictures(diagnostics, folder / DIAGNOSTICS, record)
    weights = _read_arrays(folder / WEIGHTS, record.weights_sha256 if record else None)
    filters = _first_filters(weights, record)
    if record is not None and not record.test.calibration:
        missing.append("The record does not tell how the network's confidence is calibrated.")
    missing += _not_shown(diagnostics, weights, filters)
    return RunFolder(
        folder=folder,
        experiment=experiment,
        epochs=epochs,
        record=record,
        times=read_times(folder),
        diagnostics=diagnostics,
        filters=filters,
        missing=tuple(missing),
    )


def _require_sound(record: RunRecord, path: Path) -> None:
    """Nothing, where a page can be drawn of what it says; `smidgen check` tells whether it is true.

    Raises:
        RecordError: it says something that no run can.
    """
    parts = (record.data, record.profile, record.epochs, record.test, record.verdict)
    classes = len(record.data.classes)
    rows = (len(record.test.confusion), *map(len, record.test.confusion))
    limits = {line.limit for line in record.verdict.limits}
    holds = {
        "a figure that is below 0, too large or no number": all(
            0 <= number <= _MOST for number in _numbers([to_plain(part) for part in parts])
        ),
        "no epochs": record.epochs,
        "no layer that costs anything": any(
            layer.params or layer.macs for layer in record.profile.layers
        ),
        "no test images": record.test.num_images,
        f"a confusion matrix that is not of its {classes} classes": set(rows) == {classes},
        "a limit that no budget has": limits <= set(Budget.__dataclass_fields__),
    }
    for what, right in holds.items():
        if not right:
            raise RecordError(f"{path} is damaged: it has {what}.")


def _numbers(plain: Any) -> Iterator[float]:
    """All numbers in plain data."""
    if isinstance(plain, dict | list):
        for item in plain.values() if isinstance(plain, dict) else plain:
            yield from _numbers(item)
    elif isinstance(plain, int | float):
        yield plain


def _require_pictures(diagnostics: Arrays, path: Path, record: RunRecord | None) -> None:
    """Refuse arrays other than those that smidgen.runs.diagnostics makes.

    Raises:
        RecordError: one is not.
    """
    nothing = np.zeros(0)
    samples, wrong = diagnostics.get("samples", nothing), diagnostics.get("wrong", nothing)
    labels, shares = (
        diagnostics.get("wrong_labels", nothing),
        diagnostics.get("wrong_shares", nothing),
    )
    maps = diagnostics.get("maps", nothing)
    shape = record.data.image_shape if record else samples.shape[1:]
    classes = len(record.data.classes) if record else labels.max(initial=0) + 1
    sound = {
        "samples": samples.dtype == np.uint8
        and samples.shape[1:] == shape
        and samples.size > 0
        and len(shape) == 3
        and shape[0] in (1, 3),
        "augmented": "samples" in diagnostics
        and diagnostics.get("augmented", samples).shape == samples.shape
        and diagnostics.get("augmented", samples).dtype == np.uint8,
        "wrong": wrong.dtype == np.uint8 and wrong.ndim == 4 and wrong.shape[1:] == shape,
        "wrong_labels": labels.dtype == np.int64
        and labels.shape == wrong.shape[:1]
        and bool(np.all((labels >= 0) & (labels < classes))),
        "wrong_shares": shares.dtype == np.float32
        and shares.shape == (len(wrong), classes)
        and bool(np.isfinite(shares).all()),
        "maps": maps.dtype == np.float16
        and maps.ndim == 3
        and maps.size > 0
        and len(maps) <= _MOST_MAPS,
    }
    for name, right in sound.items():
        if name in diagnostics and not right:
            raise RecordError(f"{path} is damaged: {name} is not what a run keeps by that name.")


def _not_shown(
    diagnostics: Arrays, weights: Arrays, filters: NDArray[np.float32] | None
) -> list[str]:
    """A sentence for each kind of picture that the run's arrays do not hold."""
    said = []
    if not diagnostics:
        said.append("No pictures were kept of this run.")
    elif "wrong" not in diagnostics:
        said.append("No misclassified images were kept of this run.")
    if not weights:
        said.append("The folder holds no weights, so no filters are shown.")
    elif filters is None and "maps" not in diagnostics:
        said.append(
            "The network has no convolution, so neither filters nor feature maps are shown."
        )
    elif diagnostics and "maps" not in diagnostics:
        said.append("No feature maps were kept of this run.")
    return said


def _first_filters(weights: Arrays, record: RunRecord | None) -> NDArray[np.float32] | None:
    """Of the layer that ran first, where the record says which; else the first by name."""
    layers = record.profile.layers if record else ()
    # a safetensors file keeps no order, and its reader gives another one each time
    for name in [*(f"{layer.path}.weight" for layer in layers), *sorted(weights)]:
        if name in weights and weights[name].ndim == 4 and _drawable(weights[name]):
            return weights[name]
    return None


def _drawable(kernels: NDArray[Any]) -> bool:
    return kernels.size > 0 and bool(np.isfinite(kernels).all())


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


def _read_arrays(path: Path, sha256: str | None) -> Arrays:
    return read_arrays(path, sha256) if path.exists() else {}


def _with_words(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with target and analysis as its file says them now: a person's afterthought.

    Everything else is the record's; `smidgen check` tells where the file differs from it.
    """
    try:
        there = read_experiment(folder / EXPERIMENT)
    except ConfigError:
        return experiment
    return replace(experiment, target=there.target, analysis=there.analysis)
