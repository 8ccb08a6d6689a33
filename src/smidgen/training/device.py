"""Device, threads and determinism of a run, and the environment that its record describes."""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from smidgen._storage.cores import usable_cores
from smidgen._storage.digests import sha256_of
from smidgen._version import __version__
from smidgen.errors import ConfigError
from smidgen.kernels.build import load_library, processor_name
from smidgen.record import Environment

MAX_THREADS = 1024
"""That a record may state."""
DEVICES = ("auto", "cuda", "mps", "cpu")

_PACKAGE = Path(__file__).parents[1]
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def compute_settings(device: str = "auto", threads: int | None = None) -> Iterator[torch.device]:
    """Compute on `device`, deterministically, with `threads` CPU threads; yields the device.

    On exit, torch's deterministic mode, number of threads and cuBLAS workspace are restored,
    whatever was changed inside. `threads` None keeps the current number.

    Raises:
        ConfigError: the device is unknown or unavailable, or the number of threads is not allowed.
    """
    require_threads(threads)
    selected = select_device(device)
    mode = torch.get_deterministic_debug_mode()
    threads_before, workspace = torch.get_num_threads(), os.environ.get(_CUBLAS)
    try:
        os.environ.setdefault(_CUBLAS, ":4096:8")  # cuBLAS is deterministic only with a fixed one
        # use_deterministic_algorithms does the same after it has loaded torch's compiler: a second
        torch.set_deterministic_debug_mode("warn")
        torch.set_num_threads(threads or threads_before)
        yield selected
    finally:
        torch.set_num_threads(threads_before)
        torch.set_deterministic_debug_mode(mode)
        if workspace is None:
            os.environ.pop(_CUBLAS, None)


def select_device(device: str = "auto") -> torch.device:
    """The torch device of that name; auto selects the first available of cuda, mps and cpu.

    Raises:
        ConfigError: the device is unknown or unavailable.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device not in DEVICES:
        raise ConfigError(f"--device is {device!r}; it must be one of {', '.join(DEVICES)}.")
    if device == "auto":
        device = next(name for name, found in available.items() if found)
    if not available[device]:
        raise ConfigError(f"--device is {device}, but torch {torch.__version__} does not find it.")
    return torch.device(device)


def require_threads(threads: int | None) -> None:
    """Check a number of CPU threads; None stands for the default.

    More threads than cores wait for each other: 64 on two cores train 100 times slower.

    Raises:
        ConfigError: it is below 1 or above the number of usable cores.
    """
    cores = usable_cores()
    if threads is not None and not 1 <= threads <= cores:
        raise ConfigError(
            f"--threads is {threads}; it must be from 1 to {cores}, the cores that this process "
            "may use."
        )


def describe_environment(device: torch.device, backend: str) -> Environment:
    """Versions, machine, device and threads of this process, and the backend of its training."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    library = load_library(()) if backend == "native" else None
    return Environment(
        smidgen=__version__,
        commit=source_version(),
        python=platform.python_version(),
        torch=torch.__version__,
        platform=platform.platform(),
        processor=processor_name(),
        device=f"{device.type} ({name})" if name else device.type,
        threads=torch.get_num_threads(),
        backend=backend,
        kernels_sha256=library.sha256 if library else None,
        compiler=library.compiler if library else None,
    )


def source_version(package: Path = _PACKAGE) -> str | None:
    """The git commit that `package` is checked out from; None outside a checkout or without git.

    If the package's files differ from that commit, "+" and a digest of the difference follow:
    two different modifications of one commit are two versions.
    """

    def git(*words: str) -> bytes:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout

    try:
        if not git("ls-files", "--", "."):
            return None  # installed inside the checkout of another project
        commit = git("rev-parse", "HEAD").decode().strip()
        changes = git("diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--", ".")
        names = git("ls-files", "--others", "--exclude-standard", "-z", "--", ".").split(b"\0")[:-1]
        untracked = [(name, (package / os.fsdecode(name)).read_bytes()) for name in sorted(names)]
    except (OSError, subprocess.SubprocessError):
        return None
    if not changes and not untracked:
        return commit
    return f"{commit}+{sha256_of(changes, repr(untracked))[:12]}"
