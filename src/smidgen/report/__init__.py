"""Reports: records in, pages and plots out. Nothing here trains, computes or needs torch."""

from smidgen.report.comparison import write_comparison
from smidgen.report.network_plot import network_plot
from smidgen.report.observations import observations, result_sentence
from smidgen.report.page import Drawing
from smidgen.report.run_folder import RunFolder, read_run
from smidgen.report.run_page import find_drawing, write_report

__all__ = [
    "Drawing",
    "RunFolder",
    "find_drawing",
    "network_plot",
    "observations",
    "read_run",
    "result_sentence",
    "write_comparison",
    "write_report",
]
