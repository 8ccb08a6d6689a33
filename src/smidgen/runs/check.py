"""Checks a finished run against its own weights, files and data."""

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from smidgen._storage.cores import usable_cores
from smidgen._storage.digests import sha256_of_file
from smidgen.budget import Verdict
from smidgen.callbacks import Callback, CallbackList
from smidgen.config import read_experiment
from smidgen.data import Dataset, InMemory, dataset_in_memory, load
from smidgen.errors import ConfigError, SmidgenError
from smidgen.evaluate import evaluate_split
from smidgen.models import ModelInMemory
from smidgen.profiling import profile
from smidgen.record import (
    DIAGNOSTICS,
    EXPERIMENT,
    EXPORT,
    METRICS,
    RECORD,
    WEIGHTS,
    CalibrationBin,
    RunRecord,
    format_epoch,
    is_sealed,
    read_export,
    read_record,
    read_times,
)
from smidgen.runs.judge import judge
from smidgen.runs.load import restore
from smidgen.runs.options import RunOptions
from smidgen.runs.prepare import data_record
from smidgen.runs.run import run
from smidgen.training.device import compute_settings

Pairs = dict[str, tuple[object, object]]
"""What is compared: by name, the value now and the value in the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """What a check of a finished run found."""

    record: RunRecord
    """The run's record, as it is in its folder."""
    verdict: Verdict
    """The budget compared with what was counted and scored again."""
    differences: tuple[str, ...]
    """Everything that differs from the record, one phrase each."""
    repeated: bool
    """Whether the run was trained again, too."""

    @property
    def passed(self) -> bool:
        """True if the budget is kept and nothing differs from the record."""
        return self.verdict.passed and not self.differences

    def __str__(self) -> str:
        count = len(self.differences)
        if count:
            heading = f"check: FAILED, {count} difference{'s' if count > 1 else ''} from the record"
            lines = [f"  differs from the record: {line}" for line in self.differences]
            return "\n".join([heading, *lines, str(self.verdict)])
        done = "counted, scored and trained" if self.repeated else "counted and scored"
        return f"{self.verdict}\nrecord: equal to what was {done} again"


def check(
    run: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    skip_bad: bool = False,
    repeat: bool = False,
    *,
    model: ModelInMemory | None = None,
    data: InMemory | None = None,
    callbacks: Sequence[Callback] = (),
) -> CheckResult:
    """Count the parameters and score the test set again, and compare both with the record.

    The folder's other files are compared with the record too: metrics, experiment, diagnostics,
    exports, and the record with its own digest. With `repeat` the run is trained again, with its
    seed, number of threads and backend, and must give the same weights and metrics, byte for byte.
    A network or data that were passed to smidgen.train in Python must be passed again. `callbacks`
    learn what is being done; for a run that is trained again, they are called as in smidgen.train.

    Raises:
        SmidgenError: the run, its weights or its data are missing or damaged.
    """
    folder, callback = Path(run), CallbackList(callbacks)
    record = read_record(folder, edited=True)
    network = restore(folder, record, model, any_weights=True)
    data_dir = None if data_dir is None else Path(data_dir)
    settings = record.experiment.data
    callback.on_status(f"loading {record.data.name}")
    if settings.in_memory and data is not None:
        dataset = dataset_in_memory(data, settings)
    else:
        dataset = load(settings, data_dir=data_dir, skip_bad=skip_bad)
    if record.trained_elsewhere:
        if repeat:
            raise ConfigError(f"the network of {folder} was trained elsewhere: leave out --repeat.")
        dataset = replace(dataset, mean=record.data.mean, std=record.data.std)
    found = profile(network, record.data.image_shape)
    callback.on_status("scoring the test set")
    with compute_settings(device) as target:
        there = dataset.to(target)
        test = evaluate_split(network.to(target), there, there.test)
    verdict = judge(
        record.experiment.budget,
        network,
        found,
        epochs=record.num_epochs,
        accuracy=test.score.accuracy,
    )
    looks = 1 + sum(epoch.test is not None for epoch in record.epochs)
    pairs: Pairs = {
        "weights' SHA-256": (sha256_of_file(folder / WEIGHTS), record.weights_sha256),
        "data's SHA-256": (dataset.sha256, record.data.sha256),
        # the same data may be stored elsewhere
        "data": (replace(data_record(dataset), source=record.data.source), record.data),
        "profile": (found, record.profile),
        "parameters": (found.num_params, record.profile.num_params),
        "correct test images": (test.num_correct, record.test.num_correct),
        "test images": (test.num_images, record.test.num_images),
        "test accuracy": (test.score.accuracy, record.test.score.accuracy),
        "confusion matrix": (test.confusion, record.test.confusion),
        "epochs": (
            len(record.epochs),
            0 if record.trained_elsewhere else record.experiment.train.epochs,
        ),
        "epoch numbers": (
            tuple(epoch.epoch for epoch in record.epochs),
            tuple(range(1, len(record.epochs) + 1)),
        ),
        "looks at the test set": (looks, record.test_looks),
        "verdict": (verdict, record.verdict),
    }
    if not _close(test.score.loss, record.test.score.loss):
        pairs["test loss"] = (test.score.loss, record.test.score.loss)
    if not _same_calibration(test.calibration, record.test.calibration):
        pairs["calibration"] = (test.calibration, record.test.calibration)
    differences = [*_differences(pairs), *_file_differences(folder, record)]
    if repeat:
        differences += _repeat_differences(record, dataset, model, device, callbacks)
    return CheckResult(
        record=record, verdict=verdict, differences=tuple(differences), repeated=repeat
    )


