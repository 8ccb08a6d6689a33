"""The commands `report`, `live`, `readme` and `audit`."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from smidgen._storage.progress import status
from smidgen.errors import ConfigError


def add(commands: Any) -> None:
    """Register the commands."""
    report = commands.add_parser(
        "report",
        help="write a page about one run, or a comparison of several",
        description="A folder that holds runs, such as runs/gap-6k, stands for all of them. The "
        "page of one run goes into its folder, a comparison, in the order given, into the folder "
        "`comparison`.",
    )
    report.set_defaults(command=_report)
    report.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folders of runs, or that hold runs"
    )
    report.add_argument("--out", type=Path, metavar="DIR", help="another folder to write into")
    report.add_argument(
        "--markdown",
        action="store_true",
        help="of one run: write only report.md, with the smaller plots, to commit",
    )
    report.add_argument("--open", action="store_true", help="show the page in the browser")

    live = commands.add_parser(
        "live",
        help="show the runs in a folder in a browser on this machine while they train",
        description="Serves a page, for this machine only, that follows the runs in a folder and "
        "its subfolders. smidgen train --live shows the page of one run.",
    )
    live.set_defaults(command=_live)
    live.add_argument(
        "folder", type=Path, nargs="?", default=Path("runs"), metavar="DIR", help="default: runs"
    )
    live.add_argument(
        "--port", type=int, default=0, metavar="N", help="default: one that the system chooses"
    )
    live.add_argument("--open", action="store_true", help="show the page in the browser")

    readme = commands.add_parser(
        "readme",
        help="fill the marked sections of a README from records, or check that they are up to date",
        description="A section begins with <!-- smidgen results PATTERN... -->, <!-- smidgen "
        "layers RUN --> or <!-- smidgen verdict RUN -->, and ends with <!-- smidgen end -->. "
        "Patterns match run folders and are relative to the file. Exit status of --check: 0 up to "
        "date, 1 out of date.",
    )
    readme.set_defaults(command=_readme)
    action = readme.add_mutually_exclusive_group(required=True)
    action.add_argument("--update", type=Path, metavar="FILE", help="fill the sections of FILE")
    action.add_argument("--check", type=Path, metavar="FILE", help="check FILE, change nothing")

    audit = commands.add_parser(
        "audit",
        help="find contradictions in the tables and lists of layers on a page",
        description="Compares rows with totals, sizes with kernels, receptive fields and jumps "
        "with the rows above. docs/audit.md says what is read. Exit status: 0 nothing found, 1 "
        "something found.",
    )
    audit.set_defaults(command=_audit)
    audit.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="Markdown, HTML or any other text"
    )
    audit.add_argument("--json", action="store_true", help="print JSON")


def _report(given: argparse.Namespace) -> int:
    from smidgen.cli.console import open_page
    from smidgen.record import find_run_folders
    from smidgen.report import read_run, write_comparison, write_report

    # a folder without a run in it is left to `read_run`, which says what it lacks
    found = [run for folder in given.runs for run in [*find_run_folders(folder)] or [folder]]
    runs = [read_run(folder) for folder in dict.fromkeys(found)]
    if given.markdown and len(runs) > 1:
        raise ConfigError(f"--markdown is for one run; these are {len(runs)}.")
    with status("drawing the report"):
        if len(runs) == 1:
            page = write_report(runs[0], given.out, given.markdown)
        else:
            page = write_comparison(runs, given.out or Path("comparison"))
    for run in runs:
        for sentence in run.missing:
            print(f"{run.folder}: {sentence}")
    print(f"report: {page}")
    if given.open:
        open_page(page)
    return 0


def _live(given: argparse.Namespace) -> int:
    import webbrowser

    from smidgen.report.live import RunsPage

    page = RunsPage(given.folder, given.port)
    try:
        address = page.start()
        print(f"live: {address} (stop with Ctrl-C)", flush=True)
        if given.open:
            webbrowser.open(address)
        while True:
            time.sleep(3600)
    finally:
        page.close()


def _readme(given: argparse.Namespace) -> int:
    from smidgen.report.readme import is_stale, update

    if given.update is not None:
        changed = update(given.update)
        print(f"{given.update}: {'updated' if changed else 'up to date'}")
        return 0
    if is_stale(given.check):
        print(f"{given.check}: out of date; run smidgen readme --update {given.check}")
        return 1
    print(f"{given.check}: up to date")
    return 0


def _audit(given: argparse.Namespace) -> int:
    from smidgen._storage.files import read_text
    from smidgen._storage.serialization import to_plain
    from smidgen.formatting import counted
    from smidgen.report.audit import audit

    results = {file: audit(read_text(file)) for file in given.files}
    if given.json:
        pages = [{"file": str(file), **to_plain(found)} for file, found in results.items()]
        print(json.dumps(pages, indent=1))
    for file, found in () if given.json else results.items():
        for finding in found.findings:
            print(f"{file}:{finding.line}: {finding.text}")
        for remark in found.not_checked:
            print(f"{file}:{remark.line}: not checked: {remark.text}")
        if found.read:
            count = counted(len(found.findings), "contradiction") if found.findings else "nothing"
            print(f"{file}: {count} found in {', '.join(remark.text for remark in found.read)}")
        else:
            print(f"{file}: has no table or list of layers that can be read: nothing to check")
    return 1 if any(found.findings for found in results.values()) else 0
