"""What came of a run, frozen: the only thing that tables, plots and reports read; JSON in and out.

Sizes are (height, width); shapes leave the batch out; accuracy is a fraction; units stand in names.
"""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from smidgen._storage.serialization import from_plain, to_plain
from smidgen.budget import Verdict
from smidgen.config import Experiment, beside
from smidgen.errors import RecordError

SCHEMA = 3

# The files of a run's folder.
EXPERIMENT = "experiment.toml"
RECORD = "run.json"
METRICS = "metrics.jsonl"
WEIGHTS = "weights.safetensors"
DIAGNOSTICS = "diagnostics.safetensors"
TIMES = "times.json"
PAGE = "report.html"

T = TypeVar("T")
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
    backend: str
    """How training steps were computed: eager, channels-last or native."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What came of one experiment with one seed."""

    schema: int
    experiment: Experiment
    seed: int
    command: str
    """What repeats it, in the run's folder."""
    data: DataRecord
    profile: Profile
    epochs: tuple[Epoch, ...]
    test: Evaluation
    test_looks: int
    """How often the test set was scored."""
    weights_sha256: str
    diagnostics_sha256: str
    environment: Environment
    verdict: Verdict
    inexact: tuple[str, ...] = ()
    """A sentence for each time that the run went on where it could not be what it would have been
    without the stop: another build, device or number of threads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """How long a run took: what differs each time, and so has a file of its own."""

    started: str
    """UTC, ISO 8601."""
    epoch_seconds: tuple[float, ...] = ()
    """Of each epoch with its validation."""
    train_seconds: float = 0.0
    """The training loop, from the first step to the last; work that was lost is not counted."""
    total_seconds: float = 0.0
    """From the start of the run, data and test included."""
    checkpoint_seconds: float = 0.0
    """Of train_seconds: what writing checkpoints took."""
    stops: int = 0
    """How often the run was stopped and went on."""


def format_record(record: RunRecord) -> str:
    """The record as JSON that says its own digest."""
    return _seal(json.dumps(to_plain(record), indent=1, allow_nan=False) + "\n")


def format_times(times: Times) -> str:
    """The times as JSON that says its own digest."""
    return _seal(json.dumps(to_plain(times), indent=1, allow_nan=False) + "\n")


def format_epoch(epoch: Epoch) -> str:
    """One line of JSON, newline included."""
    return json.dumps(to_plain(epoch), allow_nan=False) + "\n"


def require_files(folder: Path) -> None:
    """Nothing, where what a run's folder holds by a run's names are files.

    Raises:
        RecordError: one is out of reach, or a pipe or a device, which would be read for ever.
    """
    for name in (RECORD, EXPERIMENT, METRICS, WEIGHTS, DIAGNOSTICS, TIMES):
        path = folder / name
        try:
            special = path.exists() and not (path.is_file() or path.is_dir())
        except OSError as error:
            raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
        if special:
            raise RecordError(f"{path} is no file but a pipe or a device; refused.")


def read_record(folder: Path, edited: bool = False) -> RunRecord:
    """The record of the run in `folder`, from its run.json; with `edited`, a changed one too.

    Raises:
        RecordError: there is none (a run that did not finish has none), it is damaged, or it was
            changed after it was written.
    """
    require_files(folder)
    path = folder / RECORD
    plain = _read_sealed(path, edited)
    if plain is None:
        raise RecordError(f"{folder} is not a finished run: it holds no {RECORD}.")
    if plain.get("schema") != SCHEMA:
        raise RecordError(
            f"{path} has schema {plain.get('schema')!r}; this smidgen reads {SCHEMA}. Repeat the "
            "run, or read it with the smidgen that wrote it."
        )
    record = _as(RunRecord, plain, path)
    return replace(record, experiment=beside(record.experiment, folder))


def read_times(folder: Path) -> Times | None:
    """How long the run in `folder` took; None where that was not kept.

    Raises:
        RecordError: its times.json is damaged, or was changed after it was written.
    """
    path = folder / TIMES
    plain = _read_sealed(path)
    return None if plain is None else _as(Times, plain, path)


def is_sealed(text: str) -> bool:
    """Whether a JSON text is as it was written: its first line holds the rest's SHA-256."""
    digest, rest = text[len(_SEAL) :][:64], text[len(_SEAL) + 64 :]
    body = "{" + rest.removeprefix('",')
    return text == _SEAL + digest + '",' + body[1:] and digest == _sha256(body)


_SEAL = '{\n "sha256": "'


def _seal(body: str) -> str:
    return f'{_SEAL}{_sha256(body)}",{body[1:]}'


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_sealed(path: Path, edited: bool = False) -> dict[str, Any] | None:
    """The content of a sealed file without its digest; None where there is no such file."""
    try:
        text = path.read_bytes().decode()  # as it is: no line end is converted
        plain = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        if not isinstance(plain, dict):
            raise ValueError("the file must be a table")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}.") from None
    if not edited and plain.get("schema", SCHEMA) == SCHEMA and not is_sealed(text):
        raise RecordError(
            f"{path} was changed after it was written: its content does not have the SHA-256 that "
            "it says. Bring the original back, or repeat the run."
        )
    plain.pop("sha256", None)
    return plain


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("it has a number beyond double precision")
    return value


def _as(kind: type[T], plain: dict[str, Any], path: Path) -> T:
    try:
        return from_plain(kind, plain)
    except ValueError as error:
        raise RecordError(f"{path} is damaged: {error}") from None
