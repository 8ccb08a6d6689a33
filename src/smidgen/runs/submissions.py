"""Networks that others trained: a folder each, judged by one file of limits in a process each."""

import ast
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from smidgen.errors import ConfigError, SmidgenError

WEIGHT_SUFFIXES = (".pth", ".pt", ".safetensors")
TABLES = ("budget", "data", "model")


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """The result of one submission, or the error that prevented one."""

    name: str
    """Of its folder."""
    num_params: int | None = None
    accuracy: float | None = None
    """On the test set, a fraction."""
    passed: bool | None = None
    """Whether it is inside the budget."""
    result: str
    """The verdict, or the error in one line."""


def read_limits(path: Path) -> dict[str, Any]:
    """The tables budget, data and model of a TOML file with the limits for all submissions.

    Raises:
        ConfigError: it cannot be read, or has other tables.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    if unknown := sorted(set(tables) - set(TABLES)):
        raise ConfigError(f"{path} has {unknown[0]!r}; limits have {', '.join(TABLES)}.")
    if "data" not in tables:
        raise ConfigError(f"{path} has no table [data]; it says what the networks are scored on.")
    return tables


def judge_submission(
    folder: Path,
    limits: dict[str, Any],
    out: Path,
    *,
    timeout: float,
    memory_gib: float,
    options: tuple[str, ...] = (),
) -> Submission:
    """Score the network in `folder` in a process with a time and a memory limit.

    The folder has one file of weights and a model file: model.py or the only .py, with the class
    Net or a single subclass of nn.Module. The table [model] of an experiment.toml in it, or of the
    limits, is used instead. Its report goes to `out`/NAME. Never raises for what a submission does.
    Limits protect from accidents: the code runs with the user's rights, and can forge its result.
    """
    name = folder.resolve().name
    try:
        model, weights = _model_table(folder, limits), _only(folder, WEIGHT_SUFFIXES)
        tables = {"experiment": {"name": name}, **limits, "model": model}
        with tempfile.TemporaryDirectory() as temporary:
            experiment = Path(temporary) / "experiment.toml"
            experiment.write_text(tomli_w.dumps(tables), encoding="utf-8")
            command = [sys.executable, "-m", "smidgen", "evaluate", str(experiment)]
            command += ["--weights", str(weights.absolute()), "--out", str(out.absolute())]
            result = _limited([*command, "--json", *options], timeout, memory_gib)
        return Submission(
            name=name,
            num_params=int(result["num_params"]),
            accuracy=float(result["accuracy"]),
            passed=bool(result["passed"]),
            result=str(result["status"]),
        )
    except SmidgenError as error:
        return Submission(name=name, result=f"error: {str(error).splitlines()[0]}")
    except (OSError, ValueError, TypeError, KeyError) as error:  # such as a forged result
        return Submission(name=name, result=f"error: {str(error).splitlines()[0]}")


def _model_table(folder: Path, limits: dict[str, Any]) -> dict[str, Any]:
    """The table [model], with the file of a module as an absolute path."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    table: dict[str, Any] = dict(limits.get("model", {}))
    own = folder / "experiment.toml"
    if own.is_file():
        table = dict(tomllib.loads(own.read_text(encoding="utf-8")).get("model", {})) or table
    if not {"net", "chain", "module"} & set(table):
        path = folder / "model.py"
        path = path if path.is_file() else _only(folder, (".py",))
        table["module"] = f"{path.name}:{_network_class(path)}"
    file, _, attribute = str(table.get("module", "")).rpartition(":")
    if file.endswith(".py"):
        table["module"] = f"{(folder / file).absolute()}:{attribute}"
    return table


def _only(folder: Path, suffixes: tuple[str, ...]) -> Path:
    found = sorted(path for path in folder.iterdir() if path.suffix in suffixes)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigError(f"there must be one {' or '.join(suffixes)} file; there is {names}")
    return found[0]


def _network_class(path: Path) -> str:
    """Net, or the only class with a Module or Sequential among its bases; the code is not run."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path.name} is not valid Python: {error}") from None
    classes = {
        node.name: [ast.unparse(base) for base in node.bases]
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    if "Net" in classes:
        return "Net"
    networks = [
        name
        for name, bases in classes.items()
        if any(base.endswith(("Module", "Sequential")) for base in bases)
    ]
    if len(networks) != 1:
        listed = ", ".join(networks) or "none"
        raise ConfigError(
            f"{path.name} must have a class Net or one subclass of nn.Module; it has {listed}"
        )
    return networks[0]


def _limited(command: list[str], timeout: float, memory_gib: float) -> dict[str, Any]:
    """What the command prints as JSON in its last line.

    Raises:
        SmidgenError: it ended without a result; the last line of its errors, or the limit it hit.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=os.name == "posix",
            preexec_fn=_memory_limit(memory_gib),
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise SmidgenError(f"stopped after the time limit of {timeout:g} s") from None
        finally:
            _kill(process)  # with all processes that it started
        lines = [_tail(file) for file in (out, err)]
    if status in (0, 1):
        result = json.loads(lines[0])
        if isinstance(result, dict):
            return result
    if status < 0:
        raise SmidgenError(f"its process was killed by signal {-status}")
    message = lines[1].removeprefix("smidgen: ") or f"exit status {status}"
    if re.search(r"alloc|MemoryError|out of memory", message, re.IGNORECASE):
        message = f"out of memory, with a limit of {memory_gib:g} GiB"
    raise SmidgenError(message)


def _tail(file: Any) -> str:
    """The last line that is not empty."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 100_000))
    return next((line.strip() for line in reversed(file.readlines()) if line.strip()), "")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _memory_limit(memory_gib: float) -> Callable[[], None] | None:
    """Sets the limit in the new process; None on systems without resource limits."""
    try:
        import resource
    except ImportError:
        return None
    size = int(memory_gib * 2**30)
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))
