"""The commands `export` and `demo`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from smidgen.cli.arguments import add_options
from smidgen.errors import ExportError


def add(commands: Any) -> None:
    """Register the commands."""
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
        help="onnx: ONNX in floating point; int8: ONNX in integers (QDQ); "
        "c: C99 for microcontrollers, in the same integers; "
        "html: a page that runs the network in any browser",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the run's folder")
    parser.add_argument(
        "--bits",
        type=_bits,
        metavar="BITS",
        help="of the weights in integers: 8, 4 or 2, or one for each convolution and linear layer, "
        "as in 8,4,4,8; auto: as few as accuracy allows, with a table of accuracy against bytes "
        "(default: the budget's weight_bits)",
    )
    parser.add_argument(
        "--max-weight-bytes",
        type=int,
        metavar="N",
        help="of the weights in integers; with --bits auto, what fits is chosen",
    )
    parser.add_argument(
        "--max-accuracy-loss",
        type=float,
        default=0.0005,
        metavar="FRACTION",
        help="that the network in integers may lose (default: 0.0005, which is 0.05 points)",
    )
    parser.add_argument(
        "--target",
        default=(),
        type=lambda text: text.split(","),
        metavar="NAME[,NAME...]",
        help="with --to c: measure flash, RAM and cycles on these microcontrollers, in simulators: "
        "atmega328p, cortex-m0, rv32i",
    )
    parser.add_argument(
        "--license", default="", metavar="TEXT", help="for the metadata of the exported files"
    )
    add_options(parser, "data_dir", "skip_bad")

    parser = commands.add_parser(
        "demo",
        help="open a page in the browser on which a run's network classifies what you draw",
        description="Opens the page that `smidgen export RUN --to html` writes, and writes it if "
        "it is not there.",
    )
    parser.set_defaults(command=_demo)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    add_options(parser, "data_dir")


def _export(given: argparse.Namespace) -> int:
    from smidgen.runs.export import export

    result = export(
        given.run,
        given.to,
        given.out,
        bits=given.bits,
        max_weight_bytes=given.max_weight_bytes,
        max_accuracy_loss=given.max_accuracy_loss,
        targets=given.target,
        license=given.license,
        data_dir=given.data_dir,
        skip_bad=given.skip_bad,
        on_message=lambda text: print(f"smidgen: {text}", file=sys.stderr),
    )
    print(result)
    return 0 if result.passed else 1


def _demo(given: argparse.Namespace) -> int:
    from smidgen.cli.console import open_page
    from smidgen.runs.export import demo

    try:
        page = demo(given.run, data_dir=given.data_dir)
    except ExportError as error:
        print(f"FAILED {error}")
        return 1
    print(f"demo: {page}")
    open_page(page)
    return 0


def _bits(text: str) -> str | tuple[int, ...]:
    if text == "auto":
        return text
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be auto, 8, 4 or 2, or several of these numbers, as in 8,4,8"
        ) from None
