"""Training: the one loop, and what it is made of."""

from smidgen.training.loop import Progress, Watch, train

__all__ = ["Progress", "Watch", "train"]
