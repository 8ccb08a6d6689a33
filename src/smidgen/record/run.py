"""The record of a run: data, environment, epochs, test score and verdict.

Accuracy is a fraction; names contain the units. A type refuses content that no run can have and
no report can show, whether it was just computed or read from a file.
"""

import math
from dataclasses import dataclass, fields

from smidgen.budget import Verdict
from smidgen.config import Experiment
from smidgen.record.profile import Profile

_MAX_FLOAT32 = 3.4028235e38


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Mean cross-entropy and accuracy over a set of images."""

    loss: float
    """Mean cross-entropy, in nats."""
    accuracy: float
    """Correctly classified images, a fraction."""

    def __post_init__(self) -> None:
        if _MAX_FLOAT32 < self.loss < math.inf:
            raise ValueError(f"it has a loss of {self.loss}, which is beyond single precision.")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepScore:
    """The training score over a few consecutive steps of an epoch."""

    step: int
    """The last of these steps, from 1 in each epoch."""
    train: Score
    """Averaged over the steps since the entry before this one."""
    lr: float
    """The learning rate of the last step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One line of metrics.jsonl."""

    epoch: int
    """From 1."""
    train: Score
    """Averaged over the epoch: augmented images, dropout on, weights changing."""
    validation: Score | None
    """None if there is no validation split."""
    test: Score | None
    """None unless the experiment asks for it; each score counts as a look at the test set."""
    lr: float
    """The learning rate of the epoch's last step."""
    steps: tuple[StepScore, ...] | None = None
    """Scores within the epoch, if the run has fewer than five; the last entry is its last step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """The images whose highest class probability falls into one bin of equal width."""

    num_images: int
    """Images in the bin."""
    confidence: float
    """Mean of the highest class probability; 0 if there are no images."""
    accuracy: float
    """Correctly classified images, a fraction; 0 if there are none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A network's score on one split, with its confusion matrix."""

    score: Score
    """Mean loss and accuracy."""
    num_images: int
    """Images in the split."""
    num_correct: int
    """Correctly classified images."""
    confusion: tuple[tuple[int, ...], ...]
    """Images by true class (row) and predicted class (column)."""
    calibration: tuple[CalibrationBin, ...] = ()
    """Bins of the highest class probability, from 0 to 1; an older record has none."""

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError(f"it has {self.num_images} test images; there must be at least one.")
        if not 0 <= self.num_correct <= self.num_images:
            raise ValueError(f"it has {self.num_correct} correct of {self.num_images} test images.")
        sizes = {len(self.confusion), *map(len, self.confusion)}
        if len(sizes) > 1 or 0 in sizes:
            raise ValueError("it has a confusion matrix that is not square.")

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance between confidence and accuracy over the bins, weighted by images.

        A fraction. (Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017.)
        """
        gaps = (b.num_images * abs(b.confidence - b.accuracy) for b in self.calibration)
        return sum(gaps) / self.num_images


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRecord:
    """The data set that a run used."""

    name: str
    """As the experiment calls it."""
    source: str
    """Where it came from, in words."""
    sha256: str
    """Of all decoded images and labels."""
    num_train: int
    """Images in the training split."""
    num_validation: int
    """Images in the validation split."""
    num_test: int
    """Images in the test split."""
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    mean: tuple[float, ...]
    """By channel, of pixels in [0, 1]: subtracted from each image before the network."""
    std: tuple[float, ...]
    """By channel: what each image is then divided by."""
    classes: tuple[str, ...]
    """Names, in the order of the labels."""
    notes: tuple[str, ...] = ()
    """One sentence for each thing that was noticed about the data."""

    @property
    def origin(self) -> str:
        """The name and where the data came from, unless that says no more than the name."""
        repeats = self.source == f"the folder {self.name}"
        return self.name if repeats else f"{self.name}, {self.source}"

    def __post_init__(self) -> None:
        channels = self.image_shape[0]
        if not len(self.mean) == len(self.std) == channels or not all(s > 0 for s in self.std):
            raise ValueError(
                f"data has means {self.mean} and deviations {self.std}; it must have one of each "
                f"for {channels} channels, the deviations above 0."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """Software and hardware of a run."""

    smidgen: str
    """Version."""
    commit: str | None
    """Of smidgen's checkout; None outside of one. With changes: "+" and a digest of them."""
    python: str
    """Version."""
    torch: str
    """Version."""
    platform: str
    """Operating system and machine."""
    processor: str
    """Model and number of cores."""
    device: str
    """cpu, cuda or mps."""
    threads: int
    """CPU threads."""
    backend: str
    """How training steps were computed: eager, channels-last or native."""
    kernels_sha256: str | None = None
    """Of the compiled library of the native backend; None for the others."""
    compiler: str | None = None
    """What compiled it, by its own description; None for the other backends."""

    def changes_to(self, other: "Environment") -> tuple[str, ...]:
        """What differs in `other`, one phrase for each field."""
        return tuple(
            f"{field.name} {new} instead of {old}"
            for field in fields(self)
            if (new := getattr(other, field.name)) != (old := getattr(self, field.name))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """The result of one experiment with one seed."""

    schema: int
    """Version of this format."""
    experiment: Experiment
    """The resolved experiment."""
    seed: int
    """Of the first weights, the order of the images, augmentation and dropout."""
    command: str
    """Repeats the run, in the run's folder."""
    data: DataRecord
    """The data set."""
    profile: Profile
    """The network."""
    epochs: tuple[Epoch, ...]
    """Loss and accuracy by epoch; the last epoch counts."""
    test: Evaluation
    """The test score after the last epoch."""
    test_looks: int
    """How often the test set was scored."""
    weights_sha256: str
    """Of the file weights.safetensors."""
    diagnostics_sha256: str
    """Of the file diagnostics.safetensors."""
    environment: Environment
    """Software and hardware."""
    verdict: Verdict
    """The budget against all of this."""
    warnings: tuple[str, ...] = ()
    """What is probably wrong with the network or its training, one sentence each."""
    caveats: tuple[str, ...] = ()
    """One sentence for everything that keeps the run from being repeated exactly: a resumption on
    another build, device or number of threads, or a network or data passed in Python."""
    trained_elsewhere: bool = False
    """Whether smidgen only scored the weights: then there are no epochs, and experiment.train does
    not say how they were trained."""
    stated_epochs: int | None = None
    """How many epochs the user says that the network was trained elsewhere."""

    @property
    def num_epochs(self) -> int | None:
        """How many epochs the network was trained; None if that is not known."""
        return self.stated_epochs if self.trained_elsewhere else len(self.epochs)

    def __post_init__(self) -> None:
        if self.trained_elsewhere and self.epochs:
            raise ValueError("it has epochs, but says that the network was trained elsewhere.")
        if not self.epochs and not self.trained_elsewhere:
            raise ValueError("it has no epochs.")
        if len(self.test.confusion) != len(self.data.classes):
            raise ValueError(
                f"it has a confusion matrix of {len(self.test.confusion)} classes; the data has "
                f"{len(self.data.classes)}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """How long a run took. Differs from run to run, and so is not part of the record."""

    started: str
    """UTC, ISO 8601."""
    epoch_seconds: tuple[float, ...] = ()
    """Of each epoch, validation included."""
    train_seconds: float = 0.0
    """The training loop, from the first step to the last, without work that was lost in a crash."""
    total_seconds: float = 0.0
    """From the start of the run, with loading the data and testing."""
    checkpoint_seconds: float = 0.0
    """The part of train_seconds that went into writing checkpoints."""
    stops: int = 0
    """How often the run was stopped and resumed."""
