"""Training: the one loop, and what it is made of."""

from smidgen.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from smidgen.training.loop import Progress, State, Watch, train

__all__ = [
    "Checkpoint",
    "Progress",
    "State",
    "Watch",
    "load_checkpoint",
    "remove_checkpoints",
    "save_checkpoint",
    "train",
]
