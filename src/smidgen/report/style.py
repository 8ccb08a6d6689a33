"""Figures as SVG, in the colours of the page around them, and as PNG."""

import html
import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind people can tell apart, without its black and yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", ":", "-.")
INK = "#010203"  # text and axes: becomes the page's own text colour in an SVG
NARROW = 4.6  # inches: the letters of a figure this wide can be read on a phone
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "smidgen",  # the same record gives the same bytes
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#888888",
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@contextmanager
def canvas(width: float, height: float) -> Iterator["Figure"]:
    """An empty figure of so many inches, in the project's style while the context lasts."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def as_svg(figure: "Figure", alt: str) -> str:
    """The figure as an SVG element with the page's own text colour; `alt` says it in words."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE), _any_script():
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # Identifiers are unique within a figure only; the page holds many.
    salt = format(zlib.crc32(alt.encode()), "08x")
    text = re.sub(r'(id="|url\(#|href="#)', lambda match: f"{match[0]}{salt}-", text)
    # A large figure is scrolled on a phone, where its letters would otherwise be too small.
    narrowest = f' style="min-width: {72 * figure.get_figwidth():.0f}px"' if is_wide(figure) else ""
    start = f'<svg role="img" aria-label="{html.escape(alt)}"{narrowest} '
    return text.replace("<svg ", start, 1)


def is_wide(figure: "Figure") -> bool:
    """Whether it is too wide for a phone or for a column of a page."""
    return bool(figure.get_figwidth() > NARROW)


def as_png(figure: "Figure") -> bytes:
    """The figure as a PNG on white."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE), _any_script():
        figure.savefig(
            buffer, format="png", dpi=120, facecolor="white", metadata={"Software": None}
        )
    return buffer.getvalue()


@contextmanager
def _any_script() -> Iterator[None]:
    """Letters that are not in matplotlib's font are boxes in a PNG, and themselves in an SVG."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield
