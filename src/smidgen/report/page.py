"""What reports consist of (plots, images, tables), and writing them as HTML and as Markdown."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jinja2

from smidgen._storage.files import make_folder, write_atomic
from smidgen.errors import ConfigError
from smidgen.formatting import markdown_table
from smidgen.record import MARKDOWN_PAGE, PAGE
from smidgen.report.image_grid import Pixels, arrange, data_uri
from smidgen.report.image_grid import as_png as image_as_png
from smidgen.report.style import as_png, as_svg, as_svg_file, is_wide

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from smidgen.report.mistakes import Mistakes


class Drawing(Protocol):
    """Something that Markdown shows as a file."""

    @property
    def name(self) -> str:
        """Of its file, without the suffix."""

    @property
    def png(self) -> bytes:
        """The content of the file."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its caption, which also describes it to those who cannot see it."""

    name: str
    """Of its file, without the suffix."""
    caption: str
    """Without a full stop."""
    figure: "Figure"

    @property
    def svg(self) -> str:
        """The figure as an SVG element."""
        return as_svg(self.figure, self.caption)

    @property
    def png(self) -> bytes:
        """The figure as a PNG."""
        return as_png(self.figure)

    @property
    def is_wide(self) -> bool:
        """Whether it takes the page's full width."""
        return is_wide(self.figure)

    def _repr_png_(self) -> bytes:
        """The figure, for notebooks."""
        return self.png

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the figure as SVG, which follows a page from light to dark, or as PNG on white.

        Raises:
            ConfigError: the name ends in neither .svg nor .png.
            SmidgenError: the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in (".svg", ".png"):
            raise ConfigError(f"{path}: save it as .svg or .png.")
        content = self.png if suffix == ".png" else as_svg_file(self.figure, self.caption)
        write_atomic(Path(path), content)


@dataclass(frozen=True, slots=True)
class Images:
    """Images of one shape with a caption for all, and one for each if they have any."""

    name: str
    """Of its file, without the suffix."""
    caption: str
    """Without a full stop."""
    pixels: Pixels
    """(n, height, width, 4), as `image_grid.colored` makes them."""
    captions: Sequence[str] = ()
    """Of each image."""
    size: int = 84
    """About how many pixels wide the page shows each."""

    @property
    def items(self) -> list[tuple[str, str]]:
        """Address and caption of each image."""
        captions = self.captions or [""] * len(self.pixels)
        return [(data_uri(p), text) for p, text in zip(self.pixels, captions, strict=False)]

    def _repr_png_(self) -> bytes:
        """All images, for notebooks."""
        return self.png

    @property
    def scale(self) -> int:
        """How large the page shows each pixel."""
        return max(1, int(self.size / self.pixels.shape[2] + 0.5))

    @property
    def width(self) -> int:
        """Of each image on the page, in pixels."""
        return int(self.scale * self.pixels.shape[2])

    @property
    def png(self) -> bytes:
        """All images in rows as a PNG."""
        across = max(1, 800 // self.width)
        rows = [self.pixels[at : at + across] for at in range(0, len(self.pixels), across)]
        return image_as_png(arrange(rows), self.scale)


@dataclass(frozen=True, slots=True)
class Table:
    """Header and rows of a table."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    text_columns: Sequence[int] = ()
    """Columns that are aligned left, besides the first."""
    bars: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """By column, the length of a bar behind each cell, from 0 to 1; only in HTML."""
    bars_show: str = ""
    """What the bars mean, as a sentence below the title."""
    marked: Sequence[int] = ()
    """Rows that stand out."""


Tile = tuple[str, str, str, str]
"""Name, value, a note such as its limit, and the class that colors it: pass, fail or none."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a paragraph, and plots, tables and images below it."""

    title: str
    text: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    images: Sequence[Images] = ()
    mistakes: "Mistakes | None" = None
    """Confusion matrix and confused pairs."""

    @property
    def drawings(self) -> list[Drawing]:
        """What Markdown shows as files."""
        return [*self.plots, *self.images]


def anchor(title: str) -> str:
    """The identifier of a heading, for links to it.

    >>> anchor("To repeat it, in the run's folder")
    'to-repeat-it-in-the-run-s-folder'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smidgen.report"),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["anchor"] = anchor
    environment.globals["markdown_table"] = markdown_table
    return environment


_TEMPLATES = _environment()


def write_page(
    template: str, context: dict[str, Any], drawings: Sequence[Drawing], out: Path
) -> Path:
    """Write report.html, report.md and figures/*.png into the folder `out`; the path of the first.

    `template` names a pair of templates, for HTML and for Markdown, that `context` fills.

    Raises:
        SmidgenError: a file cannot be written.
    """
    write_markdown(template, context, drawings, out)
    page = out / PAGE
    write_atomic(page, render(f"{template}.html", context))
    return page


def write_markdown(
    template: str, context: dict[str, Any], drawings: Sequence[Drawing], out: Path
) -> Path:
    """Write report.md and figures/*.png into the folder `out`; the path of the first.

    Raises:
        SmidgenError: a file cannot be written.
    """
    figures = make_folder(out / "figures")
    for drawing in drawings:
        write_atomic(figures / f"{drawing.name}.png", drawing.png)
    page = out / MARKDOWN_PAGE
    write_atomic(page, render(f"{template}.md", context))
    return page


def render(template: str, context: dict[str, Any]) -> str:
    """The text of the template of this name, such as run.html, filled from `context`."""
    return _TEMPLATES.get_template(f"{template}.jinja").render(context)
