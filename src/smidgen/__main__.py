"""What `smidgen` and `python -m smidgen` start: the command, from the first import on."""

import gc
import sys

# Loading torch creates some 200,000 objects that stay. Looking for garbage among them costs 0.1 s
# while it loads, and 0.4 s when Python exits.
_THRESHOLD = 10_000  # new objects until the next look; Python's default is 700


def main() -> int:
    """Run the command; an interrupt while it is still loading ends it without a traceback, too."""
    gc.set_threshold(_THRESHOLD)
    try:
        from smidgen.cli import main as command

        return command()
    except KeyboardInterrupt:
        print("smidgen: interrupted", file=sys.stderr)
        return 130
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
