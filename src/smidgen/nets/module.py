"""A person's own network: a class or function in their file or package.

Loading it runs their code. That happens only for an experiment or run that the person named.
"""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from smidgen.config import Argument
from smidgen.errors import ConfigError, ModelError


def build_module(
    reference: str,
    args: Mapping[str, Argument],
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> nn.Module:
    """The network that `reference` makes: "my_model.py:Net" or "package.module:Net".

    It is called with `args`, and with num_classes, in_channels and input_shape where it has
    parameters of these names that `args` leaves out.

    Raises:
        ConfigError: no such file, package or name, or arguments that it does not take.
        ModelError: the person's code raises (says where), or gives no nn.Module.
    """
    source, _, name = reference.rpartition(":")
    if not source or not name:
        raise ConfigError(
            f"model.module is {reference!r}; it is FILE.py:NAME or PACKAGE.MODULE:NAME."
        )
    module = _load(source)
    maker = getattr(module, name, None)
    if not callable(maker):
        raise ConfigError(f"model.module: {source} has no class or function {name}.")
    offered: dict[str, Any] = {
        "num_classes": num_classes,
        "in_channels": input_shape[0],
        "input_shape": input_shape,
    }
    wanted = {key: value for key, value in offered.items() if key in _parameters(maker)}
    try:
        inspect.signature(maker).bind(**{**wanted, **args})
    except TypeError as error:
        raise ConfigError(f"model.args does not fit {reference}: {error}.") from None
    network = _run(reference, lambda: maker(**{**wanted, **args}))
    if not isinstance(network, nn.Module):
        raise ModelError(f"{reference} gives a {type(network).__name__}; it must give a nn.Module.")
    return network


def _parameters(maker: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(maker).parameters
    except (TypeError, ValueError):
        return {}


def _load(source: str) -> ModuleType:
    if not source.endswith(".py"):
        try:
            found = importlib.util.find_spec(source)
        except (ImportError, ValueError):
            found = None
        if found is None:
            raise ConfigError(f"model.module: there is no package or module {source} to import.")
        imported: ModuleType = _run(source, lambda: importlib.import_module(source))
        return imported
    path = Path(source)
    if not path.is_file():
        raise ConfigError(f"model.module: there is no file {path}.")
    name = f"smidgen_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py file has a loader
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look themselves up
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # what stands beside the file can be imported, as python FILE does
    try:
        _run(source, lambda: loader.exec_module(module))
    finally:
        sys.path.remove(folder)
    return module


def _run(what: str, action: Callable[[], Any]) -> Any:
    """What the person's code returns; whatever it raises is theirs to mend, and is told by line."""
    try:
        return action()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""
        raise ModelError(f"{what} fails: {place}{type(error).__name__}: {error}") from error
