"""The look of all figures, and their export as SVG, in the colors of the page, and as PNG."""

import html
import io
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

# Okabe and Ito's palette, safe for people with color vision deficiency, without black and yellow.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", ":", "-.")
INK = "#010203"  # text and axes: becomes the page's own text color in an SVG
NARROW = 4.9  # inches: a column of a page, in which a figure is about as large as it was drawn
LOW = 3.3  # inches: the height of most figures, so that their rows are even
_DPI, _PNG_COLORS = 120, 64  # of a PNG
_MOST_LETTERS = 25  # of a name in a figure
_MARGINS = {"left": 0.72, "right": 0.12, "bottom": 0.55, "top": 0.35}  # inches around the axes
LEGEND_LINE = 0.22  # inches
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "smidgen",  # the same record gives the same bytes
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titley": 1.0,  # fixed: to place it, matplotlib would measure all ticks
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#888888",
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@contextmanager
def new_figure(width: float, height: float) -> Iterator["Figure"]:
    """An empty figure, sized in inches; axes made within the context have the project's style.

    The margins are fixed: measuring all texts for a layout takes longer than drawing them.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        set_margins(figure)
        yield figure


def set_margins(figure: "Figure", **inches: float) -> None:
    """Place the axes: the distances named (left, right, bottom, top) differ from the usual ones."""
    width, height = figure.get_size_inches()
    margins = _MARGINS | inches
    figure.subplots_adjust(
        left=margins["left"] / width,
        right=1 - margins["right"] / width,
        bottom=margins["bottom"] / height,
        top=1 - margins["top"] / height,
    )


def add_legend(figure: "Figure", columns: int, **inches: float) -> None:
    """Add a legend below the axes, where no curve crosses it, in rows of `columns` entries.

    `inches` are margins, as in set_margins.
    """
    handles, labels = figure.axes[0].get_legend_handles_labels()
    rows = -(-len(labels) // columns)
    set_margins(figure, bottom=_MARGINS["bottom"] + LEGEND_LINE * rows, **inches)
    # matplotlib fills a legend column by column, readers go row by row
    order = [i for column in range(columns) for i in range(column, len(labels), columns)]
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="lower center",
        ncols=columns,
        labelspacing=0.15,  # which makes rows LEGEND_LINE apart
        borderpad=0,
        borderaxespad=0.3,
        columnspacing=1 if columns > 3 else 1.5,
        handlelength=1.8,
        handletextpad=0.5,
    )


def line_style(number: int) -> dict[str, str]:
    """Color, marker and line of the curve with this number; the first 36 all differ."""
    turn = number // len(COLORS)
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[(number + turn) % len(MARKERS)],
        "linestyle": LINES[turn % len(LINES)],
    }


def short_names(names: Sequence[str]) -> list[str]:
    """Names as labels: without the middle of long ones, and with dollar signs escaped.

    matplotlib would read text between dollar signs as a formula.

    >>> short_names(["cat", "a dog that is not a cat, but a dog"])
    ['cat', 'a dog that is…, but a dog']
    """
    return [short_name(name).replace("$", r"\$") for name in names]


def short_name(name: str) -> str:
    """The name without its middle, if it is long."""
    return name if len(name) <= _MOST_LETTERS else f"{name[:13]}…{name[-11:]}"


def add_title(artist: "Artist", title: str) -> None:
    """Show `title` when the pointer is on the artist in an SVG."""
    artist.set_gid(f"title:{title}")


def as_svg(figure: "Figure", alt: str) -> str:
    """The figure as an SVG element in the page's colors; `alt` describes it in words."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE), _any_script():
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for number, color in enumerate(COLORS):  # lighter ones on a dark page
        text = text.replace(color.lower(), f"var(--c{number}, {color})")
    # matplotlib's identifiers are unique within a figure only, and a page has many.
    salt = format(zlib.crc32(alt.encode()), "08x")
    text = re.sub(r'(id="|url\(#|href="#)', lambda match: f"{match[0]}{salt}-", text)
    text = re.sub(r'<g id="\w+-title:(.*?)">', r"<g><title>\1</title>", text)
    # A phone scrolls a large figure; scaled down, its text would be too small, and scaled up, huge.
    width = figure.get_figwidth()
    limits = f"min-width: {72 * width:.0f}px; max-width: {96 * width:.0f}px"
    style = f' style="{limits}"' if is_wide(figure) else ""
    start = f'<svg role="img" aria-label="{html.escape(alt)}"{style} '
    return text.replace("<svg ", start, 1)


def as_svg_file(figure: "Figure", alt: str) -> str:
    """The figure as an SVG file, in a color that suits the viewer's light or dark pages."""
    style = (
        "<style>:root{color:#1b1f24}text{font-family:system-ui,sans-serif!important}"
        "@media(prefers-color-scheme:dark){:root{color:#e6edf3}}</style>"
    )
    return as_svg(figure, alt).replace(">", f">{style}", 1)


def is_wide(figure: "Figure") -> bool:
    """Whether the figure is too wide for a phone or for a column of a page."""
    return bool(figure.get_figwidth() > NARROW)


def as_png(figure: "Figure") -> bytes:
    """The figure as a PNG on white, with a palette, which makes it a third as large."""
    import matplotlib
    from PIL import Image

    # those that only carry titles in an SVG
    unseen = [patch for axes in figure.axes for patch in axes.patches if patch.get_alpha() == 0]
    for patch in unseen:
        patch.set_visible(False)
    pixels, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(_STYLE), _any_script():
        figure.savefig(pixels, format="rgba", dpi=_DPI, facecolor="white")
    for patch in unseen:
        patch.set_visible(True)
    width, height = (int(inches * _DPI) for inches in figure.get_size_inches())
    image = Image.frombytes("RGBA", (width, height), pixels.getvalue()).convert("RGB")
    image.quantize(_PNG_COLORS).save(png, "PNG")
    return png.getvalue()


@contextmanager
def _any_script() -> Iterator[None]:
    """Ignore letters that matplotlib's font lacks: boxes in a PNG, themselves in an SVG."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield
