"""How many CPU cores there are for this process."""

import contextlib
import math
import os
from pathlib import Path


def usable_cores() -> int:
    """CPU cores that this process may use, by its affinity and its cgroup's limit."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on Windows and macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # cgroup v2
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))  # "max" is a ValueError
    return cores
