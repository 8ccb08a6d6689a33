"""What `smidgen` and `python -m smidgen` start: the command, from the first import on."""

import sys


def main() -> int:
    """Run the command; an interrupt while it is still loading ends it without a traceback, too."""
    try:
        from smidgen.cli import main as command

        return command()
    except KeyboardInterrupt:
        print("smidgen: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
