"""A finished run, checked against its own weights and data."""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

from smidgen.budget import Verdict
from smidgen.data import load
from smidgen.environment import settle
from smidgen.profiling import profile
from smidgen.record import WEIGHTS, RunRecord, read_record
from smidgen.run import data_record, restore, score


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
    folder: Path, data_dir: Path | None = None, device: str = "auto", skip_bad: bool = False
) -> Check:
    """Count the parameters and score the test set again, and hold both against the record.

    Raises:
        SmidgenError: the run, its weights or its data are missing or damaged.
    """
    record = read_record(folder)
    network = restore(folder, record)
    found = profile(network, record.data.image_shape)
    dataset = load(record.experiment.data, folder=data_dir, skip_bad=skip_bad).to(settle(device))
    tested = score(network.to(dataset.test.images.device), dataset, dataset.test)
    weights = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    pairs = {
        "weights' SHA-256": (weights, record.weights_sha256),
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
    }
    # other machines and thread counts sum in another order
    if not math.isclose(tested.score.loss, record.test.score.loss, rel_tol=1e-3, abs_tol=1e-6):
        pairs["test loss"] = (tested.score.loss, record.test.score.loss)
    looks = 1 + sum(epoch.test is not None for epoch in record.epochs)
    pairs["looks at the test set"] = (looks, record.test_looks)
    epochs, accuracy = len(record.epochs), tested.score.accuracy
    verdict = record.experiment.budget.check(found, epochs=epochs, accuracy=accuracy)
    pairs["verdict"] = (verdict, record.verdict)
    return Check(record=record, verdict=verdict, differences=tuple(_differences(pairs)))


def _differences(pairs: dict[str, tuple[object, object]]) -> list[str]:
    lines = []
    for name, (now, recorded) in pairs.items():
        if now != recorded:
            short = isinstance(now, int | float | str)
            lines.append(f"{name}: {now} now, {recorded} in the record" if short else name)
    return lines
