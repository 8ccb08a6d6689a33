"""Data sets in memory or mapped into it, their splits and their batches."""

from smidgen.data.augment import augment, normalize
from smidgen.data.datasets import (
    Dataset,
    DatasetInfo,
    Split,
    TestSplit,
    TrainSplit,
    ValidationSplit,
)
from smidgen.data.handwriting import load_like
from smidgen.data.images import MAX_PIXELS
from smidgen.data.in_memory import InMemory, dataset_in_memory
from smidgen.data.loader import PrepareBatch, TrainLoader, eval_batches
from smidgen.data.named.catalog import qmnist_extra
from smidgen.data.source import NAMES, DatasetSource, find_data, load, open_dataset

__all__ = [
    "MAX_PIXELS",
    "NAMES",
    "Dataset",
    "DatasetInfo",
    "DatasetSource",
    "InMemory",
    "PrepareBatch",
    "Split",
    "TestSplit",
    "TrainLoader",
    "TrainSplit",
    "ValidationSplit",
    "augment",
    "dataset_in_memory",
    "eval_batches",
    "find_data",
    "load",
    "load_like",
    "normalize",
    "open_dataset",
    "qmnist_extra",
]
