"""What commands print: verdicts in color and tables that fit, if a terminal shows them.

Color is left out if the output is not a terminal or NO_COLOR is set.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from smidgen.formatting import narrowed, plain_table

_GOOD = r"(?m)(?<=^verdict: )inside the budget|\bpass$|^record: equal to .*"
_BAD = r"(?m)(?<=^verdict: )NOT inside the budget|\bFAIL$|^  differs from the record: .*"


def print_result(text: str) -> None:
    """Print what a command found; passed limits are green, missed ones red."""
    from rich.console import Console
    from rich.text import Text

    colored = Text(text)
    colored.highlight_regex(_GOOD, "green")
    colored.highlight_regex(_BAD, "red")
    Console(highlight=False, soft_wrap=True).print(colored)


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], alignment: str, optional: Sequence[str]
) -> None:
    """Print a table, on a narrow terminal without as many of the `optional` columns as necessary.

    `alignment` is as in plain_table.
    """
    sides = dict(zip(header, alignment, strict=True))
    head, body = narrowed(header, rows, terminal_width(), optional)
    table = plain_table([head, *body], "".join(sides[name] for name in head))
    print_result("\n".join(line.rstrip() for line in table.splitlines()))


def terminal_width() -> int | None:
    """Columns of the terminal; None if the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def open_page(page: Path) -> None:
    """Show a page in the browser."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        print("smidgen: no browser could be opened", file=sys.stderr)
