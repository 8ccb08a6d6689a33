"""Reports: records in, text and figures out. Nothing here trains, computes or needs torch."""

from smidgen.report.comparison import write_comparison
from smidgen.report.formatting import percent, result_text, seconds, verdict_text
from smidgen.report.run_folder import RunFolder, read_run
from smidgen.report.run_page import write_report
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
