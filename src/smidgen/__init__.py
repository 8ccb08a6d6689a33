"""smidgen trains image classifiers that must stay small, inside a budget, and proves it.

import smidgen

experiment = smidgen.find_experiment("gap-6k")
outcome = smidgen.train(experiment)                      # what `smidgen train gap-6k` does
smidgen.check(outcome.folder).passed
smidgen.resume(outcome.folder)                           # after a crash, as if there had been none
smidgen.profile(my_network, (1, 28, 28)).macs
smidgen.Budget(max_params=8_000).check(my_network).passed
"""

import importlib
from typing import TYPE_CHECKING, Any

from smidgen._version import __version__

if TYPE_CHECKING:
    from smidgen.budget import Budget as Budget
    from smidgen.budget import Verdict as Verdict
    from smidgen.callbacks import Listener as Listener
    from smidgen.config import Augment as Augment
    from smidgen.config import Average as Average
    from smidgen.config import Data as Data
    from smidgen.config import Experiment as Experiment
    from smidgen.config import Model as Model
    from smidgen.config import Optimizer as Optimizer
    from smidgen.config import Schedule as Schedule
    from smidgen.config import Train as Train
    from smidgen.config import format_experiment as format_experiment
    from smidgen.config import parse_experiment as parse_experiment
    from smidgen.config import read_experiment as read_experiment
    from smidgen.config.builtin import find_experiment as find_experiment
    from smidgen.data import load as load
    from smidgen.data import normalize as normalize
    from smidgen.errors import SmidgenError as SmidgenError
    from smidgen.profiling import profile as profile
    from smidgen.record import read_record as read_record
    from smidgen.runs.check import check as check
    from smidgen.runs.predict import predict as predict
    from smidgen.runs.run import RunOptions as RunOptions
    from smidgen.runs.run import resume as resume
    from smidgen.runs.run import run as _run

    train = _run

# Looked up when first used, so that importing smidgen, and its command's --help, stay light.
_HOMES = {
    "smidgen.budget": ("Budget", "Verdict"),
    "smidgen.runs.check": ("check",),
    "smidgen.config": (
        *("Augment", "Average", "Data", "Experiment", "Model", "Optimizer", "Schedule", "Train"),
        *("format_experiment", "parse_experiment", "read_experiment"),
    ),
    "smidgen.data": ("load", "normalize"),
    "smidgen.errors": ("SmidgenError",),
    "smidgen.config.builtin": ("find_experiment",),
    "smidgen.runs.predict": ("predict",),
    "smidgen.profiling": ("profile",),
    "smidgen.record": ("read_record",),
    "smidgen.callbacks": ("Listener",),
    "smidgen.runs.run": ("RunOptions", "resume", "train"),
}
_EXPORTS = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'smidgen' has no attribute {name!r}")
    attribute = "run" if name == "train" else name
    value = getattr(importlib.import_module(_EXPORTS[name]), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
