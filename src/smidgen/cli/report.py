"""The command that writes reports from the folders of runs."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Register `report`."""
    parser = commands.add_parser(
        "report",
        help="write a page about one run, or about several side by side",
        description="One run: its page goes into its own folder. Several: a comparison, in the "
        "order given, in the folder `comparison`. --out says otherwise.",
    )
    parser.set_defaults(command=_report)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the runs' folders")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder to write into")


def _report(given: argparse.Namespace) -> int:
    from smidgen._storage.files import make_folder
    from smidgen.report import read_run, write_comparison, write_report

    runs = [read_run(folder) for folder in given.runs]
    if len(runs) == 1:
        out = make_folder(given.out or runs[0].folder)
        page = write_report(runs[0], out)
    else:
        out = make_folder(given.out or Path("comparison"))
        page = write_comparison(runs, out)
    for run in runs:
        for sentence in run.missing:
            print(f"{run.folder}: {sentence}")
    print(f"report: {page}")
    return 0
