"""Compiles the kernels once for this machine's processor, and caches the library."""

import contextlib
import ctypes
import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen._storage.cache import cache_folder
from smidgen._storage.digests import sha256_of, sha256_of_file
from smidgen._storage.files import make_folder, write_atomic
from smidgen.errors import SmidgenError
from smidgen.kernels.lowering import Unsupported

_SOURCES = Path(__file__).parent / "csrc"
_FLAGS = (
    *("-std=c++17", "-O3", "-shared", "-fPIC"),
    # More loops become vectors without errno and floating-point traps, which nothing reads.
    *("-fno-math-errno", "-fno-trapping-math"),
)
_TARGETS = (  # not every compiler has OpenMP; older Clang on ARM does not know -march=native
    ("-march=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native", "-fopenmp"),
    ("-mcpu=native",),
)
_TIMEOUT_SECONDS = 120.0
_NO_COMPILER = (
    "there is no C++ compiler; install g++ or clang++ (apt install g++, xcode-select --install), "
    "or name one with CXX: without it, training is several times slower"
)


@dataclass(frozen=True, slots=True)
class Library:
    """The compiled kernels."""

    functions: ctypes.CDLL
    sha256: str
    """Of the library's file."""
    compiler: str
    """What made it: the first line of the compiler's --version."""


@functools.cache
def load_library(flags: tuple[str, ...]) -> Library:
    """Load the kernels, compiled with additional compiler `flags`; compile them if necessary.

    The library's file name contains a hash of sources, flags, compiler and processor, and the hash
    of its bytes, which is checked before loading. If no compiler succeeds, that is remembered
    until sources, compilers or processor change or the file that the message names is deleted.

    Raises:
        Unsupported: there is no compiler, it fails or takes more than two minutes, or the library
            cannot be stored or loaded.
    """
    if sys.platform == "win32":
        raise Unsupported("the kernels have not been tried on Windows")
    try:
        folder, compilers = _private_folder(), _compilers()
        if not compilers:
            raise Unsupported(_NO_COMPILER)
        failure = folder / f"failed-{_failure_key(compilers, flags)}.txt"
        if failure.exists():
            reason = failure.read_text(errors="replace")
            raise Unsupported(f"{reason} (when last tried; delete {failure} to try again)")
        try:
            return _first_that_works(compilers, flags, folder)
        except Unsupported as reason:
            with contextlib.suppress(OSError, SmidgenError):
                write_atomic(failure, str(reason))
            raise
    except (OSError, SmidgenError, ValueError) as error:
        raise Unsupported(f"the kernels cannot be built: {error}") from None


def processor_name() -> str:
    """The processor's name and its number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _compilers() -> list[list[str]]:
    """The commands of the compilers that are installed, with absolute paths; CXX comes first."""
    commands = [shlex.split(os.environ.get("CXX", "")), ["c++"], ["g++"], ["clang++"]]
    return [
        [str(Path(path).absolute()), *command[1:]]
        for command in commands
        if command and (path := shutil.which(command[0]))
    ]


def _first_that_works(
    compilers: Sequence[list[str]], flags: tuple[str, ...], folder: Path
) -> Library:
    deadline, reason = time.monotonic() + _TIMEOUT_SECONDS, ""
    for compiler in compilers:
        for target in _TARGETS:
            try:
                path = _compiled([*compiler, *_FLAGS, *target, *flags], folder, deadline)
                version = _run([*compiler, "--version"], deadline).decode(errors="replace")
                identity = version.partition("\n")[0].strip()
                return Library(ctypes.CDLL(str(path)), path.stem.rpartition("-")[2], identity)
            except subprocess.CalledProcessError as error:
                reason = f"{compiler[0]} fails: {_first_error(error.stderr)}"
            except subprocess.TimeoutExpired:
                raise Unsupported(f"{compiler[0]} takes more than two minutes") from None
            except OSError as error:  # for instance, OpenMP's own library is missing
                reason = f"the library made by {compiler[0]} cannot be loaded: {error}"
    raise Unsupported(reason)


def _compiled(command: list[str], folder: Path, deadline: float) -> Path:
    """The library that `command` makes: from the cache, or compiled now."""
    # The predefined macros name the compiler's version and, with -march=native, the processor.
    macros = _run([*command, "-dM", "-E", "-x", "c++", os.devnull], deadline)
    key = sha256_of(*_source_bytes(), repr(command), macros)[:16]
    for path in folder.glob(f"kernels-{key}-*.so"):
        if path.stem.endswith(sha256_of_file(path)):
            return path
        path.unlink(missing_ok=True)  # damaged
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "kernels.so")
        _run([*command, *_relative("*.cpp"), "-o", str(output)], deadline)
        content = output.read_bytes()
    path = folder / f"kernels-{key}-{sha256_of(content)}.so"
    write_atomic(path, content)
    return path


def _failure_key(compilers: Sequence[list[str]], flags: tuple[str, ...]) -> str:
    """A name for everything that a failure depends on, without running any compiler."""
    files = [Path(command[0]).stat() for command in compilers]
    stamps = [(file.st_size, file.st_mtime_ns) for file in files]
    attempt = repr((compilers, stamps, flags, processor_name()))
    return sha256_of(*_source_bytes(), attempt)[:16]


def _relative(pattern: str) -> list[str]:
    return sorted(path.name for path in _SOURCES.glob(pattern))


def _source_bytes() -> list[bytes]:
    return [(_SOURCES / name).read_bytes() for name in _relative("*.[ch]pp")]


def _run(command: list[str], deadline: float) -> bytes:
    remaining = max(0.1, deadline - time.monotonic())
    return subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=remaining,
        cwd=_SOURCES,  # relative names: the library does not depend on where smidgen is installed
        env=os.environ | {"LC_ALL": "C"},
    ).stdout


def _private_folder() -> Path:
    """A folder that only this user can write to, since what it holds is executed."""
    folder = cache_folder("kernels")
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)  # raises if it belongs to another user
    return folder


def _first_error(output: bytes) -> str:
    lines = [line for line in output.decode(errors="replace").splitlines() if "error" in line]
    return lines[0].strip() if lines else "it does not say why"


class _Field(ctypes.Structure):
    """Field of fields.hpp."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("offset", ctypes.c_int64),
        ("size", ctypes.c_int64),
    )


def check_fields(structure: type[ctypes.Structure], table: Callable[[], Any]) -> None:
    """Compare names, offsets and sizes of a structure's fields with the C++ declaration's."""
    table.restype = ctypes.POINTER(_Field)  # type: ignore[attr-defined]
    expected = []
    for field in table():
        if field.name is None:
            break
        expected.append((field.name.decode(), field.offset, field.size))
    declared = []
    for name, *_ in structure._fields_:
        member = getattr(structure, name)
        declared.append((name, member.offset, member.size))
    assert declared == expected, f"{structure.__name__} differs from its declaration in C++"
    assert ctypes.sizeof(structure) == field.size, f"{structure.__name__} has another size in C++"
