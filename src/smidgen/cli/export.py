"""The command `export`."""

import argparse
from pathlib import Path
from typing import Any

from smidgen.cli.arguments import add_options


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "export",
        help="write a run's network as files for other runtimes, each compared with it",
        description="Exports the network of a finished run and compares each file with it on the "
        "whole test split. A file whose scores differ too much is not written, and the exit status "
        "is then 1.",
    )
    parser.set_defaults(command=_export)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--to",
        required=True,
        type=lambda text: text.split(","),
        metavar="NAME[,NAME...]",
        help="onnx: ONNX in floating point",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the run's folder")
    parser.add_argument(
        "--license", default="", metavar="TEXT", help="for the metadata of the exported files"
    )
    add_options(parser, "data_dir", "skip_bad")


def _export(given: argparse.Namespace) -> int:
    from smidgen.runs.export import export

    result = export(
        given.run,
        given.to,
        given.out,
        license=given.license,
        data_dir=given.data_dir,
        skip_bad=given.skip_bad,
    )
    print(result)
    return 0 if result.passed else 1
