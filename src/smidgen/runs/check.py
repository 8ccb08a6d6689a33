"""A finished run, checked against its own weights, files and data."""

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from smidgen._storage.digests import sha256_of_file
from smidgen.budget import Verdict
from smidgen.config import read_experiment, without_words
from smidgen.data import Dataset, load
from smidgen.training.device import settle
from smidgen.errors import SmidgenError
from smidgen.profiling import profile
from smidgen.record import (
    DIAGNOSTICS,
    EXPERIMENT,
    METRICS,
    RECORD,
    WEIGHTS,
    RunRecord,
    format_epoch,
    is_sealed,
    read_record,
    read_times,
)
from smidgen.runs.load import restore
from smidgen.runs.run import RunOptions, run
from smidgen.runs.stages import data_record, score


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What a check found: the verdict over the figures as measured now, and what differs."""

    record: RunRecord
    verdict: Verdict
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the budget is kept and nothing differs from the record."""
        return self.verdict.passed and not self.differences


def check(
    folder: Path,
    data_dir: Path | None = None,
    device: str = "auto",
    skip_bad: bool = False,
    repeat: bool = False,
) -> Check:
    """Count the parameters and score the test set again, and hold both against the record.

    The folder's other files are held against it, too: metrics, experiment, pictures, and the record
    against its own digest. With `repeat` the run is trained again, with its seed, number of threads
    and backend, and must come to the same weights and metrics, byte for byte.

    Raises:
        SmidgenError: the run, its weights or its data are missing or damaged.
    """
    record = read_record(folder, edited=True)
    network = restore(folder, record, other=True)
    found = profile(network, record.data.image_shape)
    dataset = load(record.experiment.data, folder=data_dir, skip_bad=skip_bad)
    there = dataset.to(settle(device))
    tested = score(network.to(there.test.images.device), there, there.test)
    pairs = {
        "weights' SHA-256": (sha256_of_file(folder / WEIGHTS), record.weights_sha256),
        "data's SHA-256": (dataset.sha256, record.data.sha256),
        # where the same data is may differ
        "data": (replace(data_record(dataset), source=record.data.source), record.data),
        "profile": (found, record.profile),
        "parameters": (found.num_params, record.profile.num_params),
        "right test images": (tested.num_correct, record.test.num_correct),
        "test images": (tested.num_images, record.test.num_images),
        "test accuracy": (tested.score.accuracy, record.test.score.accuracy),
        "confusion matrix": (tested.confusion, record.test.confusion),
        "epochs": (len(record.epochs), record.experiment.train.epochs),
        "numbers of the epochs": (
            tuple(epoch.epoch for epoch in record.epochs),
            tuple(range(1, len(record.epochs) + 1)),
        ),
    }
    # other machines and thread counts sum in another order
    if not math.isclose(tested.score.loss, record.test.score.loss, rel_tol=1e-3, abs_tol=1e-6):
        pairs["test loss"] = (tested.score.loss, record.test.score.loss)
    looks = 1 + sum(epoch.test is not None for epoch in record.epochs)
    pairs["looks at the test set"] = (looks, record.test_looks)
    epochs, accuracy = len(record.epochs), tested.score.accuracy
    verdict = record.experiment.budget.check(found, epochs=epochs, accuracy=accuracy)
    pairs["verdict"] = (verdict, record.verdict)
    differences = [*_differences(pairs), *_spoilt_files(folder, record)]
    if repeat:
        differences += _repeated(record, dataset, device)
    return Check(record=record, verdict=verdict, differences=tuple(differences))


def _differences(pairs: dict[str, tuple[object, object]]) -> list[str]:
    lines = []
    for name, (now, recorded) in pairs.items():
        if now != recorded:
            short = isinstance(now, int | float | str)
            lines.append(f"{name}: {now} now, {recorded} in the record" if short else name)
    return lines


def _spoilt_files(folder: Path, record: RunRecord) -> Iterator[str]:
    """What the folder's other files say otherwise than the record; a file may be missing."""
    if not is_sealed((folder / RECORD).read_bytes().decode(errors="replace")):
        yield f"{RECORD} was changed after it was written: it does not have the SHA-256 it says"
    metrics = None
    with contextlib.suppress(ValueError):  # a figure that is no number is never written
        metrics = "".join(map(format_epoch, record.epochs)).encode()
    if (folder / METRICS).exists() and (folder / METRICS).read_bytes() != metrics:
        yield f"{METRICS} is not what the record says of the epochs"
    if (folder / DIAGNOSTICS).exists() and sha256_of_file(folder / DIAGNOSTICS) != record.diagnostics_sha256:
        yield f"{DIAGNOSTICS}' SHA-256"
    try:
        read_times(folder)
        if (folder / EXPERIMENT).exists():
            there = read_experiment(folder / EXPERIMENT)
            if without_words(there) != without_words(record.experiment):
                yield f"{EXPERIMENT} is not the record's experiment"
    except SmidgenError as error:
        yield str(error).rstrip(".")


def _repeated(record: RunRecord, dataset: Dataset, device: str) -> list[str]:
    """What comes out otherwise when the run is trained again."""
    with tempfile.TemporaryDirectory() as out:
        where = RunOptions(
            seed=record.seed,
            out=Path(out),
            device=device,
            threads=record.environment.threads,
            backend=record.environment.backend,
        )
        again = run(record.experiment, where, dataset=dataset).record
    if again is None:
        return ["trained again: its budget stops it before training"]
    pairs: dict[str, tuple[object, object]] = {
        "trained again: weights' SHA-256": (again.weights_sha256, record.weights_sha256),
        "trained again: epochs": (again.epochs, record.epochs),
    }
    return _differences(pairs)