def _close(now: float, recorded: float) -> bool:
    """Equal up to rounding: other machines and thread counts sum in another order."""
    return math.isclose(now, recorded, rel_tol=1e-3, abs_tol=1e-6)


def _same_calibration(
    now: tuple[CalibrationBin, ...], recorded: tuple[CalibrationBin, ...]
) -> bool:
    """The same number of images in each bin, and equal confidence and accuracy up to rounding."""
    return len(now) == len(recorded) and all(
        a.num_images == b.num_images
        and _close(a.confidence, b.confidence)
        and _close(a.accuracy, b.accuracy)
        for a, b in zip(now, recorded, strict=True)
    )


def _differences(pairs: Pairs) -> list[str]:
    lines = []
    for name, (now, recorded) in pairs.items():
        if now != recorded:
            short = isinstance(now, int | float | str)
            lines.append(f"{name}: {now} now, {recorded} in the record" if short else name)
    return lines


def _file_differences(folder: Path, record: RunRecord) -> Iterator[str]:
    """Where the folder's other files differ from the record; a missing file does not count."""
    if not is_sealed((folder / RECORD).read_bytes().decode(errors="replace")):
        yield f"{RECORD} was edited: its content does not have the SHA-256 that it states"
    metrics = None
    with contextlib.suppress(ValueError):  # NaN is never written
        metrics = "".join(map(format_epoch, record.epochs)).encode()
    if (folder / METRICS).exists() and (folder / METRICS).read_bytes() != metrics:
        yield f"{METRICS} differs from the record's epochs"
    path = folder / DIAGNOSTICS
    if path.exists() and sha256_of_file(path) != record.diagnostics_sha256:
        yield f"{DIAGNOSTICS}' SHA-256"
    try:
        yield from _export_differences(folder, record)
        read_times(folder)
        if (folder / EXPERIMENT).exists():
            current = read_experiment(folder / EXPERIMENT)
            if current.without_texts() != record.experiment.without_texts():
                yield f"{EXPERIMENT} is not the record's experiment"
    except SmidgenError as error:
        yield str(error).rstrip(".")


def _export_differences(folder: Path, record: RunRecord) -> Iterator[str]:
    """Where exported files differ from export.json, or that from the run."""
    found = read_export(folder)
    if found is None:
        return
    if found.weights_sha256 != record.weights_sha256:
        yield f"{EXPORT} is about other weights"
    for file in (file for artifact in found.artifacts for file in artifact.files):
        path = folder / file.path
        if path.exists() and sha256_of_file(path) != file.sha256:
            yield f"{file.path}'s SHA-256"


def _repeat_differences(
    record: RunRecord,
    dataset: Dataset,
    model: ModelInMemory | None,
    device: str,
    callbacks: Sequence[Callback],
) -> list[str]:
    """What differs when the run is trained again."""
    with tempfile.TemporaryDirectory() as out:
        options = RunOptions(
            seed=record.seed,
            out=out,
            device=device,
            threads=min(record.environment.threads, usable_cores()),
            backend=record.environment.backend,
        )
        again = run(record.experiment, options, callbacks, dataset, model).record
    if again is None:
        return ["trained again: its budget stops it before training"]
    epochs = again.epochs
    if all(epoch.steps is None for epoch in record.epochs):  # of a version that did not note them
        epochs = tuple(replace(epoch, steps=None) for epoch in epochs)
    pairs: Pairs = {
        "trained again: weights' SHA-256": (again.weights_sha256, record.weights_sha256),
        "trained again: epochs": (epochs, record.epochs),
    }
    differences = _differences(pairs)
    changes = record.environment.changes_to(again.environment)
    if differences and changes:
        differences.append(f"trained again with {', '.join(changes)}")
    return differences
