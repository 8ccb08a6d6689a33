"""The command `list`: the runs in a folder."""

import argparse
import json
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "list",
        help="list the runs in a folder, the newest first",
        description="List the runs anywhere below a folder, finished or not, the newest first.",
    )
    parser.set_defaults(command=_list)
    parser.add_argument(
        "folder", type=Path, nargs="?", metavar="FOLDER", default="runs", help="default: runs"
    )
    parser.add_argument("--experiment", metavar="NAME", help="only the runs of this experiment")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _list(given: argparse.Namespace) -> int:
    from smidgen._storage.serialization import to_plain
    from smidgen.cli.console import print_table
    from smidgen.formatting import percent
    from smidgen.runs.listing import list_runs

    runs = list_runs(given.folder, given.experiment)
    if given.json:
        print(json.dumps(to_plain(runs), indent=1))
        return 0
    if not runs:
        print(f"{given.folder} has no runs")
        return 0
    rows = [
        (
            run.folder,
            run.data or "-",
            "-" if run.num_params is None else f"{run.num_params:,}",
            "-" if run.epochs is None else str(run.epochs),
            "-" if run.accuracy is None else percent(run.accuracy),
            run.started[:16].replace("T", " "),
            run.result,
        )
        for run in runs
    ]
    header = ("run", "data", "parameters", "epochs", "accuracy", "started (UTC)", "verdict")
    print_table(header, rows, "<<>>><<", ("data", "epochs", "started (UTC)", "parameters"))
    return 0
