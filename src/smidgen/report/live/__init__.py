"""A page on this machine that shows a run's curves as they grow."""

from smidgen.report.live.page import LivePage

__all__ = ["LivePage"]
