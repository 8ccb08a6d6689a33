"""Networks built from an experiment: a reference network, a chain, or a user's module."""

import warnings

from torch import nn

from smidgen.config import Model
from smidgen.errors import ConfigError, did_you_mean
from smidgen.models.chain import build_chain
from smidgen.models.lazy import initialize_lazy
from smidgen.models.reference import REFERENCE
from smidgen.models.user_module import ModelInMemory, build_in_memory, build_module

__all__ = ["REFERENCE", "ModelInMemory", "build", "initialize_lazy"]


def build(
    model: Model,
    input_shape: tuple[int, int, int],
    num_classes: int,
    in_memory: ModelInMemory | None = None,
) -> nn.Module:
    """Build the network of `model`: (batch, channels, height, width) to (batch, classes).

    Weights are drawn from torch's global generator. Lazy layers are initialized by one image of
    `input_shape`. `in_memory` is the network that `model` only names, or what makes it.

    Raises:
        ConfigError: an unknown net, chain token or module, or arguments that do not fit.
        ModelError: the user's module raises.
    """
    if model.chain is not None:
        return build_chain(model.chain, input_shape, num_classes)
    if model.module is not None or model.in_memory is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Lazy modules", UserWarning)
            if model.module is not None:
                network = build_module(model.module, model.args, input_shape, num_classes)
            else:
                network = build_in_memory(model, in_memory, input_shape, num_classes)
            initialize_lazy(network, input_shape)
        return network
    assert model.net is not None  # Model takes exactly one
    if model.net not in REFERENCE:
        raise ConfigError(
            f"model.net is {model.net!r}; available are {', '.join(REFERENCE)}."
            + did_you_mean(model.net, REFERENCE)
        )
    try:
        return REFERENCE[model.net](**model.args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.args does not fit {model.net}: {error}.") from None
