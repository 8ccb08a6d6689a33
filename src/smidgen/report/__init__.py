"""Reports: records in, text and figures out. Nothing here trains, computes or needs torch."""

from smidgen.report.figures import percent, result_text, seconds, verdict_text
from smidgen.report.page import report_markdown, write_report
from smidgen.report.tables import summary

__all__ = [
    "percent",
    "report_markdown",
    "result_text",
    "seconds",
    "summary",
    "verdict_text",
    "write_report",
]
