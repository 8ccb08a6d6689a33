"""The command line: arguments in, one library call, print.

Exit status: 0 done; 1 a budget was missed or a check failed; 2 an error that the user can fix, in
one line; 70 a bug, with its traceback; 130 interrupted; 143 terminated. Each command imports torch
only when it runs.
"""

import contextlib
import errno
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from smidgen._version import __version__
from smidgen.cli import bench, data, evaluate, export, project, report, train
from smidgen.cli import list as list_command
from smidgen.cli.flags import Parser, normalized
from smidgen.errors import Interrupted, SmidgenError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    with contextlib.suppress(ValueError):  # only the main thread can handle signals
        signal.signal(signal.SIGTERM, _terminate)
    try:
        given = build_parser().parse_args(
            normalized(sys.argv[1:] if arguments is None else arguments)
        )
        status: int = given.command(given)
        sys.stdout.flush()
        return status
    except SmidgenError as error:
        print(f"smidgen: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        return _interrupted(stop)
    except BrokenPipeError:  # the reader has closed the pipe, as in `smidgen ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in _FULL:
            traceback.print_exc()
            return 70
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
        what = error.filename or "the output"
        print(f"smidgen: {what} cannot be written: {error.strerror}.", file=sys.stderr)
        return 2
    except Exception:  # Python's own status would be 1, which means a missed budget
        traceback.print_exc()
        return 70


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _interrupted(stop: KeyboardInterrupt) -> int:
    """Print how to resume; return the exit status."""
    number, folder = signal.SIGINT, None
    if isinstance(stop, Interrupted):
        number, folder = signal.Signals(stop.signal), stop.folder
    word = "terminated" if number == signal.SIGTERM else "interrupted"
    resume = f"; to resume: smidgen train --resume {shlex.quote(str(folder))}" if folder else ""
    print(f"smidgen: {word}{resume}", file=sys.stderr)
    return 128 + number


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="smidgen",
        description="Train image classifiers that must stay small, and prove that they are.",
        epilog="Exit status: 0 done, 1 a budget was missed, 2 an error that you can fix, 70 a bug, "
        "130 interrupted, 143 terminated.",
    )
    parser.add_argument("--version", action="version", version=f"smidgen {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    evaluate.add_summary(commands)
    train.add(commands)
    bench.add(commands)
    evaluate.add_check(commands)
    evaluate.add_evaluate(commands)
    export.add(commands)
    list_command.add(commands)
    report.add(commands)
    project.add(commands)
    data.add(commands)
    evaluate.add_predict(commands)
    return parser
