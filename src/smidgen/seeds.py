"""Seeds derived from a run's seed, and the global random number generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from smidgen._storage.digests import running_sha256


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive a seed from 0 to 2^63 - 1 for one purpose, unrelated to those for others.

    >>> derive_seed(0, "order", 1) == derive_seed(0, "order", 1), derive_seed(0, "order", 1) < 2**63
    (True, True)
    """
    digest = running_sha256(repr((seed, *purpose))).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Make a generator on the CPU for one purpose."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def seed_all(seed: int, *purpose: str | int) -> None:
    """Seed the global generators, which users' code draws from: torch's, Python's and numpy's."""
    value = derive_seed(seed, *purpose)
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value % 2**32)


def generators(device: torch.device) -> dict[str, Tensor]:
    """The states of the global generators, by name, on the CPU."""
    _, words, gauss = random.getstate()
    _, keys, place, cached, normal = np.random.get_state()
    found = {
        "random.torch": torch.get_rng_state(),
        "random.python": torch.tensor(words),
        "random.python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "random.numpy": torch.tensor([*map(int, keys), place, cached]),
        "random.numpy_gauss": torch.tensor([normal], dtype=torch.float64),
    }
    if device.type == "cuda":
        found["random.cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        found["random.mps"] = torch.mps.get_rng_state()
    return found


def set_generators(states: dict[str, Tensor], device: torch.device) -> None:
    """Set the global generators to states from `generators`; those of other devices stay."""
    torch.set_rng_state(states["random.torch"])
    gauss = states["random.python_gauss"].tolist() or [None]
    random.setstate((3, tuple(states["random.python"].tolist()), gauss[0]))
    *keys, place, cached = states["random.numpy"].tolist()
    (normal,) = states["random.numpy_gauss"].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), place, cached, normal))
    if device.type == "cuda" and "random.cuda" in states:
        torch.cuda.set_rng_state(states["random.cuda"], device)
    if device.type == "mps" and "random.mps" in states:
        torch.mps.set_rng_state(states["random.mps"])


@contextmanager
def preserved_generators(device: torch.device | None = None) -> Iterator[None]:
    """Restore the global generators on exit: torch's, also of `device`, Python's and numpy's."""
    device = device or torch.device("cpu")
    before = generators(device)
    try:
        yield
    finally:
        set_generators(before, device)
