"""Figures as SVG, in the colours of the page around them, and as PNG."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind people can tell apart, without its black and yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#010203"  # text and axes: becomes the page's own text colour in an SVG
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
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # Identifiers are unique within a figure only; the page holds many.
    salt = format(hash_of(alt), "08x")
    text = re.sub(r'(id="|url\(#|href="#)', lambda match: f"{match[0]}{salt}-", text)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', text, count=1)


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
    """Letters that matplotlib's font has not are boxes in a PNG, without a word; a page has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def hash_of(text: str) -> int:
    """A number for a text, the same in every process."""
    import zlib

    return zlib.crc32(text.encode())
