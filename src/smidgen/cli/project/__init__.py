"""The command `init`, which writes a new project."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Register `init`."""
    init = commands.add_parser(
        "init", help="write a new project: experiment, model, README and a CI gate"
    )
    init.set_defaults(command=_init)
    init.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="FOLDER",
        help="where to write it (default: the current folder)",
    )
    init.add_argument("--name", help="the experiment's name (default: the folder's)")
    init.add_argument(
        "--action",
        metavar="OWNER/REPOSITORY@VERSION",
        help="smidgen's GitHub action, as the workflow refers to it",
    )


def _init(given: argparse.Namespace) -> int:
    from smidgen.cli.project.template import ACTION, write_project

    name = given.name if given.name is not None else given.folder.resolve().name
    for path in write_project(given.folder, name, given.action or ACTION):
        print(f"wrote {path}")
    if given.action is None:
        print(f"in the workflow, replace {ACTION} with the repository of smidgen's action")
    print(f"next: smidgen summary {given.folder / 'experiment.toml'}")
    return 0
