"""Networks from user code: a class or function in a file or a package."""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from smidgen._storage.user_code import call_user_code, user_object
from smidgen.config import Argument, Model
from smidgen.errors import ConfigError, ModelError

ModelInMemory = nn.Module | Callable[..., nn.Module]
"""A network, which is copied, or a class or function that makes one."""


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
        return _call(f"model.module: {reference}", factory, args, input_shape, num_classes)


def build_in_memory(
    model: Model,
    in_memory: ModelInMemory | None,
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> nn.Module:
    """Copy the network `in_memory`, or call the class or function to make it, as `build_module`.

    Raises:
        ConfigError: it was not passed, or `model.args` do not fit its signature.
        ModelError: it raises, or does not return an nn.Module.
    """
    if in_memory is None:
        raise ConfigError(
            f"the network {model.in_memory} was passed in Python and cannot be built from a file; "
            "pass it again: model=..."
        )
    if isinstance(in_memory, nn.Module):
        return copy.deepcopy(in_memory)
    if not callable(in_memory):
        raise ConfigError(f"model is {in_memory!r}; it must be an nn.Module or what makes one.")
    return _call(f"model {model.in_memory}", in_memory, model.args, input_shape, num_classes)


def _call(
    what: str,
    factory: Callable[..., Any],
    args: Mapping[str, Argument],
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> nn.Module:
    """The network that `factory` returns; `what` names it in messages."""
    defaults = {
        "num_classes": num_classes,
        "in_channels": input_shape[0],
        "input_shape": input_shape,
    }
    arguments = _bind(what, factory, args, defaults)
    network: Any = call_user_code(what, lambda: factory(**arguments), ModelError)
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"{what} returns a value of type {type(network).__name__}; it must return an nn.Module."
        )
    return network


def _bind(
    what: str,
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
        raise ConfigError(
            f"model.args does not fit {what.rpartition(' ')[2]}{signature}: {error}."
        ) from None
    return arguments
