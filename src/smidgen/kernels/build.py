"""The kernels' source, compiled once for the processor at hand and kept in the user's cache."""

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from smidgen._storage.cache import cache_folder
from smidgen._storage.digests import sha256_of
from smidgen._storage.files import make_folder, write_atomic
from smidgen.errors import SmidgenError
from smidgen.kernels.lowering import Unsupported

_SOURCES = Path(__file__).parent / "csrc"
_FLAGS = (
    *("-std=c++17", "-O3", "-shared", "-fPIC"),
    # Neither errno nor exception flags are looked at; without them, more loops become vectors.
    *("-fno-math-errno", "-fno-trapping-math"),
)
_TARGETS = (  # not every compiler has OpenMP, and Clang on ARM learnt -march=native late
    ("-march=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native", "-fopenmp"),
    ("-mcpu=native",),
)
_MOST_SECONDS = 120.0


@functools.cache
def library(source: str, extra: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The functions of `source`, compiled with `extra` flags as well.

    The file's name has the hash of all that it was made from (sources, flags, and what the compiler
    says of itself and of this processor), and that of its own bytes, which is checked before it is
    loaded: one that is damaged is made again, one of another machine is not taken.

    Raises:
        Unsupported: there is no compiler, none of them compiles it in two minutes, or the result
            cannot be kept or loaded.
    """
    if sys.platform == "win32":
        raise Unsupported("the kernels have not been tried on Windows")
    try:
        folder = _own_folder()
        deadline, last = time.monotonic() + _MOST_SECONDS, ""
        for compiler in _compilers():
            for target in _TARGETS:
                command = [*compiler, *_FLAGS, *target, *extra]
                try:
                    path = _compiled(command, source, folder, deadline)
                except subprocess.CalledProcessError as error:
                    last = f"{compiler[0]} fails: {_first_line(error.stderr)}"
                    continue
                except subprocess.TimeoutExpired:
                    raise Unsupported(f"{compiler[0]} takes more than two minutes") from None
                try:
                    return ctypes.CDLL(str(path))
                except OSError as error:  # OpenMP's own library is not there, perhaps
                    last = f"what {compiler[0]} makes cannot be loaded: {error}"
    except (OSError, SmidgenError, ValueError) as error:
        raise Unsupported(f"the kernels cannot be made: {error}") from None
    raise Unsupported(last or "there is no C++ compiler (c++, g++ or clang++, or one in CXX)")


def _compilers() -> Iterator[list[str]]:
    """The commands of those that are there, the person's own first."""
    own = shlex.split(os.environ.get("CXX", ""))
    for command in ([own] if own else []) + [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            yield command


def _compiled(command: list[str], source: str, folder: Path, deadline: float) -> Path:
    """The library that `command` makes, made by this call unless it is there."""
    key = _key(command, deadline)
    for path in folder.glob(f"{Path(source).stem}-{key}-*.so"):
        if path.stem.endswith(sha256_of(path.read_bytes())):
            return path
        path.unlink(missing_ok=True)  # damaged: its bytes are not those that its name says
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch, "made.so")
        _run([*command, str(_SOURCES / source), "-o", str(made)], deadline)
        content = made.read_bytes()
    path = folder / f"{Path(source).stem}-{key}-{sha256_of(content)}.so"
    write_atomic(path, content)
    return path


def _key(command: list[str], deadline: float) -> str:
    """Sixteen digits for the sources, the command, the compiler's version and the processor.

    What the compiler predefines says both: on another processor, -march=native is other macros.
    """
    macros = _run([*command, "-dM", "-E", "-x", "c++", os.devnull], deadline)
    parts = [path.read_bytes() for path in sorted(_SOURCES.glob("*.[ch]pp"))]
    return sha256_of(b"\0".join([*parts, repr(command).encode(), macros]))[:16]


def _run(command: list[str], deadline: float) -> bytes:
    left = max(0.1, deadline - time.monotonic())
    environment = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(command, check=True, capture_output=True, timeout=left, env=environment)
    return done.stdout


def _own_folder() -> Path:
    """A folder that only the user can write to: what lies in it is run."""
    folder = cache_folder("lanes")
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)  # raises where it is another's
    return folder


def _first_line(output: bytes) -> str:
    lines = [line for line in output.decode(errors="replace").splitlines() if "error" in line]
    return lines[0].strip() if lines else "it does not say why"
