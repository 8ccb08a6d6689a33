"""The device and the threads that a run computes with, and what else a reader must know of them."""

import os
import platform
import subprocess
from pathlib import Path

import torch

from smidgen._version import __version__
from smidgen.errors import ConfigError
from smidgen.record import Environment

MAX_THREADS = 1024  # beyond it the system refuses to start them, and the process dies
DEVICES = ("auto", "cuda", "mps", "cpu")


def settle(device: str = "auto", threads: int | None = None) -> torch.device:
    """Set this process to deterministic algorithms and `threads` CPU threads; the device to use.

    auto takes the first of cuda, mps and cpu that is there.

    Raises:
        ConfigError: an unknown device, or one that is not there; threads that make no sense.
    """
    require_threads(threads)
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device not in DEVICES:
        raise ConfigError(f"--device is {device!r}; it must be one of {', '.join(DEVICES)}.")
    if device != "auto" and not there[device]:
        raise ConfigError(f"--device is {device}, which torch {torch.__version__} does not find.")
    if threads is not None:
        torch.set_num_threads(threads)
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # what cuBLAS needs to repeat itself
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device(next(d for d in there if there[d]) if device == "auto" else device)


def require_threads(threads: int | None) -> None:
    """Nothing, where so many CPU threads can be had, or none are asked for.

    Raises:
        ConfigError: fewer than 1, or more than MAX_THREADS.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ConfigError(f"--threads is {threads}; it must be from 1 to {MAX_THREADS:,}.")


def describe(device: torch.device, backend: str) -> Environment:
    """This process: versions, machine, device, threads, and the backend of its training steps."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return Environment(
        smidgen=__version__,
        commit=_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        platform=platform.platform(),
        processor=processor(),
        device=f"{device.type} ({name})" if name else device.type,
        threads=torch.get_num_threads(),
        backend=backend,
    )


def processor() -> str:
    """The processor's name, with the number of its cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _commit() -> str | None:
    """The commit of the checkout that this file stands in, with "+" where tracked files differ."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", Path(__file__).name
        )  # not inside somebody else's checkout
        return git("rev-parse", "HEAD") + ("+" if git("status", "-s", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
