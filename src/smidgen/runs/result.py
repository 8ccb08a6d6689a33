"""The result of a run."""

import html
from dataclasses import dataclass, field
from pathlib import Path

from smidgen.budget import Verdict
from smidgen.errors import ConfigError
from smidgen.record import RunRecord, read_times
from smidgen.report import Drawing, find_drawing, read_run, result_sentence
from smidgen.runs.load import TrainedNetwork


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """The result of a run; only the verdict if the budget stopped it before training."""

    verdict: Verdict
    """The budget compared with the run."""
    folder: Path | None = None
    """The run's folder."""
    record: RunRecord | None = None
    """The run's record."""
    network: TrainedNetwork | None = field(default=None, repr=False, compare=False)
    """The trained network, in eval mode on the CPU."""

    @property
    def sentence(self) -> str:
        """The result in a sentence."""
        if self.record is None or self.folder is None:
            return "stopped before training: the network or the epochs are over the budget"
        return result_sentence(self.record, read_times(self.folder))

    def plot(self, name: str) -> Drawing:
        """A plot or images from the report, by name: accuracy, loss, network, samples and so on.

        Notebooks show it; its `png` is the content of a file.

        Raises:
            ConfigError: the report has none of this name (the message lists them), or there is no
                report, as the run was stopped before training.
        """
        if self.folder is None:
            raise ConfigError("the run was stopped before training; there is nothing to plot.")
        return find_drawing(read_run(self.folder), name)

    def __str__(self) -> str:
        return f"{self.sentence}\n{self.verdict}"

    def _repr_html_(self) -> str:
        """The result with the verdict as a table, for notebooks."""
        return f"<p>{html.escape(self.sentence)}</p>{self.verdict._repr_html_()}"
