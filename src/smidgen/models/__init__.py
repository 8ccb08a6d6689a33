"""Networks, built from an experiment: the five published ones, chains, and people's own."""

from torch import nn

from smidgen.config import Model
from smidgen.errors import ConfigError
from smidgen.models.chain import build_chain
from smidgen.models.reference import REFERENCE
from smidgen.models.user_module import build_module

__all__ = ["REFERENCE", "build"]


def build(model: Model, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The network of `model`: from (batch, channels, height, width) to (batch, classes).

    Its weights are drawn from torch's global generator.

    Raises:
        ConfigError: an unknown net, an argument that it does not take, a chain that is wrong, or a
            module that is not there.
        ModelError: the code of a module raises.
    """
    if model.chain is not None:
        return build_chain(model.chain, input_shape, num_classes)
    if model.module is not None:
        return build_module(model.module, model.args, input_shape, num_classes)
    assert model.net is not None  # Model takes exactly one
    if model.net not in REFERENCE:
        raise ConfigError(f"model.net is {model.net!r}; known are {', '.join(REFERENCE)}.")
    try:
        return REFERENCE[model.net](**model.args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.args does not fit {model.net}: {error}.") from None
