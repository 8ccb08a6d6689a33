"""Experiments: frozen dataclasses that check themselves when made, and their TOML files.

An Experiment that exists makes sense by itself; whether it fits its data set and its budget shows
when they meet (smidgen.runs).
"""

import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tomli_w

from smidgen._storage.schema import described, option
from smidgen._storage.serialization import from_plain, to_plain
from smidgen.budget import Budget as Budget
from smidgen.errors import ConfigError, require

Argument = bool | int | float | str
"""A value that a TOML file can give to a network's constructor."""


def _require_one_of(table: object, key: str, *names: str) -> None:
    given = [name for name in names if getattr(table, name) is not None]
    shown = ", ".join(name for name in names if name != "in_memory")
    require(
        len(given) == 1,
        f"{key} must have exactly one of {shown}; it has {' and '.join(given) or 'none'}.",
    )


@described("model")
class Model:
    """The network: a built-in one, a chain in compact notation, or a user's module."""

    net: str | None = option(
        "A built-in network: gap-6k, squeeze-7k, flatten-18k, linear-19k or gap-11k.", default=None
    )
    chain: str | None = option(
        'A network in chain notation, such as "8 8 M 12 12 12 12 G" (docs/chain.md).', default=None
    )
    module: str | None = option(
        "A class or function that returns a torch module, as FILE.py:NAME or "
        "PACKAGE.MODULE:NAME; its code is run. FILE is relative to the experiment's file.",
        default=None,
    )
    args: dict[str, Argument] = option(
        "Keyword arguments of a built-in network, such as dropout, or of a module.",
        default_factory=dict,
    )
    in_memory: str | None = option(
        "Name of a network passed in Python (smidgen.train(model=...)): no file can build it.",
        default=None,
        flag=False,
    )

    def __post_init__(self) -> None:
        _require_one_of(self, "model", "net", "chain", "module", "in_memory")
        require(
            self.chain is None or not self.args,
            "model.args are for a net or a module; a chain is described by its notation alone.",
        )

    @property
    def file(self) -> Path | None:
        """The file that holds the module; None for any other network."""
        source = (self.module or "").rpartition(":")[0]
        return Path(source) if source.endswith(".py") else None

    @property
    def label(self) -> str:
        """A short name: that of the network, its class or function; a chain is a chain."""
        if self.module is not None:
            return self.module.rpartition(":")[2]
        return self.net or self.in_memory or "chain"

    def with_file(self, path: Path) -> "Model":
        """Return the same module in another file."""
        assert self.module is not None
        return replace(self, module=f"{path}:{self.module.rpartition(':')[2]}")


@described("data.augment")
class Augment:
    """Random changes of the training images, drawn for each image; all 0: none."""

    rotate: float = option(
        "Largest rotation, either way.", default=0.0, within="[0, 180]", unit="degrees"
    )
    translate: float = option(
        "Largest shift along each axis, either way.",
        default=0.0,
        within="[0, 1)",
        unit="a fraction of the side",
    )
    scale: float = option(
        "Largest change of size, either way.", default=0.0, within="[0, 1)", unit="a fraction"
    )
    shear: float = option(
        "Largest horizontal shear, either way.", default=0.0, within="[0, 1)", unit="a tangent"
    )
    no_aug_epochs: int = option(
        "Last epochs, which train on unchanged images.", default=0, within="[0, inf)"
    )


@described("data.split")
class TrainTestSplit:
    """How a custom data set without a test split gets one, stratified by class."""

    test: float = option(
        "Images that go into the test split.", default=0.2, within="(0, 1)", unit="a fraction"
    )
    seed: int = option(
        "Seed of the split, and of the order whose last images are for validation.", default=0
    )


