"""Experiments: what to do, as frozen dataclasses, and the TOML files that hold them."""

from smidgen.config.builtin import find_experiment, find_model, known_experiments
from smidgen.config.experiment import (
    Argument,
    Augment,
    Average,
    Budget,
    Data,
    Experiment,
    Model,
    Optimizer,
    Schedule,
    Train,
    TrainTestSplit,
    read_experiment,
)

__all__ = [
    "Argument",
    "Augment",
    "Average",
    "Budget",
    "Data",
    "Experiment",
    "Model",
    "Optimizer",
    "Schedule",
    "Train",
    "TrainTestSplit",
    "find_experiment",
    "find_model",
    "known_experiments",
    "read_experiment",
]
