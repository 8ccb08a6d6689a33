"""What came of a run, frozen: the only thing that tables, plots and reports read; JSON in and out.

Sizes are (height, width); shapes leave the batch out; accuracy is a fraction; units stand in names.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from smidgen.budget import Verdict
from smidgen.config import Experiment, beside
from smidgen.errors import RecordError
from smidgen.schema import from_plain, to_plain

SCHEMA = 1

# The files of a run's folder.
EXPERIMENT = "experiment.toml"
RECORD = "run.json"
METRICS = "metrics.jsonl"
WEIGHTS = "weights.safetensors"
EXHIBITS = "exhibits.safetensors"

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What a convolution or pooling layer slides over its input, (vertical, horizontal)."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One row of the layer table: a module that ran, or a function that is not just pointwise."""

    name: str
    """Type and number, such as Conv2d-1, in the order in which they ran."""
    path: str
    """Where in the network: the module's dotted name."""
    operation: str
    """The type alone."""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    params: int
    """Parameters that no row above has counted."""
    macs: int
    """Multiply-adds for one image."""
    window: Window | None
    rf_in: Pair | None
    """Receptive field of the input, in pixels of the image; None where it is not defined or not
    known."""
    rf_out: Pair | None
    rf_probed: bool
    """Whether rf_out was measured by a probe, which the image's borders cut off."""
    jump_in: Pair | None
    """Pixels of the image between two neighbours of the input."""
    jump_out: Pair | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What can be known of a network without training it, as docs/definitions.md defines it."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    num_params: int
    num_trainable_params: int
    macs: int
    weight_bytes: int
    peak_activation_bytes: int
    largest_buffer_bytes: int
    notes: tuple[str, ...]
    """What the profile could not determine, a sentence each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Mean cross-entropy and accuracy over a set of images."""

    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One line of metrics.jsonl."""

    epoch: int
    """From 1."""
    train: Score
    """Over the epoch as it ran: augmented images, dropout on, weights moving."""
    validation: Score | None
    """None where every image was trained on."""
    test: Score | None
    """None unless asked for: a look at the test set that is counted."""
    lr: float
    """The learning rate of the epoch's last step."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """The images whose likeliest class has a probability in one bin of equal width."""

    num_images: int
    confidence: float
    """Mean probability of the likeliest class; 0 where there are no images."""
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A network's score on one set of images, with who was taken for whom."""

    score: Score
    num_images: int
    num_correct: int
    confusion: tuple[tuple[int, ...], ...]
    """Images by true class (row) and predicted class (column)."""
    calibration: tuple[CalibrationBin, ...] = ()
    """Bins of the likeliest class's probability, from 0 to 1; none in an older record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRecord:
    """The data that a run saw."""

    name: str
    source: str
    """Where it came from, in words."""
    sha256: str
    """Of all images and labels as decoded."""
    num_train: int
    num_validation: int
    num_test: int
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    mean: tuple[float, ...]
    """By channel, of pixels in [0, 1]: what is subtracted before the network sees an image."""
    std: tuple[float, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was noticed about the data, a sentence each."""

    def __post_init__(self) -> None:
        channels = self.image_shape[0]
        if not len(self.mean) == len(self.std) == channels or not all(s > 0 for s in self.std):
            raise ValueError(
                f"data has means {self.mean} and deviations {self.std}; it must have one of each "
                f"for {channels} channels, the deviations above 0."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """What the run ran on."""

    smidgen: str
    commit: str | None
    """Of the checkout that smidgen ran from, with "+" where it was changed; None outside of one."""
    python: str
    torch: str
    platform: str
    processor: str
    device: str
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What came of one experiment with one seed."""

    schema: int
    experiment: Experiment
    seed: int
    command: str
    """What repeats it, in the run's folder."""
    started: str
    """UTC, ISO 8601."""
    train_seconds: float
    """The training loop with its validation, from the first step to the last."""
    total_seconds: float
    """From the start of the run, data and test included."""
    data: DataRecord
    profile: Profile
    epochs: tuple[Epoch, ...]
    test: Evaluation
    test_looks: int
    """How often the test set was scored."""
    weights_sha256: str
    environment: Environment
    verdict: Verdict


def format_record(record: RunRecord) -> str:
    """The record as JSON."""
    return json.dumps(to_plain(record), indent=1, allow_nan=False) + "\n"


def format_epoch(epoch: Epoch) -> str:
    """One line of JSON, newline included."""
    return json.dumps(to_plain(epoch), allow_nan=False) + "\n"


def read_record(folder: Path) -> RunRecord:
    """The record of the run in `folder`, from its run.json.

    Raises:
        RecordError: there is none (a run that did not finish has none), or it is damaged.
    """
    path = folder / RECORD
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{folder} is not a finished run: it holds no {RECORD}.") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}.") from None
    if isinstance(plain, dict) and plain.get("schema") != SCHEMA:
        raise RecordError(
            f"{path} has schema {plain.get('schema')!r}; this smidgen reads {SCHEMA}. Repeat the "
            "run, or read it with the smidgen that wrote it."
        )
    try:
        record = from_plain(RunRecord, plain)
    except ValueError as error:
        raise RecordError(f"{path} is damaged: {error}") from None
    return replace(record, experiment=beside(record.experiment, folder))