@described("data")
class Data:
    """The data set, by name or path, and what is done to its images."""

    name: str | None = option(
        "A built-in data set (smidgen data list), such as mnist, or digits, which needs no "
        "download.",
        default=None,
    )
    path: str | None = option(
        "A custom data set, relative to the current folder: a folder of images in folders of "
        "classes, an .npz, a folder of IDX files, a .csv (docs/data.md).",
        default=None,
    )
    size: int | None = option(
        "Side to which custom images are resized; None: their most common size.",
        default=None,
        within="[1, 4096]",
        unit="pixels",
    )
    grayscale: bool | None = option(
        "Custom images: true for one channel, false for three; None: three if any image is stored "
        "in color.",
        default=None,
    )
    split: TrainTestSplit = option(
        "How a custom data set without a test split gets one.", default_factory=TrainTestSplit
    )
    validation: int | None = option(
        "The last training images, which become the validation split; None: as many as is usual "
        "for the data set (10,000 for MNIST); 0: none, train on all.",
        default=None,
        within="[0, inf)",
        unit="images",
    )
    transforms: str | None = option(
        "A callable, or a list of them, for batches of training images, such as torchvision's, as "
        "FILE.py:NAME or PACKAGE.MODULE:NAME; its code is run.",
        default=None,
    )
    augment: Augment = option("Random changes of the training images.", default_factory=Augment)
    in_memory: str | None = option(
        "Name of a data set passed in Python (smidgen.train(data=...)): no file holds it.",
        default=None,
        flag=False,
    )

    def __post_init__(self) -> None:
        _require_one_of(self, "data", "name", "path", "in_memory")
        require(
            self.path is not None
            or self.in_memory is not None
            or (self.size, self.grayscale, self.split) == (None, None, TrainTestSplit()),
            "data.size, data.grayscale and data.split are for data.path only; a built-in data set "
            "has its own size, channels and splits.",
        )


@described("train.optimizer")
class Optimizer:
    """How gradients become steps. Weight decay applies to weights, not to norms and biases."""

    name: Literal["sgd", "adam", "adamw", "muon"] = option(
        "The algorithm; muon: orthogonalized steps for convolutions, SGD with Nesterov momentum "
        "for all other parameters."
    )
    lr: float = option("Learning rate; under a schedule, its peak.", within="(0, inf)")
    other_lr: float | None = option(
        "muon: peak learning rate of all parameters but convolutions.",
        default=None,
        within="(0, inf)",
    )
    momentum: float = option(
        "sgd and muon; adam and adamw use betas of 0.9 and 0.999.", default=0.0, within="[0, 1)"
    )
    nesterov: bool = option("sgd and muon: Nesterov momentum.", default=False)
    weight_decay: float = option(
        "Weight decay: an L2 penalty; decoupled for adamw, and for muon's convolutions.",
        default=0.0,
        within="[0, inf)",
    )

    def __post_init__(self) -> None:
        key, muon = "train.optimizer", self.name == "muon"
        require(
            self.name in ("sgd", "muon") or not (self.momentum or self.nesterov),
            f"{key}: momentum and nesterov are for sgd and muon, not for {self.name}.",
        )
        require(
            (self.other_lr is not None) == muon,
            f"{key}.other_lr is {self.other_lr}; muon needs it, and only muon takes it.",
        )
        require(
            not muon or (self.nesterov and self.momentum > 0),
            f"{key}: muon needs a momentum above 0, and nesterov = true.",
        )
        require(not self.nesterov or self.momentum > 0, f"{key}.nesterov needs a momentum above 0.")


def _default_optimizer() -> Optimizer:
    return Optimizer(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)


@described("train.schedule")
class Schedule:
    """The learning rate over the run."""

    name: Literal["constant", "step", "one-cycle"] = option(
        "constant; step: times gamma every step_size epochs; one-cycle: linearly up to the peak, "
        "then down to 0.",
        default="one-cycle",
    )
    warmup: float = option(
        "one-cycle: steps during which the rate rises.",
        default=0.2,
        within="(0, 1)",
        unit="a fraction of all steps",
    )
    step_size: int = option(
        "step: epochs between two drops.", default=5, within="[1, inf)", unit="epochs"
    )
    gamma: float = option(
        "step: factor by which the rate drops.", default=0.1, within="(0, 1]", unit="a factor"
    )


@described("train.average")
class Average:
    """Which weights the trained network has: the last ones or a running average."""

    name: Literal["none", "ema"] = option(
        "none: the last weights; ema: their exponential moving average.", default="ema"
    )
    decay: float = option(
        "ema: weight of the old average at each step.", default=0.995, within="(0, 1)"
    )


