"""What exporters get, and how they prove that what they wrote answers as the network does.

An exporter is a function of a job and a new, empty folder. It writes its files there, computes
their scores of the test images, and returns their comparison with those that they must give. If
they differ too much it raises an ExportError, and its files are dropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from smidgen.data import Dataset
from smidgen.errors import ExportError
from smidgen.exporters.graph import Graph
from smidgen.exporters.integer import Int8, IntegerNetwork
from smidgen.record import Comparison, RunRecord

Scores: TypeAlias = NDArray[Any]
REFERENCES = {"network": "network", "integers": "integer network"}
"""What a comparison's reference is called."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportJob:
    """A trained network, ready for export."""

    record: RunRecord
    """Of the run that trained it: its experiment, seed, classes, normalization, results."""
    network: nn.Module
    """Takes raw pixels, uint8 (batch, channels, height, width); returns scores (batch, classes)."""
    dataset: Dataset
    """Exporters compare on its test split, and choose thresholds on its validation split."""
    quantize: Callable[[Graph], IntegerNetwork]
    """Called once, by the first exporter that needs `integers`."""
    make_graph: Callable[[], Graph]
    """Called once, by the first exporter that needs `graph`."""
    license: str = ""
    """Of the exported files, for their metadata: an SPDX identifier or a short text."""

    @property
    def title(self) -> str:
        """The run, in a few words for comments and metadata.

        For example: quickstart, seed 0, weights 0123456789ab.
        """
        record = self.record
        digest = record.weights_sha256[:12]
        return f"{record.experiment.name}, seed {record.seed}, weights {digest}"

    @cached_property
    def graph(self) -> Graph:
        """The network as a graph; a ModelError names what cannot be exported."""
        return self.make_graph()

    @cached_property
    def integers(self) -> IntegerNetwork:
        """The integer network, whose accuracy has been checked."""
        return self.quantize(self.graph)

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """The test images, (images, channels, height, width)."""
        pixels: NDArray[np.uint8] = self.dataset.test.images.numpy()
        return pixels

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """The network's scores of the test images, (images, classes)."""
        with torch.no_grad():
            batches = [
                self.network(images) for images in torch.split(self.dataset.test.images, 500)
            ]
        scores: NDArray[np.float32] = torch.cat(batches).numpy()
        return scores

    @cached_property
    def integer_scores(self) -> Int8:
        """The integer network's scores of the test images, (images, classes)."""
        return self.integers.scores(self.pixels)

    def compare(
        self,
        scores: Scores,
        reference: Literal["network", "integers"],
        *,
        tolerance: float,
        max_differing: int = 0,
        notes: Sequence[str] = (),
    ) -> Comparison:
        """Compare an exported file's `scores` of the first test images with the reference's.

        `tolerance` is the largest difference of any score that is allowed, `max_differing` the
        largest number of images with another prediction.

        Raises:
            ExportError: a score differs by more, more predictions differ, or the scores have
                another shape or are not finite.
        """
        expected = (self.scores if reference == "network" else self.integer_scores)[: len(scores)]
        if scores.shape != expected.shape or not np.isfinite(scores).all():
            raise ExportError(
                f"the scores have the shape {scores.shape}, not {expected.shape}, or are not finite"
            )
        predicted = scores.argmax(1)
        differing = np.flatnonzero(predicted != expected.argmax(1)).tolist()
        largest = float(np.abs(scores.astype(np.float64) - expected).max())
        labels = self.dataset.test.labels.numpy()[: len(scores)]
        unit: Literal["score", "step"] = "score" if reference == "network" else "step"
        if len(differing) > max_differing or largest > tolerance:
            of = " steps" if unit == "step" else ""
            raise ExportError(
                f"{len(differing):,} of {len(scores):,} predictions differ from those of the "
                f"{REFERENCES[reference]} ({max_differing} may){_listed(differing)}; the largest "
                f"difference of a score is {largest:.3g}{of} ({tolerance:g} is allowed)"
            )
        return Comparison(
            reference=reference,
            unit=unit,
            num_images=len(scores),
            num_correct=int((predicted == labels).sum()),
            differing=tuple(differing),
            largest_difference=largest,
            tolerance=tolerance,
            notes=tuple(notes),
        )


Exporter: TypeAlias = Callable[[ExportJob, Path], Comparison]


def _listed(indices: Sequence[int], at_most: int = 10) -> str:
    """The images by index, in words."""
    if not indices:
        return ""
    more = ", ..." if len(indices) > at_most else ""
    return f": test images {', '.join(map(str, indices[:at_most]))}{more}"
