"""Training: the one loop, and what it is made of."""

from smidgen.training.backends import BACKENDS, Backend, build_backend, choose_backend
from smidgen.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from smidgen.training.loop import train

__all__ = [
    "BACKENDS",
    "Backend",
    "Checkpoint",
    "build_backend",
    "choose_backend",
    "load_checkpoint",
    "remove_checkpoints",
    "save_checkpoint",
    "train",
]
