"""What a run needs for its first step besides network and profile: data and backend."""

from dataclasses import dataclass

import torch
from torch import nn

from smidgen.config import Experiment
from smidgen.data import Dataset
from smidgen.record import DataRecord, Environment, Profile
from smidgen.runs.options import RunOptions
from smidgen.training import Backend, choose_backend
from smidgen.training.device import describe_environment


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedRun:
    """Everything that training needs."""

    network: nn.Module
    """With its initial weights, on the device that trains."""
    profile: Profile
    dataset: Dataset
    """On the device that trains."""
    backend: Backend
    """Computes the network's training steps."""
    environment: Environment


def prepare_run(
    network: nn.Module,
    profile: Profile,
    dataset: Dataset,
    experiment: Experiment,
    options: RunOptions,
    device: torch.device,
) -> PreparedRun:
    """Choose a backend for `network`, and move it and the data to `device`.

    The process has the backend's number of threads from then on.

    Raises:
        ConfigError: the backend that the options name cannot train this network here.
    """
    backend = choose_backend(
        network.to(device),
        dataset.image_shape,
        experiment.train,
        profile.macs,
        name=options.backend,
        threads=options.threads,
    )
    torch.set_num_threads(backend.threads)
    return PreparedRun(
        network=network,
        profile=profile,
        dataset=dataset.to(device),
        backend=backend,
        environment=describe_environment(device, backend.name),
    )


def data_record(dataset: Dataset) -> DataRecord:
    """What a run's record says of its data."""
    return DataRecord(
        name=dataset.name,
        source=dataset.source,
        sha256=dataset.sha256,
        num_train=len(dataset.train.labels),
        num_validation=len(dataset.validation.labels) if dataset.validation else 0,
        num_test=len(dataset.test.labels),
        image_shape=dataset.image_shape,
        mean=dataset.mean,
        std=dataset.std,
        classes=dataset.classes,
        notes=dataset.notes,
    )


def in_memory_caveats(experiment: Experiment) -> tuple[str, ...]:
    """What a record cannot bring back, a sentence each."""
    passed = {"network": experiment.model.in_memory, "data set": experiment.data.in_memory}
    return tuple(
        f"The {what} ({name}) was passed in Python, so the record alone cannot repeat the run."
        for what, name in passed.items()
        if name is not None
    )
