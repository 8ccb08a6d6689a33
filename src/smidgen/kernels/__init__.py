"""Native training kernels: C++ that is compiled on the machine it runs on (docs/kernels.md).

They train chains of common layers on a CPU. `Unsupported` says why they cannot; then torch trains.
"""

from smidgen.kernels.autograd import NativeNetwork
from smidgen.kernels.images import prepare_batch
from smidgen.kernels.lowering import Unsupported
from smidgen.kernels.self_test import build_native_network

__all__ = [
    "NativeNetwork",
    "Unsupported",
    "build_native_network",
    "prepare_batch",
]
