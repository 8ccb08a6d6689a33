"""The ways to compute a training step, all of one mathematics, and which is the fastest here."""

import contextlib
import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smidgen._storage.cache import cache_folder
from smidgen._storage.digests import sha256_of
from smidgen._storage.files import make_folder, write_atomic
from smidgen._storage.serialization import from_plain, to_plain
from smidgen._version import __version__
from smidgen.config import Train
from smidgen.errors import ConfigError, SmidgenError
from smidgen.kernels import Unsupported, build_native_network
from smidgen.kernels.build import processor_name
from smidgen.training.step import TrainStep

BACKENDS = ("eager", "channels-last", "native")
"""torch as it is; its tensors with channels side by side; kernels of our own (docs/kernels.md)."""

Shape = tuple[int, int, int]

_TURNS = 2  # the better one counts: other work on the machine only ever slows
_FEW_IMAGES = 50_000  # in all epochs: over before a choice has paid


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """How a run's steps are computed."""

    name: str
    """One of BACKENDS."""
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What one backend gives here; the images are random, in memory and not augmented."""

    backend: Backend
    images_per_second: float


def choose_backend(
    network: nn.Module,
    image_shape: Shape,
    settings: Train,
    num_images: int,
    backends: Sequence[str] = BACKENDS,
    threads: Sequence[int] | None = None,
) -> Backend:
    """The fastest backend for `network` on its device: measured once, then remembered.

    `num_images` is how many an epoch has: a short run takes the first backend, unmeasured.
    `threads` are the numbers of threads to choose from, one and all cores if they are left out.

    Raises:
        ConfigError: none of `backends` is one for this network on this machine.
    """
    numbers = threads or sorted({1, torch.get_num_threads()})
    if settings.epochs * num_images < _FEW_IMAGES:
        backends, numbers = backends[:1], numbers[-1:]
    reasons = {backend: unsupported_reason(backend, network, image_shape) for backend in backends}
    possible = [backend for backend, reason in reasons.items() if reason is None]
    if not possible:
        said = "; ".join(
            f"{backend} is not used, since {reason}" for backend, reason in reasons.items()
        )
        raise ConfigError(f"--backend: {said}.")
    if len(possible) == len(numbers) == 1:
        return Backend(name=possible[0], threads=numbers[0])
    key = _key(network, image_shape, settings, possible, numbers)
    found = _remembered(key)
    if found is None:
        speeds = measure_backends(network, image_shape, settings, possible, numbers)
        found = max(speeds, key=lambda speed: speed.images_per_second).backend
        _remember(key, found)
    return found


def forward_with(
    backend: str, network: nn.Module, image_shape: Shape, bfloat16: bool, batch_size: int = 128
) -> Callable[[Tensor], Tensor]:
    """`network` in training, computed in `backend`; its weights may change their layout.

    `bfloat16`: products in bfloat16.

    Raises:
        Unsupported: this network, or this machine, has no such backend; says why.
    """
    device = next(network.parameters()).device.type
    if backend == "native":
        if device != "cpu":
            raise Unsupported(f"its kernels are for the CPU, not for {device}")
        return build_native_network(
            network,
            image_shape,
            batch_size=batch_size,
            threads=torch.get_num_threads(),
            bfloat16=bfloat16,
        )
    layout = torch.channels_last if backend == "channels-last" else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]

    def forward(images: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            scores: Tensor = network(images.contiguous(memory_format=layout))
        return scores.float()

    return forward


def unsupported_reason(backend: str, network: nn.Module, image_shape: Shape) -> str | None:
    """Why `network` cannot be computed in `backend`, to finish "not used, since"; else None."""
    if backend not in BACKENDS:
        return f"it must be one of {', '.join(BACKENDS)}"
    if backend == "native":
        try:
            forward_with(backend, network, image_shape, bfloat16=False)
        except Unsupported as reason:
            return str(reason)
    return None


def measure_backends(
    network: nn.Module,
    image_shape: Shape,
    settings: Train,
    backends: Sequence[str],
    threads: Sequence[int],
    seconds: float = 0.3,
) -> list[Speed]:
    """The speed of training steps in each backend with each number of threads, in turns.

    The network, the number of threads and torch's generator are then as they were.
    """
    device, half = next(network.parameters()).device, settings.precision == "bfloat16"
    before, state = torch.get_num_threads(), torch.get_rng_state()
    candidates = [
        Backend(name=backend, threads=number) for backend in backends for number in threads
    ]
    best = dict.fromkeys(candidates, 0.0)
    try:
        images = torch.randn(settings.batch_size, *image_shape, device=device)
        with torch.no_grad():
            classes = copy.deepcopy(network).eval()(images[:1]).shape[1]
        labels = torch.randint(classes, (len(images),), device=device)
        for _ in range(_TURNS):
            for backend in candidates:
                torch.set_num_threads(backend.threads)
                twin = copy.deepcopy(network).train()
                learner = TrainStep(
                    twin, settings, forward_with(backend.name, twin, image_shape, half)
                )
                learner.step(images, labels, 0.0)  # makes room, and warms the caches
                begun, steps = time.perf_counter(), 0
                while (passed := time.perf_counter() - begun) < seconds / _TURNS or not steps:
                    learner.step(images, labels, 0.0)
                    _wait(device)
                    steps += 1
                best[backend] = max(best[backend], steps * len(images) / passed)
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(state)
    return [Speed(backend=backend, images_per_second=speed) for backend, speed in best.items()]


def _wait(device: torch.device) -> None:
    """Until what was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if device.type == "mps":
        torch.mps.synchronize()


def _key(
    network: nn.Module,
    image_shape: Shape,
    settings: Train,
    backends: Sequence[str],
    threads: Sequence[int],
) -> str:
    """A name for all that the choice may depend on."""
    device = next(network.parameters()).device
    parts = [repr(network), image_shape, settings.batch_size, settings.optimizer.name]
    parts += [settings.average.name, settings.precision, backends, threads, device.type]
    parts += [torch.__version__, __version__, processor_name()]
    return sha256_of(repr(parts))[:20]


def _remembered(key: str) -> Backend | None:
    try:
        return from_plain(
            Backend, json.loads((cache_folder("backends") / f"{key}.json").read_bytes())
        )
    except (OSError, SmidgenError, ValueError, RecursionError):
        return None


def _remember(key: str, backend: Backend) -> None:
    """Keep the choice; where there is no place for it, it is measured again next time."""
    with contextlib.suppress(SmidgenError):
        folder = make_folder(cache_folder("backends"))
        write_atomic(folder / f"{key}.json", json.dumps(to_plain(backend)) + "\n")