@described("train")
class Train:
    """How the network is trained."""

    epochs: int = option(
        "Passes over the training images; the network of the last one is the result.",
        default=14,
        within="[1, 1000000]",
    )
    batch_size: int = option(
        "Images per step; if they do not divide evenly, some batches have one less.",
        default=128,
        within="[1, 1000000]",
        unit="images",
    )
    optimizer: Optimizer = option("How gradients become steps.", default_factory=_default_optimizer)
    schedule: Schedule = option("The learning rate over the run.", default_factory=Schedule)
    average: Average = option("Which weights are the result.", default_factory=Average)
    label_smoothing: float = option(
        "Probability that is spread evenly over all classes.",
        default=0.0,
        within="[0, 1)",
        unit="a fraction",
    )
    precision: Literal["float32", "bfloat16"] = option(
        "bfloat16: forward and backward passes in mixed precision.", default="float32"
    )
    test_each_epoch: bool = option(
        "Evaluate on the test split after each epoch too; the record counts each evaluation.",
        default=False,
    )


@described("")
class Experiment:
    """One experiment: target, budget, network, data set and training."""

    name: str = option("Names the folder of the runs.", key="experiment.name")
    target: str = option("The target in words.", default="", key="experiment.target")
    budget: Budget = option("Limits on network and training.", default_factory=Budget)
    model: Model = option("The network.")
    data: Data = option("The data set.")
    train: Train = option("How the network is trained.", default_factory=Train)
    analysis: str = option(
        "What was learned, written after the run.", default="", key="analysis.text"
    )

    def __post_init__(self) -> None:
        require(
            bool(self.name) and not set(self.name) & set('/\\:*?"<>|\0') and self.name[0] != ".",
            f"experiment.name is {self.name!r}; it names a folder, so it must not be empty, begin "
            'with a dot or contain / \\ : * ? " < > |.',
        )
        unchanged, epochs = self.data.augment.no_aug_epochs, self.train.epochs
        require(
            unchanged <= epochs,
            f"data.augment.no_aug_epochs is {unchanged}; train.epochs is only {epochs}.",
        )

    @classmethod
    def from_toml(cls, text: str) -> "Experiment":
        """Read an experiment from TOML.

        Raises:
            ConfigError: the text is not TOML (with the line), or has an unknown key (with the known
                ones), a missing field, a value of a wrong type or out of range.
        """
        try:
            tables = from_plain(_Tables, tomllib.loads(text))
        except RecursionError:
            raise ConfigError("it nests too deeply for an experiment.") from None
        except ValueError as error:  # TOMLDecodeError and ConfigError are ValueErrors too
            raise ConfigError(str(error)) from None
        return cls(
            name=tables.experiment.name,
            target=tables.experiment.target,
            budget=tables.budget,
            model=tables.model,
            data=tables.data,
            train=tables.train,
            analysis=tables.analysis.text,
        )

    def to_toml(self) -> str:
        """Write the experiment as TOML, all fields included; from_toml reads it back unchanged."""
        tables = _Tables(
            experiment=_Heading(name=self.name, target=self.target),
            budget=self.budget,
            model=self.model,
            data=self.data,
            train=self.train,
            analysis=_Analysis(text=self.analysis),
        )
        return tomli_w.dumps(to_plain(tables), multiline_strings=False)

    def with_files_in(self, folder: Path) -> "Experiment":
        """Return the experiment with its module's file, if the path is relative, in `folder`.

        This is how an experiment's file is read: from then on the path is absolute.
        """
        file = self.model.file
        if file is None or file.is_absolute():
            return self
        return replace(self, model=self.model.with_file(folder.absolute() / file))

    def with_bare_files(self) -> "Experiment":
        """Return the experiment with the file of its module as a bare name, to store next to it."""
        file = self.model.file
        return self if file is None else replace(self, model=self.model.with_file(Path(file.name)))

    def without_texts(self) -> "Experiment":
        """Return the experiment without target and analysis, to compare what experiments do."""
        return replace(self, target="", analysis="")


# The tables of an experiment's file, in order.


@dataclass(frozen=True, kw_only=True, slots=True)
class _Heading:
    name: str
    target: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Analysis:
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tables:
    experiment: _Heading
    budget: Budget = field(default_factory=Budget)
    model: Model
    data: Data
    train: Train = field(default_factory=Train)
    analysis: _Analysis = field(default_factory=_Analysis)


def read_experiment(path: str | os.PathLike[str]) -> Experiment:
    """Read the experiment in the TOML file at `path`; its module's file is looked for next to it.

    Raises:
        ConfigError: the file cannot be read, or as Experiment.from_toml; names the file.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        return Experiment.from_toml(text).with_files_in(path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8.") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
