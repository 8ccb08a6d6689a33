"""The report of one run: Markdown and its picture, from the record alone."""

from pathlib import Path

import jinja2

from smidgen.files import write_whole
from smidgen.record import Epoch, RunRecord, Score
from smidgen.report.analysis import facts
from smidgen.report.curves import curves_png
from smidgen.report.figures import limit_cells, percent, result_text, seconds
from smidgen.report.tables import layer_table, markdown_table, receptive_field_table, totals

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("smidgen.report"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # Markdown
)


def write_report(record: RunRecord, folder: Path) -> Path:
    """Write report.md and curves.png into `folder`; the path of the page.

    Raises:
        SmidgenError: a file cannot be written.
    """
    write_whole(folder / "curves.png", curves_png(record))
    page = folder / "report.md"
    write_whole(page, report_markdown(record))
    return page


def report_markdown(record: RunRecord) -> str:
    """Target, result, analysis, tables and curves of a run, in Markdown."""
    return _TEMPLATES.get_template("report.md.jinja").render(
        record=record,
        experiment=record.experiment,
        result=result_text(record),
        verdict=markdown_table(
            ("limit", "bound", "figure", "verdict"), [limit_cells(x) for x in record.verdict.limits]
        ),
        facts=facts(record),
        layers=layer_table(record.profile),
        receptive_field=receptive_field_table(record.profile),
        totals=totals(record.profile),
        epochs=markdown_table(_EPOCH_HEADER, [_epoch_cells(epoch) for epoch in record.epochs]),
        total_time=seconds(record.total_seconds),
    )


_EPOCH_HEADER = (
    "epoch", "training loss", "training accuracy", "validation loss", "validation accuracy",
    "test accuracy", "learning rate", "seconds",
)  # fmt: skip


def _epoch_cells(epoch: Epoch) -> tuple[str, ...]:
    def cells(score: Score | None) -> tuple[str, str]:
        return (f"{score.loss:.4f}", percent(score.accuracy)) if score else ("", "")

    test = cells(epoch.test)[1]
    rest = (f"{epoch.lr:.5f}", f"{epoch.seconds:.1f}")
    return (str(epoch.epoch), *cells(epoch.train), *cells(epoch.validation), test, *rest)
