"""How fast this machine trains one network, in each backend."""

import copy
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import nn

from smidgen.config import Experiment, Train
from smidgen.data import open_dataset
from smidgen.errors import ConfigError
from smidgen.formatting import counted, plain_table, seconds
from smidgen.kernels import Unsupported
from smidgen.runs.network import prepare_network
from smidgen.seeds import preserved_generators
from smidgen.training import BACKENDS, build_backend
from smidgen.training.device import compute_settings, require_threads
from smidgen.training.step import TrainStep

PASSES = 3  # forward once, backward twice: the gradients of inputs and of weights
_TURNS = 2  # the better one counts: other work on the machine only slows


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRow:
    """Training steps in one backend; the images are random, in memory and not augmented."""

    backend: str
    threads: int
    batch_size: int
    images_per_second: float
    share_of_peak: float
    """Arithmetic rate, as a fraction of the float32 matrix product's with as many threads."""
    epoch_seconds: float
    """For the experiment's training images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """The speed of an experiment's training steps on this machine."""

    rows: tuple[BenchmarkRow, ...]
    """The fastest first."""
    macs: int
    """Multiply-adds of the network for one image."""
    peak_gflops: dict[str, float]
    """Of a float32 matrix product of 1,024 x 1,024, by number of threads."""
    unsupported: dict[str, str]
    """Backends that cannot train the network here, and why."""

    def __str__(self) -> str:
        header = ["backend", "threads", "batch", "images/s", "of peak", "epoch"]
        rows = [
            [
                row.backend,
                str(row.threads),
                str(row.batch_size),
                f"{row.images_per_second:,.0f}",
                f"{row.share_of_peak:.0%}",
                seconds(row.epoch_seconds),
            ]
            for row in self.rows
        ]
        peaks = ", ".join(
            f"{peak:,.0f} with {counted(int(n), 'thread')}" for n, peak in self.peak_gflops.items()
        )
        return "\n".join(
            [
                plain_table([header, *rows], "<>>>>>"),
                *(f"{name} is not used because {why}" for name, why in self.unsupported.items()),
                f"peak: the float32 matrix product's GFLOP/s: {peaks}",
            ]
        )


def benchmark(
    experiment: Experiment,
    num_images: int,
    *,
    threads: Sequence[int] | None = None,
    batch_sizes: Sequence[int] | None = None,
    device: str = "auto",
    seconds: float = 0.5,
) -> Benchmark:
    """Time the training steps of `experiment`'s network, for `seconds` in each backend.

    `num_images` are the training images of an epoch. By default `threads` are one and all cores,
    and `batch_sizes` half, all and four times the experiment's own. The process's settings and
    random generators are then as before.

    Raises:
        SmidgenError: the network cannot be built or trained.
    """
    for number in (*(threads or ()), *(batch_sizes or ())):
        if number < 1:
            raise ConfigError(f"threads and batch sizes must be 1 or more, not {number}.")
    for number in threads or ():
        require_threads(number)
    own = experiment.train.batch_size
    sizes = dict.fromkeys(batch_sizes or (max(1, own // 2), own, 4 * own))
    rows: list[BenchmarkRow] = []
    unsupported: dict[str, str] = {}
    with compute_settings(device) as target, preserved_generators(target):
        counts = dict.fromkeys(threads or (1, torch.get_num_threads()))
        info = open_dataset(experiment.data).info
        network, profile = prepare_network(experiment, info)
        peaks = {count: matrix_flops(count) for count in counts}
        for size in sizes:
            settings = replace(experiment.train, batch_size=size)
            speeds, unsupported = _speeds(
                network.to(target), info.image_shape, info.num_classes, settings, counts, seconds
            )
            rows += [
                BenchmarkRow(
                    backend=name,
                    threads=count,
                    batch_size=size,
                    images_per_second=speed,
                    share_of_peak=2 * PASSES * profile.macs * speed / peaks[count],
                    epoch_seconds=num_images / speed,
                )
                for (name, count), speed in speeds.items()
            ]
    return Benchmark(
        rows=tuple(sorted(rows, key=lambda row: row.images_per_second, reverse=True)),
        macs=profile.macs,
        peak_gflops={str(count): peak / 1e9 for count, peak in peaks.items()},
        unsupported=unsupported,
    )


def matrix_flops(threads: int, side: int = 1024) -> float:
    """Operations a second of torch's float32 matrix product on the CPU, the median of five."""
    before, matrix = torch.get_num_threads(), torch.ones(side, side)
    torch.set_num_threads(threads)
    durations = []
    try:
        torch.mm(matrix, matrix)
        for _ in range(5):
            start = perf_counter()
            torch.mm(matrix, matrix)
            durations.append(perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * len(matrix) ** 3 / statistics.median(durations)


def _speeds(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    num_classes: int,
    settings: Train,
    threads: Sequence[int] | dict[int, None],
    seconds: float,
) -> tuple[dict[tuple[str, int], float], dict[str, str]]:
    """Images per second by backend and number of threads; why backends were left out."""
    device = next(network.parameters()).device
    images = torch.randn(settings.batch_size, *image_shape, device=device)
    labels = torch.randint(num_classes, (len(images),), device=device)
    steps: dict[tuple[str, int], TrainStep] = {}
    unsupported: dict[str, str] = {}
    for name in BACKENDS:
        for count in threads:
            twin = copy.deepcopy(network).train()
            try:
                backend = build_backend(name, twin, image_shape, settings, count)
            except Unsupported as reason:
                unsupported[name] = str(reason)
            else:
                steps[name, count] = TrainStep(twin, settings, backend.forward)
    speeds = dict.fromkeys(steps, 0.0)
    for _ in range(_TURNS):
        for (name, count), step in steps.items():
            torch.set_num_threads(count)
            step.step(images, labels, 0.0)  # allocates memory and warms the caches
            start, done = perf_counter(), 0
            while (passed := perf_counter() - start) < seconds / _TURNS or not done:
                step.step(images, labels, 0.0)
                _synchronize(device)
                done += len(images)
            speeds[name, count] = max(speeds[name, count], done / passed)
    return speeds, unsupported


def _synchronize(device: torch.device) -> None:
    """Wait until the device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if device.type == "mps":
        torch.mps.synchronize()
