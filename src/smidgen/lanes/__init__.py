"""Training steps and batches by kernels of smidgen's own, compiled where they run (docs/lanes.md).

They serve networks that are a chain of known layers, on a CPU with a C++ compiler; `Unsupported`
says why not, and torch does the work then.
"""

from smidgen.lanes.images import prepare
from smidgen.lanes.network import Lanes, lanes_for
from smidgen.lanes.plan import Unsupported

__all__ = ["Lanes", "Unsupported", "lanes_for", "prepare"]
