"""A page on this machine that shows the curves of a run while it trains."""

from smidgen.report.live.page import LivePage

__all__ = ["LivePage"]
