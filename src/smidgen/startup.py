"""What must be set before torch is loaded: it reads these once, at that moment."""

import os


def settle_threads() -> None:
    """Let waiting threads sleep instead of spin, unless the person's environment says otherwise.

    A training step waits for its threads some hundred times. Threads that spin until the slowest is
    done keep it from its core whenever something else runs on the machine: two threads on two cores
    were 5 to 8 times slower beside one other busy process, and hardly faster without it
    (docs/decisions/2026-11-21-waiting-threads.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
