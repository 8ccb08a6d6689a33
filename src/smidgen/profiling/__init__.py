"""Profile of a network without training it: layer table, MACs, receptive fields, memory."""

from smidgen.profiling.profiler import check_output, profile

__all__ = ["check_output", "profile"]
