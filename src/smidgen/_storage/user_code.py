"""Import of user code: a module or a transform, named as FILE.py:NAME or PACKAGE.MODULE:NAME.

Importing runs the code. That happens only for an experiment or a run that the user named.
"""

import ast
import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from smidgen.errors import ConfigError, SmidgenError, did_you_mean

T = TypeVar("T")

_LIBRARIES = (
    "<frozen",
    __file__,
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)


@contextmanager
def user_object(reference: str, key: str, failure: type[SmidgenError]) -> Iterator[Any]:
    """Import the object that `reference` names: "FILE.py:NAME" or "PACKAGE.MODULE:NAME".

    Within the `with` block, the modules next to FILE can be imported, as under `python FILE`.
    Afterwards they are unloaded: another folder may have modules of the same names. No .pyc files
    are written.

    Args:
        reference: the file or module, and the name in it.
        key: the experiment's key that holds `reference`, for messages.
        failure: raised where the imported code raises; the message names the line.

    Raises:
        ConfigError: no such file, module or name.
    """
    source, _, name = reference.rpartition(":")
    if not source or not name:
        raise ConfigError(f"{key} is {reference!r}; write FILE.py:NAME or PACKAGE.MODULE:NAME.")
    file = Path(source) if source.endswith(".py") else None
    if file and not os.path.isfile(file):  # noqa: PTH113 (Path.is_file raises on a long name)
        raise ConfigError(f"{key}: there is no file {file}.")
    with _siblings_importable(file) if file else nullcontext():
        module = _import_file(file, key, failure) if file else _import_module(source, key, failure)
        if not hasattr(module, name):
            public = [known for known in vars(module) if known[0] != "_"]
            raise ConfigError(f"{key}: {source} has no {name}.{did_you_mean(name, public)}")
        yield getattr(module, name)


def call_user_code(what: str, function: Callable[[], T], failure: type[SmidgenError]) -> T:
    """Return what `function` returns.

    Raises:
        failure: `function` raised; the message names `what` and the line of the user's code.
    """
    try:
        return function()
    except (Exception, SystemExit) as error:
        line = "" if isinstance(error, SyntaxError) else _last_line(error)  # it names its own line
        raise failure(f"{what} fails: {line}{type(error).__name__}: {error}") from error


def source_files(file: Path) -> tuple[Path, ...]:
    """List `file` and the modules next to it that it imports, directly or not.

    Paths are relative to the folder of `file`. The code is parsed, not run, so imports whose names
    are computed at run time are missed.
    """
    found: dict[Path, None] = {}
    pending = [Path(file.name)]
    while pending:
        path = pending.pop()
        if path not in found and (file.parent / path).is_file():
            found[path] = None
            for names in _imported_names(file.parent / path, path.parent.parts):
                prefixes = [Path(*names[:depth]) for depth in range(1, len(names) + 1)]
                pending += [prefix.with_suffix(".py") for prefix in prefixes]
                pending += [prefix / "__init__.py" for prefix in prefixes]
    return tuple(found)


def _imported_names(file: Path, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The dotted names that `file`, a module of `package`, imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # reported when the file is imported
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) + 1 - node.level] if node.level else ()
            names = (*parent, *(node.module.split(".") if node.module else ()))
            yield from ((*names, alias.name) for alias in node.names)


@contextmanager
def _siblings_importable(file: Path) -> Iterator[None]:
    siblings = {path.parts[0].removesuffix(".py") for path in source_files(file)}
    folder, dont_write_bytecode = str(file.resolve().parent), sys.dont_write_bytecode
    loaded_before = _unload(siblings)
    importlib.invalidate_caches()
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = dont_write_bytecode
        sys.path.remove(folder)
        _unload(siblings)
        sys.modules.update(loaded_before)


def _unload(names: set[str]) -> dict[str, ModuleType]:
    """Remove the top-level modules `names` and their submodules from sys.modules; return them."""
    return {
        name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names
    }


def _import_file(file: Path, key: str, failure: type[SmidgenError]) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"smidgen_user_{file.stem}", file)
    assert spec is not None  # a .py file has a loader
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    call_user_code(f"{key}: {file}", lambda: loader.exec_module(module), failure)
    return module


def _import_module(name: str, key: str, failure: type[SmidgenError]) -> ModuleType:
    try:
        return call_user_code(f"{key}: {name}", lambda: importlib.import_module(name), failure)
    except failure as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            raise
        raise ConfigError(
            f"{key}: there is no package or module {name} to import. Name a file as FILE.py:NAME; "
            "install a package or put its folder on PYTHONPATH."
        ) from None


def _last_line(error: BaseException) -> str:
    """The innermost line outside Python and installed packages that led to `error`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_LIBRARIES):
            return f"{Path(frame.filename).name}, line {frame.lineno}: "
    return ""
