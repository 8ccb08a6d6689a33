"""Microcontrollers: what the C code needs on them, from compilers and simulators."""

from smidgen.exporters.targets.estimate import estimate
from smidgen.exporters.targets.measurement import measure
from smidgen.exporters.targets.target import TARGETS, Target

__all__ = ["TARGETS", "Target", "estimate", "measure"]
