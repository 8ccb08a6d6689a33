"""Backends: the ways to compute a training step, and the rule that chooses one.

They give the same results up to rounding. The rule depends only on network, batch size, device and
machine; docs/decisions/2026-11-25-backend-rule.md has the measurements that it was made from.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from smidgen.config import Train
from smidgen.data import PrepareBatch
from smidgen.errors import ConfigError
from smidgen.formatting import counted
from smidgen.kernels import Unsupported, build_native_network, prepare_batch

BACKENDS = ("eager", "channels-last", "native")
"""PyTorch as it is; with its channels-last memory format; with native kernels (docs/kernels.md)."""

Shape = tuple[int, int, int]

_MACS_PER_THREAD = 1e8
"""Multiply-adds in a forward pass of one batch that keep a thread busy."""
_WIDE = 8
"""Channels per convolution, on average, from which on channels-last is faster than eager."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """How one network's training steps are computed."""

    name: str
    """One of BACKENDS."""
    threads: int
    """CPU threads."""
    reason: str
    """Why this backend was chosen, in words that follow "because"."""
    forward: Callable[[Tensor], Tensor] = field(repr=False, compare=False)
    """Returns the network's training scores (batch, classes) for a batch of images."""
    prepare: PrepareBatch | None = field(default=None, repr=False, compare=False)
    """Prepares batches of images; None leaves that to PyTorch."""

    def __str__(self) -> str:
        threads = counted(self.threads, "thread")
        return f"backend: {self.name}, {threads}, because {self.reason}"


def choose_backend(
    network: nn.Module,
    image_shape: Shape,
    settings: Train,
    macs: int,
    *,
    name: str = "auto",
    threads: int | None = None,
) -> Backend:
    """Return the backend called `name`, or the one that the rule chooses for `network`.

    The rule: eager without convolutions; native if it supports the network here; otherwise
    channels-last on a CPU if the convolutions have at least 8 channels on average; otherwise eager.
    One thread for each 10^8 multiply-adds of a batch's forward pass, up to torch's number of
    threads, unless `threads` is given. `macs` are the network's multiply-adds for one image.
    Nothing is timed: the same experiment always gets the same backend on the same machine.

    Raises:
        ConfigError: there is no backend called `name`, or it cannot train this network here.
    """
    threads = threads or choose_threads(macs * settings.batch_size, torch.get_num_threads())
    if name != "auto":
        if name not in BACKENDS:
            raise ConfigError(
                f"--backend is {name!r}; it must be one of auto, {', '.join(BACKENDS)}."
            )
        try:
            return build_backend(name, network, image_shape, settings, threads)
        except Unsupported as unsupported:
            raise ConfigError(
                f"--backend {name} cannot train this network here because {unsupported}."
            ) from None
    channels, device = _mean_channels(network), next(network.parameters()).device.type
    if not channels:
        reason = "the network has no convolutions"
        return build_backend("eager", network, image_shape, settings, threads, reason)
    try:
        reason = "its kernels support this network on this machine"
        return build_backend("native", network, image_shape, settings, threads, reason)
    except Unsupported as unsupported:
        name = "channels-last" if channels >= _WIDE and device == "cpu" else "eager"
        reason = (
            f"the convolutions have {channels:.3g} channels on average, on {device}, and native "
            f"cannot be used: {unsupported}"
        )
        return build_backend(name, network, image_shape, settings, threads, reason)


def choose_threads(macs: int, available: int) -> int:
    """CPU threads for a batch whose forward pass takes `macs` multiply-adds.

    >>> choose_threads(90_000_000, 8), choose_threads(250_000_000, 8), choose_threads(10**12, 8)
    (1, 3, 8)
    """
    return min(available, 1 + int(macs // _MACS_PER_THREAD))


def build_backend(
    name: str,
    network: nn.Module,
    image_shape: Shape,
    settings: Train,
    threads: int,
    reason: str = "it was requested",
) -> Backend:
    """Return the backend called `name` for `network`, whose memory format may change.

    Raises:
        Unsupported: it cannot train this network here; says why.
    """
    device, bfloat16 = next(network.parameters()).device.type, settings.precision == "bfloat16"
    if name == "native":
        if device != "cpu":
            raise Unsupported(f"its kernels are for the CPU, not for {device}")
        native = build_native_network(
            network,
            image_shape,
            batch_size=settings.batch_size,
            threads=threads,
            bfloat16=bfloat16,
        )
        prepare = partial(prepare_batch, threads=threads)
        return Backend(name=name, threads=threads, reason=reason, forward=native, prepare=prepare)
    layout = torch.channels_last if name == "channels-last" else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]

    def forward(images: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            scores: Tensor = network(images.contiguous(memory_format=layout))
        return scores.float()

    return Backend(name=name, threads=threads, reason=reason, forward=forward)


def _mean_channels(network: nn.Module) -> float:
    """Output channels of a convolution, on average; 0 if there are none."""
    channels = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    return sum(channels) / max(1, len(channels))
