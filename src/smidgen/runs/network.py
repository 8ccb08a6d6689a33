"""An experiment's network, as it is before training."""

from torch import nn

from smidgen.config import Experiment
from smidgen.data import DatasetInfo
from smidgen.models import ModelInMemory, build
from smidgen.profiling import check_output, profile
from smidgen.record import Profile
from smidgen.seeds import seed_all


def prepare_network(
    experiment: Experiment, info: DatasetInfo, seed: int = 0, model: ModelInMemory | None = None
) -> tuple[nn.Module, Profile]:
    """Build the experiment's network with the initial weights of `seed`, and profile it.

    `model` is the network, or what makes it, if the experiment says that it is passed in Python.

    Raises:
        ConfigError, ModelError: it cannot be built, or does not return (batch, classes).
    """
    seed_all(seed, "network")
    network = build(experiment.model, info.image_shape, info.num_classes, model)
    found = profile(network, info.image_shape)
    check_output(found, info.num_classes)
    return network, found
