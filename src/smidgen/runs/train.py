"""Train and resume, as users call them: a run, then its report."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from smidgen.budget import Budget
from smidgen.callbacks import Callback, CallbackList
from smidgen.config import Data, Experiment, Model, Train, find_experiment, find_model
from smidgen.data import Dataset, InMemory, dataset_in_memory, find_data
from smidgen.errors import ConfigError, did_you_mean
from smidgen.models import REFERENCE, ModelInMemory
from smidgen.record import PAGE
from smidgen.report import read_run, write_report
from smidgen.runs.options import CHECKPOINT_SECONDS, RunOptions
from smidgen.runs.result import RunResult
from smidgen.runs.run import resume as resume_run
from smidgen.runs.run import run


def train(
    experiment: str | os.PathLike[str] | Experiment | None = None,
    options: RunOptions | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    model: Model | str | ModelInMemory | None = None,
    data: Data | str | os.PathLike[str] | InMemory | None = None,
    name: str | None = None,
    budget: Budget | None = None,
    settings: Train | None = None,
) -> RunResult:
    """Train an experiment once, score it on the test set and write its report.

    A network or number of epochs over the budget stops the run before training and leaves no
    folder. The last epoch counts; the test set is scored once, at the end, unless the experiment
    asks for more. An interrupted run continues with `resume`.

        smidgen.train("gap-6k")
        smidgen.train(model=Net, data="mnist", budget=smidgen.Budget(max_params=8_000))
        smidgen.train(model="8 8 M 14 G", data="digits", settings=smidgen.Train(epochs=5))
        smidgen.train(model=Net, data=(x_train, y_train, x_test, y_test))

    Args:
        experiment: an Experiment, the path of its TOML file, or the name of a built-in one. None:
            made of the arguments below, of which `model` and `data` are then needed.
        options: seed, output folder, device and so on; the defaults if None.
        callbacks: called while the run goes on.
        model: replaces the experiment's: as on the command line, the name of a built-in network,
            FILE.py:NAME, PACKAGE.MODULE:NAME or a chain. Or the network itself: an nn.Module (it is
            copied) or a class or function that makes one cannot be rebuilt from the run's folder;
            the record says so, and `resume`, `check` and `load_network` need it again.
        data: replaces the experiment's: a name, a path, or data in memory (a Dataset, arrays or a
            pair of torch data sets; see smidgen.data.dataset_in_memory), of which the same holds.
        name: replaces the experiment's name, which names the run's folder.
        budget: replaces the experiment's.
        settings: replaces how the experiment trains.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written first.
        SmidgenError: something the user can fix; what was finished stays in the folder.
    """
    if options is not None and not isinstance(options, RunOptions):
        raise ConfigError(f"options is {options!r}; it must be RunOptions.")
    base = None if experiment is None else find_experiment(experiment)
    changes: dict[str, Any] = {"name": name, "budget": budget, "train": settings}
    network, dataset = None, None
    if isinstance(model, str):
        model = _model_of(model)
    if isinstance(model, Model):
        changes["model"] = model
    elif model is not None:
        network, changes["model"] = model, Model(in_memory=_name_of(model))
    if isinstance(data, Data | str | os.PathLike):
        changes["data"] = find_data(data)
    elif data is not None:
        before = base.data if base is not None else Data(in_memory="arrays")
        passed = Data(in_memory="arrays", validation=before.validation, augment=before.augment)
        dataset, changes["data"] = dataset_in_memory(data, passed), passed
    changes = {key: value for key, value in changes.items() if value is not None}
    if base is not None:
        base = replace(base, **changes)
    elif {"model", "data"} <= changes.keys():
        default: dict[str, Any] = {"name": changes["model"].label}
        base = Experiment(**(default | changes))
    else:
        raise ConfigError("train needs an experiment, or a model and data.")
    return train_experiment(base, options, callbacks, dataset, network)


def train_experiment(
    experiment: Experiment,
    options: RunOptions | None = None,
    callbacks: Sequence[Callback] = (),
    dataset: Dataset | None = None,
    model: ModelInMemory | None = None,
) -> RunResult:
    """Train `experiment` and write its report; `dataset`, if given, is its data set, loaded."""
    return _with_report(run(experiment, options, callbacks, dataset, model), callbacks)


def _model_of(text: str) -> Model:
    """The network that `text` names or describes; a relative file is in the current folder."""
    model = Model(net=text) if text in REFERENCE else find_model(text)
    if model is None:
        raise ConfigError(
            f"model is {text!r}; it must be an nn.Module, a class or function that makes one, "
            f"FILE.py:NAME, PACKAGE.MODULE:NAME, a chain such as '8 8 M 14 G', or one of "
            f"{', '.join(REFERENCE)}." + did_you_mean(text, REFERENCE)
        )
    return model


def _name_of(model: Any) -> str:
    """The name of a network's class, or of the class or function that makes it."""
    return str(getattr(model, "__name__", type(model).__name__)).strip("<>")  # <lambda>


def resume(
    run: str | os.PathLike[str],
    callbacks: Sequence[Callback] = (),
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str | None = None,
    threads: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    model: ModelInMemory | None = None,
    data: InMemory | None = None,
) -> RunResult:
    """Continue the run in the folder `run` from its last checkpoint, as if it had never stopped.

    Weights, metrics and record are then those of an uninterrupted run, byte for byte. Data folder,
    device and threads are as before unless given; what cannot be exact, because build, device or
    number of threads differ, is noted in the record. A network or data that were passed to `train`
    in Python must be passed again; other data can be, if they are loaded already. A finished run is
    returned as it is.

    Raises:
        BusyError: another process is working on the run.
        CheckpointError: there is no checkpoint, or it is damaged.
        DataError: the data differ from those that the run started with.
        Interrupted, SmidgenError: as train.
    """
    result = resume_run(
        Path(run),
        callbacks,
        data_dir=data_dir,
        device=device,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        model=model,
        data=data,
    )
    return _with_report(result, callbacks)


def _with_report(result: RunResult, callbacks: Sequence[Callback]) -> RunResult:
    """Write the report of a finished run unless it is there."""
    if result.folder is not None and not (result.folder / PAGE).exists():
        CallbackList(callbacks).on_status("writing the report")
        write_report(read_run(result.folder), result.folder)
    return result
