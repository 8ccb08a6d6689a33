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

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if not self.path or {"", ".", ".."} & set(parts) or set(self.path) & set("\\:"):
            raise ValueError(f"it names the file {self.path!r}, which may be outside its folder.")


@dataclass(frozen=True, kw_only=True, slots=True)
class BitsTrial:
    """The accuracy of the integer network with one choice of bits."""

    bits: tuple[int, ...]
    """Of a weight, by convolution and linear layer: 8, 4 or 2."""
    weight_bytes: int
    """Weights, packed as in the C code, and 4 or 6 bytes for each output channel."""
    accuracy: float
    """On the images that the choice is made by, before any fine-tuning."""
    fine_tuned_accuracy: float | None = None
    """Likewise, after fine-tuning; None: not fine-tuned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantization:
    """How the integer network was made of the trained one."""

    bits: tuple[int, ...]
    """Of a weight, by convolution and linear layer: 8, 4 or 2."""
    weight_bytes: int
    """As in BitsTrial."""
    split: Literal["validation", "train"]
    """Where bits and fine-tuning were chosen: train if there are no validation images."""
    float_accuracy: float
    """Of the trained network on this split."""
    accuracy: float
    """Of the integer network, after fine-tuning, if any."""
    fine_tune_epochs: int
    """Passes over the training images with rounding; the run's own epochs do not include them."""
    num_epochs: int | None
    """The run's epochs and these; None if the run's are not known."""
    max_epochs: int | None
    """Of the run's budget, which num_epochs may exceed."""
    trials: tuple[BitsTrial, ...]
    """All choices that were compared, the largest first; only one without a search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What the C code needs on a microcontroller; None: not measured."""

    target: str
    flash_bytes: int | None = None
    """Code, weights and tables, with the functions of the compiler's library that are called."""
    static_bytes: int | None = None
    """RAM of all variables, the working memory among them."""
    stack_bytes: int | None = None
    """The stack's peak, below the caller."""
    unit: Literal["cycles", "instructions"]
    """What was counted."""
    count: int | None = None
    """For one image."""
    note: str = ""
    """Why something was not measured."""

    @property
    def ram_bytes(self) -> int | None:
        """Variables and stack, without the image."""
        if self.static_bytes is None or self.stack_bytes is None:
            return None
        return self.static_bytes + self.stack_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """What one exporter wrote."""

    name: str
    """onnx, int8, c or html."""
    files: tuple[ExportedFile, ...]
    comparison: Comparison
    quantization: Quantization | None = None
    """None unless it is an integer network."""
    measurements: tuple[Measurement, ...] = ()
    """Of the C code, by microcontroller."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRecord:
    """All artifacts in a folder that were exported from one run."""

    weights_sha256: str
    """Of the run's file weights.safetensors."""
    artifacts: tuple[Artifact, ...]
