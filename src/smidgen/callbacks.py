"""Who is told as a run goes on."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from smidgen.data import Dataset
from smidgen.record import Epoch, Profile
from smidgen.training import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """What is told as a run goes on; a display is one."""

    ready: Callable[[Dataset, Profile, Path], None] = lambda *_: None
    """Before the first step, with the run's folder."""
    note: Callable[[str], None] = lambda _: None
    """What the person should know, a sentence."""
    past: Callable[[Epoch, float], None] = lambda *_: None
    """An epoch of before the run was stopped, with its seconds."""
    batch: Callable[[Progress], None] = lambda _: None
    epoch: Callable[[Epoch, float], None] = lambda *_: None


def together(*listeners: Listener) -> Listener:
    """One listener that tells all of `listeners`, in their order."""

    def to_all(name: str) -> Callable[..., None]:
        def tell(*words: object) -> None:
            for listener in listeners:
                getattr(listener, name)(*words)

        return tell

    return Listener(**{field.name: to_all(field.name) for field in fields(Listener)})
