"""smidgen trains image classifiers that must stay small, within a budget, and proves it.

import smidgen

result = smidgen.train("gap-6k")                   # the same as `smidgen train gap-6k`
smidgen.check(result.folder).passed                # count and score again
smidgen.resume(result.folder)                      # after an interruption
smidgen.export(result.folder, to=("onnx",))        # files for other runtimes, each checked
network = smidgen.load_network(result.folder)      # in eval mode, takes raw pixels
print(smidgen.profile(my_network, (1, 28, 28)))    # layers, parameters, MACs, receptive fields
smidgen.Budget(max_params=8_000).check(my_network).passed
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from smidgen._version import __version__

if TYPE_CHECKING:
    from smidgen.budget import Budget as Budget
    from smidgen.budget import Verdict as Verdict
    from smidgen.callbacks import Callback as Callback
    from smidgen.config import Augment as Augment
    from smidgen.config import Average as Average
    from smidgen.config import Data as Data
    from smidgen.config import Experiment as Experiment
    from smidgen.config import Model as Model
    from smidgen.config import Optimizer as Optimizer
    from smidgen.config import Schedule as Schedule
    from smidgen.config import Train as Train
    from smidgen.config import find_experiment as find_experiment
    from smidgen.data import Dataset as Dataset
    from smidgen.data import load as load
    from smidgen.errors import SmidgenError as SmidgenError
    from smidgen.profiling import profile as profile
    from smidgen.record import Profile as Profile
    from smidgen.record import RunRecord as RunRecord
    from smidgen.record import read_record as read_record
    from smidgen.runs.check import CheckResult as CheckResult
    from smidgen.runs.check import check as check
    from smidgen.runs.evaluate_weights import evaluate_weights as evaluate_weights
    from smidgen.runs.export import ExportResult as ExportResult
    from smidgen.runs.export import export as export
    from smidgen.runs.load import TrainedNetwork as TrainedNetwork
    from smidgen.runs.load import load_network as load_network
    from smidgen.runs.options import RunOptions as RunOptions
    from smidgen.runs.predict import Prediction as Prediction
    from smidgen.runs.predict import predict as predict
    from smidgen.runs.result import RunResult as RunResult
    from smidgen.runs.train import resume as resume
    from smidgen.runs.train import train as train

# Threads that wait for others sleep instead of spinning. torch reads this when it is loaded. Two
# spinning threads on two cores are 5 to 8 times slower next to one other busy process
# (docs/decisions/2026-11-21-waiting-threads.md).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Imported on first use, so that `import smidgen` and `smidgen --help` stay fast.
_EXPORTS = {
    "smidgen.budget": ("Budget", "Verdict"),
    "smidgen.callbacks": ("Callback",),
    "smidgen.config": (
        *("Augment", "Average", "Data", "Experiment", "Model", "Optimizer", "Schedule", "Train"),
        "find_experiment",
    ),
    "smidgen.data": ("Dataset", "load"),
    "smidgen.errors": ("SmidgenError",),
    "smidgen.profiling": ("profile",),
    "smidgen.record": ("Profile", "RunRecord", "read_record"),
    "smidgen.runs.check": ("CheckResult", "check"),
    "smidgen.runs.evaluate_weights": ("evaluate_weights",),
    "smidgen.runs.export": ("ExportResult", "export"),
    "smidgen.runs.load": ("TrainedNetwork", "load_network"),
    "smidgen.runs.options": ("RunOptions",),
    "smidgen.runs.predict": ("Prediction", "predict"),
    "smidgen.runs.result": ("RunResult",),
    "smidgen.runs.train": ("resume", "train"),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'smidgen' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
