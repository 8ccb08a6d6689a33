"""Training: the one loop, and what it is made of."""

from smidgen.training.backends import (
    BACKENDS,
    Backend,
    Speed,
    choose_backend,
    forward_with,
    measure_backends,
    unsupported_reason,
)
from smidgen.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from smidgen.training.loop import TrainState, train

__all__ = [
    "BACKENDS",
    "Checkpoint",
    "Backend",
    "Speed",
    "TrainState",
    "choose_backend",
    "forward_with",
    "load_checkpoint",
    "measure_backends",
    "remove_checkpoints",
    "save_checkpoint",
    "train",
    "unsupported_reason",
]
