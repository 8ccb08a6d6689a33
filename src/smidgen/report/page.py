"""What all reports share: plots with captions, and writing a page as HTML and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from smidgen._storage.files import make_folder, write_atomic
from smidgen.formatting import markdown_table
from smidgen.record import PAGE
from smidgen.report.style import as_png, as_svg, is_wide

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("smidgen.report"),
    undefined=jinja2.StrictUndefined,
    autoescape=jinja2.select_autoescape(["html.jinja"]),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


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
    def is_wide(self) -> bool:
        """Whether it takes the page's full width."""
        return is_wide(self.figure)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a paragraph and the plots below it."""

    title: str
    text: str
    plots: tuple[Plot, ...]


def write_page(template: str, context: dict[str, Any], plots: Sequence[Plot], out: Path) -> Path:
    """Write report.html, report.md and figures/*.png into the folder `out`; the path of the first.

    `template` names a pair of templates, for HTML and for Markdown, that `context` fills.

    Raises:
        SmidgenError: a file cannot be written.
    """
    figures = make_folder(out / "figures")
    for plot in plots:
        write_atomic(figures / f"{plot.name}.png", as_png(plot.figure))
    page = out / PAGE
    context = context | {"markdown_table": markdown_table}
    for path, suffix in ((out / "report.md", "md"), (page, "html")):
        text = _TEMPLATES.get_template(f"{template}.{suffix}.jinja").render(context)
        write_atomic(path, text)
    return page
