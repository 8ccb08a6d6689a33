"""Pages on this machine that show the curves of runs while they train."""

from smidgen.report.live.page import LivePage
from smidgen.report.live.runs_page import RunsPage

__all__ = ["LivePage", "RunsPage"]
