"""Networks from user code: a class or function in a file or a package."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from smidgen._storage.user_code import call_user_code, user_object
from smidgen.config import Argument
from smidgen.errors import ConfigError, ModelError


def build_module(
    reference: str,
    args: Mapping[str, Argument],
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> nn.Module:
    """Build the network that `reference` names: "my_model.py:Net" or "package.module:Net".

    The class or function is called with `args`. Parameters named num_classes, in_channels and
    input_shape are filled in from the data set unless `args` has them.

    Raises:
        ConfigError: no such file, package or name, or `args` do not fit its signature.
        ModelError: the user's code raises, or does not return an nn.Module.
    """
    with user_object(reference, "model.module", ModelError) as factory:
        if isinstance(factory, nn.Module):
            raise ConfigError(
                f"model.module: {reference} is a network already; name its class, or a function "
                "that returns it, so that each run starts from new weights."
            )
        if not callable(factory):
            raise ConfigError(f"model.module: {reference} is not a class or function.")
        defaults = {
            "num_classes": num_classes,
            "in_channels": input_shape[0],
            "input_shape": input_shape,
        }
        arguments = _bind(reference, factory, args, defaults)
        network: Any = call_user_code(
            f"model.module: {reference}", lambda: factory(**arguments), ModelError
        )
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"model.module: {reference} returns a {type(network).__name__}; it must return an "
            "nn.Module."
        )
    return network


def _bind(
    reference: str,
    factory: Callable[..., Any],
    args: Mapping[str, Argument],
    defaults: Mapping[str, Any],
) -> dict[str, Any]:
    """`args` and those `defaults` that `factory` has parameters for."""
    try:
        signature = inspect.signature(factory)
    except ValueError:  # written in C, without a signature
        return dict(args)
    arguments = {key: value for key, value in defaults.items() if key in signature.parameters}
    arguments |= args
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"model.args does not fit {reference}{signature}: {error}.") from None
    return arguments
