"""The record of an export, export.json: what was written and how it compares with the network."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How the scores of an exported file compare with those that it must give, by image."""

    reference: Literal["network", "integers"]
    """Whose scores: those of the trained network, in floating point, or those of its integer
    network, which docs/int8.md defines."""
    unit: Literal["score", "step"]
    """Of differences between scores: the network's own, or steps of an int8."""
    num_images: int
    """Images of the test split that were compared, from the first one on."""
    num_correct: int
    """Of these, those that the exported file classifies correctly."""
    differing: tuple[int, ...]
    """Indices of the images for which the exported file predicts another class."""
    largest_difference: float
    """Of any score."""
    tolerance: float
    """The largest difference that is allowed."""
    notes: tuple[str, ...] = ()
    """What else was measured or should be known, one sentence each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedFile:
    """A file of an artifact."""

    path: str
    """Relative to the folder of export.json, with slashes."""
    sha256: str
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """What one exporter wrote."""

    name: str
    """onnx, int8, c or html."""
    files: tuple[ExportedFile, ...]
    comparison: Comparison


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRecord:
    """All artifacts in a folder that were exported from one run."""

    weights_sha256: str
    """Of the run's file weights.safetensors."""
    artifacts: tuple[Artifact, ...]
