"""Training steps and batches by kernels of smidgen's own, compiled where they run (docs/lanes.md).

They serve networks that are a chain of known layers, on a CPU with a C++ compiler; `Unsupported`
says why not, and torch does the work then.
"""

from smidgen.kernels.autograd import CompiledNetwork, compile_network
from smidgen.kernels.images import prepare
from smidgen.kernels.lowering import Unsupported

__all__ = ["CompiledNetwork", "Unsupported", "compile_network", "prepare"]
