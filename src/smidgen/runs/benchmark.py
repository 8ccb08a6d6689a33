"""What this machine gives: the speed of one network's training steps in all its backends."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from smidgen.config import Experiment
from smidgen.data import open_dataset
from smidgen.errors import ConfigError
from smidgen.runs.prepare import prepare_network
from smidgen.training import BACKENDS, measure_backends, unsupported_reason
from smidgen.training.device import require_threads, settle

PASSES = 3  # forward once, backward twice: the gradients of inputs and of weights


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchRow:
    """Steps in one backend; the images are random, in memory and not augmented."""

    backend: str
    threads: int
    batch_size: int
    images_per_second: float
    share_of_peak: float
    """Of the float32 matrix product's operations a second with as many threads."""
    epoch_seconds: float
    """For the experiment's training images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """All backends, the fastest first."""

    rows: tuple[BenchRow, ...]
    macs: int
    peak_gflops: dict[str, float]
    """By number of threads: of a float32 matrix product of 1,024 x 1,024."""
    left_out: dict[str, str]
    """Forms that the network does not have here, and why."""


def bench(
    experiment: Experiment,
    num_images: int,
    *,
    threads: Sequence[int] | None = None,
    batch_sizes: Sequence[int] | None = None,
    device: str = "auto",
    seconds: float = 0.5,
) -> Bench:
    """Time the steps of `experiment`'s network, for `seconds` in each backend.

    `num_images` are the training images of an epoch. `threads` and `batch_sizes` left out: one and
    all cores, and half, all and four times the experiment's own.

    Raises:
        SmidgenError: the network cannot be built or trained.
    """
    place = settle(device)
    for number in (*(threads or ()), *(batch_sizes or ())):
        if number < 1:
            raise ConfigError(f"threads and batch sizes must be 1 or more, not {number}.")
    for number in threads or ():
        require_threads(number)
    numbers = list(dict.fromkeys(threads or (1, torch.get_num_threads())))
    info = open_dataset(experiment.data).info
    network, found = prepare_network(experiment, info)
    network.to(place)
    shape = info.image_shape
    reasons = {backend: unsupported_reason(backend, network, shape) for backend in BACKENDS}
    backends = [backend for backend, reason in reasons.items() if reason is None]
    peaks = {number: matrix_flops(number) for number in numbers}
    rows = []
    own = experiment.train.batch_size
    for size in dict.fromkeys(batch_sizes or (max(1, own // 2), own, 4 * own)):
        settings = replace(experiment.train, batch_size=size)
        for speed in measure_backends(network, shape, settings, backends, numbers, seconds):
            work = 2 * PASSES * found.macs * speed.images_per_second
            rows.append(
                BenchRow(
                    backend=speed.backend.name,
                    threads=speed.backend.threads,
                    batch_size=size,
                    images_per_second=speed.images_per_second,
                    share_of_peak=work / peaks[speed.backend.threads],
                    epoch_seconds=num_images / speed.images_per_second,
                )
            )
    return Bench(
        rows=tuple(sorted(rows, key=lambda row: row.images_per_second, reverse=True)),
        macs=found.macs,
        peak_gflops={str(number): peak / 1e9 for number, peak in peaks.items()},
        left_out={backend: reason for backend, reason in reasons.items() if reason is not None},
    )


def matrix_flops(threads: int, side: int = 1024) -> float:
    """Operations a second of torch's float32 matrix product on the CPU, the median of five."""
    before, matrix = torch.get_num_threads(), torch.ones(side, side)
    torch.set_num_threads(threads)
    taken = []
    try:
        torch.mm(matrix, matrix)
        for _ in range(5):
            begun = time.perf_counter()
            torch.mm(matrix, matrix)
            taken.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return 2 * len(matrix) ** 3 / statistics.median(taken)
