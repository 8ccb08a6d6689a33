"""What is to be done, frozen: an experiment and its parts; TOML in and out.

Every part checks itself when it is made, so that an Experiment that exists makes sense on its own;
whether it fits its data set and its budget shows when they meet (see smidgen.runs.run).
"""

import math
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tomli_w

from smidgen._storage.serialization import from_plain, to_plain
from smidgen.budget import Budget as Budget  # one of an experiment's parts
from smidgen.errors import ConfigError, require

_MOST = 10**6  # epochs, and images in a batch

Argument = bool | int | float | str
"""What a network's constructor can be given from a TOML file."""

_MOST_CHARACTERS = 1 << 18
# A key of 32 parts or more: tomllib's time and memory grow with the square of their number.
_LONG_KEY = re.compile(
    r"""(?<![\w\\-])(?:(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}"""
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """The network: a documented one, a chain in compact notation, or a module of one's own."""

    net: str | None = None
    """A documented network: gap-6k, squeeze-7k, flatten-18k, linear-19k or gap-11k."""
    chain: str | None = None
    """A network in compact notation, such as "8 8 M 12 12 12 12 G" (docs/chain.md)."""
    module: str | None = None
    """A class or function of one's own that gives a torch module, as FILE.py:NAME or
    PACKAGE.MODULE:NAME; building it runs its code. A file is looked for beside the experiment's."""
    args: dict[str, Argument] = field(default_factory=dict)
    """Keyword arguments of a documented network, such as dropout, or of a module."""

    def __post_init__(self) -> None:
        given = [name for name in ("net", "chain", "module") if getattr(self, name) is not None]
        require(
            len(given) == 1,
            f"model must have one of net, chain, module; it has {' and '.join(given) or 'none'}.",
        )
        require(
            self.chain is None or not self.args,
            "model.args are for a net or a module; a chain says everything in its notation.",
        )

    @property
    def file(self) -> Path | None:
        """The file that holds the module; None for any other network."""
        source = (self.module or "").rpartition(":")[0]
        return Path(source) if source.endswith(".py") else None

    def with_file(self, path: Path) -> "Model":
        """The same module in another file."""
        assert self.module is not None
        return replace(self, module=f"{path}:{self.module.rpartition(':')[2]}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Random changes of the training images, each image its own; all 0: none."""

    rotate: float = 0.0
    """Rotation, up to so many degrees either way."""
    translate: float = 0.0
    """Shift along each axis, up to this fraction of the side either way."""
    scale: float = 0.0
    """Change of size, up to this fraction either way."""
    shear: float = 0.0
    """Horizontal shear, up to this tangent either way."""
    no_aug_epochs: int = 0
    """So many last epochs see the images as they are."""

    def __post_init__(self) -> None:
        require(
            0 <= self.rotate <= 180, f"data.augment.rotate is {self.rotate}; degrees, 0 to 180."
        )
        for name in ("translate", "scale", "shear"):
            value = getattr(self, name)
            require(0 <= value < 1, f"data.augment.{name} is {value}; a fraction, 0 to below 1.")
        require(
            self.no_aug_epochs >= 0,
            f"data.augment.no_aug_epochs is {self.no_aug_epochs}; it must be 0 or more.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTestSplit:
    """How a person's data set without a test part gets one; of each class the same share."""

    test: float = 0.2
    """The share of the images that becomes the test part."""
    seed: int = 0
    """Of the draw, and of the order from which the last images are set aside to choose by."""

    def __post_init__(self) -> None:
        require(0 < self.test < 1, f"data.split.test is {self.test}; a share, between 0 and 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """The data set, by its name or its path, and what is done to its images."""

    name: str | None = None
    """A published set (smidgen data list), such as mnist, or digits, which come with smidgen."""
    path: str | None = None
    """One's own, from the current folder on: a folder of pictures in folders of classes, an .npz, a
    folder of IDX files, a .csv (docs/data.md)."""
    size: int | None = None
    """Of one's own images: the side to which they are resized; left out: their most common size."""
    grayscale: bool | None = None
    """Of one's own images: true for one channel, false for three; left out: three if any picture is
    stored in colour."""
    split: TrainTestSplit = field(default_factory=TrainTestSplit)
    validation: int | None = None
    """The last so many training images are set aside to choose by; left out: the data set's usual
    number (10,000 of MNIST); 0: train on all, as for a figure to certify."""
    transforms: str | None = None
    """MODULE:NAME or FILE.py:NAME of a callable, or a list of them, for batches of training images,
    such as torchvision's; runs that code."""
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        given = [name for name in ("name", "path") if getattr(self, name) is not None]
        require(
            len(given) == 1,
            f"data must have one of name and path; it has {' and '.join(given) or 'none'}.",
        )
        require(
            self.path is not None
            or (self.size, self.grayscale, self.split) == (None, None, TrainTestSplit()),
            "data.size, data.grayscale and data.split are for data.path; a named set is as it is.",
        )
        require(
            self.size is None or 1 <= self.size <= 4096,
            f"data.size is {self.size}; it must be from 1 to 4,096.",
        )
        require(
            self.validation is None or self.validation >= 0,
            f"data.validation is {self.validation}; it must be 0 or more.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """How gradients become steps. Weight decay acts on weights, not on norms and biases."""

    name: Literal["sgd", "adam", "adamw", "muon"]
    """muon: orthogonalized steps for convolutions, sgd with Nesterov's momentum for the rest."""
    lr: float
    """Learning rate; under a schedule, the highest."""
    other_lr: float | None = None
    """Of muon: the rate of all but convolutions, which the schedule changes in the same measure."""
    momentum: float = 0.0
    """Of sgd and muon; adam and adamw use betas of 0.9 and 0.999."""
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require(
            0 < self.lr < math.inf,
            f"train.optimizer.lr is {self.lr}; it must be above 0 and finite.",
        )
        require(
            0 <= self.momentum < 1,
            f"train.optimizer.momentum is {self.momentum}; it must be from 0 to below 1.",
        )
        require(
            0 <= self.weight_decay < math.inf,
            f"train.optimizer.weight_decay is {self.weight_decay}; it must be finite, 0 or more.",
        )
        require(
            self.name in ("sgd", "muon") or not (self.momentum or self.nesterov),
            f"train.optimizer: momentum and nesterov are for sgd and muon, not for {self.name}.",
        )
        require(
            (self.other_lr is not None) == (self.name == "muon"),
            f"train.optimizer.other_lr is {self.other_lr}; muon needs it, and only muon has it.",
        )
        require(
            self.other_lr is None or 0 < self.other_lr < math.inf,
            f"train.optimizer.other_lr is {self.other_lr}; it must be above 0 and finite.",
        )
        require(
            self.name != "muon" or (self.nesterov and self.momentum > 0),
            "train.optimizer: muon needs a momentum above 0, and nesterov = true.",
        )
        require(
            not self.nesterov or self.momentum > 0,
            "train.optimizer.nesterov needs a momentum above 0.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The learning rate over the run."""

    name: Literal["constant", "step", "one-cycle"] = "constant"
    """constant; step: times gamma after every so many epochs; one-cycle: linearly up, then to 0."""
    warmup: float = 0.2
    """Of one-cycle: the share of all steps on which the rate rises."""
    every: int = 5
    """Of step: epochs between two drops."""
    gamma: float = 0.1
    """Of step: what the rate is multiplied by."""

    def __post_init__(self) -> None:
        require(
            0 < self.warmup < 1,
            f"train.schedule.warmup is {self.warmup}; a share of the steps, between 0 and 1.",
        )
        require(self.every >= 1, f"train.schedule.every is {self.every}; it must be 1 or more.")
        require(
            0 < self.gamma <= 1,
            f"train.schedule.gamma is {self.gamma}; it must be above 0 and at most 1.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Average:
    """Whether the network that counts is the last one or a running average of its weights."""

    name: Literal["none", "ema"] = "none"
    decay: float = 0.995
    """Of ema: what remains of the average after each step."""

    def __post_init__(self) -> None:
        require(
            0 < self.decay < 1,
            f"train.average.decay is {self.decay}; it must be between 0 and 1.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """How the network learns."""

    epochs: int
    """Passes over the training images; the last one counts."""
    batch_size: int
    """Images per step; a set that does not divide is spread evenly."""
    optimizer: Optimizer
    schedule: Schedule = field(default_factory=Schedule)
    average: Average = field(default_factory=Average)
    label_smoothing: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 computes forward and backward in mixed precision."""
    test_each_epoch: bool = False
    """Score the test set after each epoch too; every look is counted in the record."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            require(value >= 1, f"train.{name} is {value}; it must be 1 or more.")
            require(value <= _MOST, f"train.{name} is {value}; it must be at most {_MOST:,}.")
        require(
            0 <= self.label_smoothing < 1,
            f"train.label_smoothing is {self.label_smoothing}; it must be from 0 to below 1.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """What is to be done: the target in words, the budget, the network, the data, the training."""

    name: str
    """The name of its runs' folder."""
    target: str = ""
    """What is wanted, in words."""
    budget: Budget = field(default_factory=Budget)
    model: Model
    data: Data
    train: Train
    analysis: str = ""
    """What was learnt, by the person who ran it."""

    def __post_init__(self) -> None:
        require(
            bool(self.name) and not set(self.name) & set('/\\:*?"<>|\0') and self.name[0] != ".",
            f"experiment.name is {self.name!r}; it names a folder, so it must not be empty, begin "
            'with a dot or hold / \\ : * ? " < > |.',
        )
        require(
            self.data.augment.no_aug_epochs <= self.train.epochs,
            f"data.augment.no_aug_epochs is {self.data.augment.no_aug_epochs}; train.epochs is "
            f"only {self.train.epochs}.",
        )


def without_words(experiment: Experiment) -> Experiment:
    """`experiment` without what people say about it: two that are equal so do the same."""
    return replace(experiment, target="", analysis="")


# The file groups an experiment as people talk of it; these are its tables, in order.


@dataclass(frozen=True, kw_only=True, slots=True)
class _Heading:
    name: str
    target: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Analysis:
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    experiment: _Heading
    budget: Budget = field(default_factory=Budget)
    model: Model
    data: Data
    train: Train
    analysis: _Analysis = field(default_factory=_Analysis)


def parse_experiment(text: str) -> Experiment:
    """The experiment that a TOML text describes.

    Raises:
        ConfigError: not TOML (with the line), an unknown key (with the known ones), a missing
            field, a wrong type or a value that makes no sense; a text of over 262,144 characters
            or with a key of over 32 parts, which would take long to read.
    """
    require(
        len(text) <= _MOST_CHARACTERS,
        f"it has {len(text):,} characters; an experiment has at most {_MOST_CHARACTERS:,}.",
    )
    require(
        _LONG_KEY.search(text) is None,
        "it has a key of more than 32 parts; an experiment's have at most three.",
    )
    try:
        file = from_plain(_File, tomllib.loads(text))
    except ValueError as error:  # TOMLDecodeError and ConfigError are ValueErrors too
        raise ConfigError(str(error)) from None
    except RecursionError:
        raise ConfigError("it nests lists or tables too deeply to be an experiment.") from None
    return Experiment(
        name=file.experiment.name,
        target=file.experiment.target,
        budget=file.budget,
        model=file.model,
        data=file.data,
        train=file.train,
        analysis=file.analysis.text,
    )


def read_experiment(path: Path) -> Experiment:
    """The experiment in the TOML file at `path`.

    Raises:
        ConfigError: the file cannot be read, or as parse_experiment; names the file.
    """
    try:
        experiment = parse_experiment(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text in UTF-8, so it is no TOML file.") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return beside(experiment, path.parent)


def beside(experiment: Experiment, folder: Path) -> Experiment:
    """`experiment` with its module's file in `folder`, if there is such a file."""
    file = experiment.model.file
    if file is None or not is_file(folder / file):
        return experiment
    return replace(experiment, model=experiment.model.with_file(folder / file))


def is_file(path: Path) -> bool:
    """Whether there is such a file; False too where its name is too long or its folder is closed.

    >>> is_file(Path("a" * 300))
    False
    """
    try:
        return path.is_file()
    except OSError:
        return False


def format_experiment(experiment: Experiment) -> str:
    """The experiment as TOML, every field in full; parse_experiment reads it back as it was."""
    file = _File(
        experiment=_Heading(name=experiment.name, target=experiment.target),
        budget=experiment.budget,
        model=experiment.model,
        data=experiment.data,
        train=experiment.train,
        analysis=_Analysis(text=experiment.analysis),
    )
    return tomli_w.dumps(to_plain(file), multiline_strings=False)
