"""The commands for pages that people write: fill a README, audit tables, begin a repository."""

import argparse
from pathlib import Path
from typing import Any

from smidgen._storage.files import read_text


def add(commands: Any) -> None:
    """Register `readme`, `audit` and `init`."""
    readme = commands.add_parser(
        "readme",
        help="fill the marked sections of a README from records, or say whether they are stale",
        description="A section stands between <!-- smidgen results PATTERN... -->, <!-- smidgen "
        "layers RUN --> or <!-- smidgen verdict RUN --> and <!-- smidgen end -->; patterns are of "
        "run folders, relative to the file. Exit status of --check: 0 up to date, 1 stale.",
    )
    readme.set_defaults(command=_readme)
    one = readme.add_mutually_exclusive_group(required=True)
    one.add_argument("--update", type=Path, metavar="FILE", help="rewrite the sections of FILE")
    one.add_argument("--check", type=Path, metavar="FILE", help="change nothing")

    audit = commands.add_parser(
        "audit",
        help="say what does not add up in the layer and receptive field tables of a page",
        description="Rows against totals, sizes against kernels, receptive fields and jumps. "
        "Exit status: 0 nothing found, 1 something is.",
    )
    audit.set_defaults(command=_audit)
    audit.add_argument("file", type=Path, metavar="FILE", help="Markdown or any other text")

    init = commands.add_parser(
        "init", help="write a starter repository: experiment, model, README and a gate for CI"
    )
    init.set_defaults(command=_init)
    init.add_argument(
        "folder", type=Path, nargs="?", default=Path(), metavar="FOLDER", help="default: here"
    )
    init.add_argument("--name", help="the experiment's name (default: the folder's)")
    init.add_argument(
        "--action",
        metavar="OWNER/REPOSITORY@VERSION",
        help="where the workflow finds smidgen's action",
    )


def _readme(given: argparse.Namespace) -> int:
    from smidgen.report.readme import is_stale, update

    if given.update is not None:
        changed = update(given.update)
        print(f"{given.update}: {'updated' if changed else 'up to date'}")
        return 0
    if is_stale(given.check):
        print(f"{given.check}: stale; smidgen readme --update {given.check}")
        return 1
    print(f"{given.check}: up to date")
    return 0


def _audit(given: argparse.Namespace) -> int:
    from smidgen.report.audit import audit

    text = read_text(given.file)
    findings = audit(text.replace("\r\n", "\n").replace("\r", "\n"))
    for finding in findings:
        print(f"{given.file}, {finding}")
    if not findings:
        print(f"{given.file}: nothing found that does not add up")
    return 1 if findings else 0


def _init(given: argparse.Namespace) -> int:
    from smidgen.cli.project import ACTION, write_project

    name = given.name if given.name is not None else given.folder.resolve().name
    for path in write_project(given.folder, name, given.action or ACTION):
        print(f"wrote {path}")
    if given.action is None:
        print(f"put the repository of smidgen's action in place of {ACTION} in the workflow")
    print(f"next: smidgen summary {given.folder / 'experiment.toml'}")
    return 0
