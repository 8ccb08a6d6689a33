"""Reports: records in, text and figures out. Nothing here trains, computes or needs torch."""

from smidgen.report.compare import write_comparison
from smidgen.report.figures import percent, result_text, seconds, verdict_text
from smidgen.report.folder import RunFolder, read_run
from smidgen.report.page import write_report
from smidgen.report.tables import summary

__all__ = [
    "RunFolder",
    "percent",
    "read_run",
    "result_text",
    "seconds",
    "summary",
    "verdict_text",
    "write_comparison",
    "write_report",
]
