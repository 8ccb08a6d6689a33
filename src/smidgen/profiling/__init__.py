"""What can be known of a network without training it: rows, MACs, receptive field, memory."""

from smidgen.profiling.profiler import check_output, profile

__all__ = ["check_output", "profile"]
