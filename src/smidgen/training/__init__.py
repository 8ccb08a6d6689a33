"""Training: the one loop, and what it is made of."""

from smidgen.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    packed,
    remove_checkpoints,
    save_checkpoint,
)
from smidgen.training.forms import FORMS, Form, Speed, choose_form, measure_forms, why_not
from smidgen.training.loop import Progress, State, Watch, train

__all__ = [
    "FORMS",
    "Checkpoint",
    "Form",
    "Progress",
    "Speed",
    "State",
    "Watch",
    "choose_form",
    "load_checkpoint",
    "measure_forms",
    "packed",
    "remove_checkpoints",
    "save_checkpoint",
    "train",
    "why_not",
]
