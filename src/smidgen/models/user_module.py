"""A person's own network: a class or function in their file or package.

Loading it runs their code. That happens only for an experiment or run that the person named.
"""

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from smidgen.config import Argument, is_file
from smidgen.errors import ConfigError, ModelError

_LIBRARIES = (str(Path(torch.__file__).parent), "<frozen", importlib.__path__[0])


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
    if not source.endswith(".py"):
        return _make(
            reference, _named(_imported(source), source, name), args, input_shape, num_classes
        )
    path = Path(source)
    if not is_file(path):
        raise ConfigError(f"model.module: there is no file {path}.")
    with _beside(path):
        maker = _named(_loaded(path), source, name)
        return _make(reference, maker, args, input_shape, num_classes)


def sources(file: Path) -> tuple[Path, ...]:
    """What must be kept to load `file` again, as paths from its folder on.

    It and what it imports from beside it, however deeply. Read from the text without running it,
    so an import whose name is made at run time is not seen.
    """
    found: dict[Path, None] = {}
    waiting = [Path(file.name)]
    while waiting:
        path = waiting.pop()
        if path not in found and (file.parent / path).is_file():
            found[path] = None
            for words in _imports(file.parent / path, path.parent.parts):
                steps = [Path(*words[:depth]) for depth in range(1, len(words) + 1)]
                waiting += [step.with_suffix(".py") for step in steps]
                waiting += [step / "__init__.py" for step in steps]
    return tuple(found)


def _imports(file: Path, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The dotted names that `file`, a part of `package`, imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # it says so itself where it is imported
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            words = (*above, *(node.module.split(".") if node.module else ()))
            yield from ((*words, alias.name) for alias in node.names)


@contextmanager
def _beside(file: Path) -> Iterator[None]:
    """What stands beside `file` can be imported while this lasts, as `python FILE` does.

    It belongs to this file alone: another folder may have a file of the same name, and a run's copy
    another text. No compiled files are left in the person's folder.
    """
    own = {path.parts[0].removesuffix(".py") for path in sources(file)}
    folder, compiled = str(file.resolve().parent), sys.dont_write_bytecode
    split_validation = _taken(own)
    importlib.invalidate_caches()
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = compiled
        sys.path.remove(folder)
        _taken(own)
        sys.modules.update(split_validation)


def _taken(own: set[str]) -> dict[str, ModuleType]:
    """The modules and packages of these names, which are no longer loaded."""
    return {
        name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in own
    }


def _loaded(path: Path) -> ModuleType:
    name = f"smidgen_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py file has a loader
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look themselves up
    _run(str(path), lambda: loader.exec_module(module))
    return module


def _imported(source: str) -> ModuleType:
    try:
        module: ModuleType = _run(source, lambda: importlib.import_module(source))
    except ModelError as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if missing is not None and f"{source}.".startswith(f"{missing}."):
            raise ConfigError(
                f"model.module: there is no package or module {source} to import; a file is "
                "named as FILE.py:NAME, a package is installed or found by PYTHONPATH."
            ) from None
        raise
    return module


def _named(module: ModuleType, source: str, name: str) -> Callable[..., Any]:
    maker = getattr(module, name, None)
    if isinstance(maker, nn.Module):
        raise ConfigError(
            f"model.module: {name} of {source} is a network already; name its class, or a function "
            "that makes it, so that each run begins anew."
        )
    if not callable(maker):
        raise ConfigError(f"model.module: {source} has no class or function {name}.")
    found: Callable[..., Any] = maker
    return found


def _make(
    reference: str,
    maker: Callable[..., Any],
    args: Mapping[str, Argument],
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> nn.Module:
    offered: dict[str, Any] = {
        "num_classes": num_classes,
        "in_channels": input_shape[0],
        "input_shape": input_shape,
    }
    given: dict[str, Any] = dict(args)
    try:
        signature = inspect.signature(maker)
        given = {
            key: value for key, value in offered.items() if key in signature.parameters
        } | given
        signature.bind(**given)
    except ValueError:
        pass  # written in C, it says itself what it takes
    except TypeError as error:
        raise ConfigError(f"model.args does not fit {reference}{signature}: {error}.") from None
    network = _run(reference, lambda: maker(**given))
    if not isinstance(network, nn.Module):
        raise ModelError(f"{reference} gives a {type(network).__name__}; it must give a nn.Module.")
    return network


def _run(what: str, action: Callable[[], Any]) -> Any:
    """What the person's code returns; whatever it raises is theirs to mend, and is told by line."""
    try:
        return action()
    except (Exception, SystemExit) as error:
        raise ModelError(f"{what} fails: {_place(error)}{type(error).__name__}: {error}") from error


def _place(error: BaseException) -> str:
    """The last line of the person's own code on the way to the error."""
    if isinstance(error, SyntaxError):
        return ""  # it names the place itself
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*_LIBRARIES, __file__))
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""
