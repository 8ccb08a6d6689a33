"""The ways to compute a training step, all of one mathematics, and which is the fastest here."""

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import smidgen
from smidgen.cache import cache_folder
from smidgen.config import Train
from smidgen.environment import processor
from smidgen.errors import ConfigError, SmidgenError
from smidgen.files import ensure_folder, write_whole
from smidgen.lanes import Unsupported, lanes_for
from smidgen.schema import from_plain, to_plain
from smidgen.training.learner import Learner

FORMS = ("eager", "channels-last", "lanes")
"""torch as it is; its tensors with channels side by side; kernels of our own (docs/lanes.md)."""

Shape = tuple[int, int, int]

_TURNS = 2  # the better one counts: other work on the machine only ever slows
_FEW_IMAGES = 50_000  # in all epochs: over before a choice has paid


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How a run's steps are computed."""

    name: str
    """One of FORMS."""
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What one form gives here; the images are random, in memory and not augmented."""

    form: Form
    images_per_second: float


def choose_form(
    network: nn.Module,
    image_shape: Shape,
    settings: Train,
    num_images: int,
    forms: Sequence[str] = FORMS,
    threads: Sequence[int] | None = None,
) -> Form:
    """The fastest form for `network` on its device: measured once, then remembered.

    `num_images` is how many an epoch has: a short run takes the first form without a measurement.
    `threads` are the numbers of threads to choose from, one and all cores if they are left out.

    Raises:
        ConfigError: none of `forms` is one for this network on this machine.
    """
    numbers = threads or sorted({1, torch.get_num_threads()})
    if settings.epochs * num_images < _FEW_IMAGES:
        forms, numbers = forms[:1], numbers[-1:]
    reasons = {form: why_not(form, network, image_shape) for form in forms}
    possible = [form for form, reason in reasons.items() if reason is None]
    if not possible:
        said = "; ".join(f"{form} is not used, since {reason}" for form, reason in reasons.items())
        raise ConfigError(f"--form: {said}.")
    if len(possible) == len(numbers) == 1:
        return Form(name=possible[0], threads=numbers[0])
    key = _key(network, image_shape, settings, possible, numbers)
    found = _remembered(key)
    if found is None:
        speeds = measure_forms(network, image_shape, settings, possible, numbers)
        found = max(speeds, key=lambda speed: speed.images_per_second).form
        _remember(key, found)
    return found


def forward_in(
    form: str, network: nn.Module, image_shape: Shape, half: bool
) -> Callable[[Tensor], Tensor]:
    """`network` in training, computed in `form`; its weights may change their layout.

    `half`: products in bfloat16.

    Raises:
        Unsupported: this network, or this machine, has no such form; says why.
    """
    device = next(network.parameters()).device.type
    if form == "lanes":
        if device != "cpu":
            raise Unsupported(f"its kernels are for the CPU, not for {device}")
        return lanes_for(network, image_shape, threads=torch.get_num_threads(), half=half)
    layout = torch.channels_last if form == "channels-last" else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]

    def forward(images: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            scores: Tensor = network(images.contiguous(memory_format=layout))
        return scores.float()

    return forward


def why_not(form: str, network: nn.Module, image_shape: Shape) -> str | None:
    """Why `network` cannot be computed in `form` here, to finish "not used, since"; else None."""
    if form not in FORMS:
        return f"it must be one of {', '.join(FORMS)}"
    if form == "lanes":
        try:
            forward_in(form, network, image_shape, half=False)
        except Unsupported as reason:
            return str(reason)
    return None


def measure_forms(
    network: nn.Module,
    image_shape: Shape,
    settings: Train,
    forms: Sequence[str],
    threads: Sequence[int],
    seconds: float = 0.3,
) -> list[Speed]:
    """The speed of training steps in each form with each number of threads, in turns.

    The network, the number of threads and torch's generator are then as they were.
    """
    device, half = next(network.parameters()).device, settings.precision == "bfloat16"
    before, state = torch.get_num_threads(), torch.get_rng_state()
    candidates = [Form(name=form, threads=number) for form in forms for number in threads]
    best = dict.fromkeys(candidates, 0.0)
    try:
        images = torch.randn(settings.batch_size, *image_shape, device=device)
        with torch.no_grad():
            classes = copy.deepcopy(network).eval()(images[:1]).shape[1]
        labels = torch.randint(classes, (len(images),), device=device)
        for _ in range(_TURNS):
            for form in candidates:
                torch.set_num_threads(form.threads)
                twin = copy.deepcopy(network).train()
                learner = Learner(twin, settings, forward_in(form.name, twin, image_shape, half))
                learner.step(images, labels, 0.0)  # makes room, and warms the caches
                begun, steps = time.perf_counter(), 0
                while (passed := time.perf_counter() - begun) < seconds / _TURNS or not steps:
                    learner.step(images, labels, 0.0)
                    _wait(device)
                    steps += 1
                best[form] = max(best[form], steps * len(images) / passed)
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(state)
    return [Speed(form=form, images_per_second=speed) for form, speed in best.items()]


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
    forms: Sequence[str],
    threads: Sequence[int],
) -> str:
    """A name for all that the choice may depend on."""
    device = next(network.parameters()).device
    parts = [repr(network), image_shape, settings.batch_size, settings.optimizer.name]
    parts += [settings.average.name, settings.precision, forms, threads, device.type]
    parts += [torch.__version__, smidgen.__version__, processor()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def _remembered(key: str) -> Form | None:
    try:
        return from_plain(Form, json.loads((cache_folder("forms") / f"{key}.json").read_bytes()))
    except (OSError, SmidgenError, ValueError, RecursionError):
        return None


def _remember(key: str, form: Form) -> None:
    """Keep the choice; where there is no place for it, it is measured again next time."""
    with contextlib.suppress(SmidgenError):
        folder = ensure_folder(cache_folder("forms"))
        write_whole(folder / f"{key}.json", json.dumps(to_plain(form)) + "\n")
