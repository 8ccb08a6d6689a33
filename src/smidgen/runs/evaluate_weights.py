"""Weights that were trained elsewhere, by a script of the user's own: profiled, scored, judged."""

import os
import pickle
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from smidgen._storage.files import write_atomic
from smidgen._storage.locks import new_run_folder
from smidgen._storage.tensors import read_tensors, save_tensors
from smidgen.budget import Budget
from smidgen.config import Data, Experiment, Model, find_model
from smidgen.data import Dataset, find_data, open_dataset
from smidgen.errors import ConfigError, RecordError
from smidgen.evaluate import evaluate_split
from smidgen.record import (
    DIAGNOSTICS,
    EXPERIMENT,
    RECORD,
    SCHEMA,
    TIMES,
    WEIGHTS,
    RunRecord,
    Times,
    format_record,
    format_times,
)
from smidgen.report import write_report
from smidgen.runs.diagnostics import collect_diagnostics
from smidgen.runs.experiment_files import save_experiment
from smidgen.runs.judge import judge
from smidgen.runs.load import TrainedNetwork, load_weights
from smidgen.runs.network import prepare_network
from smidgen.runs.options import RunOptions
from smidgen.runs.prepare import data_record
from smidgen.runs.result import RunResult
from smidgen.seeds import preserved_generators
from smidgen.training.device import compute_settings, describe_environment
from smidgen.training.sanity_checks import check_network

KEYS = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the state dict in what they save."""
PREFIXES = ("module.", "_orig_mod.")
"""Added to all names by DataParallel and by torch.compile."""


def evaluate_weights(
    model: Model | str,
    weights: str | os.PathLike[str],
    data: Data | str | os.PathLike[str],
    *,
    budget: Budget | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    epochs: int | None = None,
    name: str | None = None,
    options: RunOptions | None = None,
) -> RunResult:
    """Judge a network that was trained elsewhere, and write a run's folder with its report.

        smidgen.evaluate_weights("my_model.py:Net", "model.pth", "mnist")

    `model` is FILE.py:NAME, PACKAGE.MODULE:NAME or a chain; naming a module runs its code.
    `weights` is as in read_state_dict. `mean` and `std`, one for each channel of pixels in [0, 1],
    are how training normalized the images; None: as the data set says. `epochs` states how long it
    was trained; None: max_epochs is not judged. The test set is scored once, even if the network is
    over its budget.

    Raises:
        SmidgenError: something the user can fix.
    """
    found = find_model(model) if isinstance(model, str) else model
    if found is None:
        raise ConfigError(f"model is {model!r}; it must be FILE.py:NAME or a chain.")
    experiment = Experiment(
        name=name or found.label, model=found, data=find_data(data), budget=budget or Budget()
    ).with_files_in(Path())
    return evaluate_experiment(
        experiment, Path(weights), mean=mean, std=std, epochs=epochs, options=options
    )


def evaluate_experiment(
    experiment: Experiment,
    weights: Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    epochs: int | None = None,
    options: RunOptions | None = None,
) -> RunResult:
    """As evaluate_weights, with the network, data and budget of an experiment."""
    options, clock = options or RunOptions(), time.perf_counter()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with (
        compute_settings(options.device, options.threads) as device,
        preserved_generators(device),
    ):
        state = read_state_dict(weights)
        source = open_dataset(experiment.data, data_dir=options.data_dir, skip_bad=options.skip_bad)
        network, profile = prepare_network(experiment, source.info)
        load_weights(network, state, weights)
        dataset = _normalized(source.load(), mean, std).to(device)
        network = network.to(device).eval()
        warnings = check_network(network, dataset)
        test = evaluate_split(network, dataset, dataset.test)
        shown = collect_diagnostics(network, dataset, experiment.data.augment, options.seed)
        with new_run_folder(
            Path(options.out) / experiment.name,
            "evaluated",
            lambda folder: save_experiment(experiment, folder),
        ) as folder:
            record = RunRecord(
                schema=SCHEMA,
                experiment=experiment.with_bare_files(),
                seed=options.seed,
                command=_command(mean, std, epochs),
                data=data_record(dataset),
                profile=profile,
                epochs=(),
                test=test,
                test_looks=1,
                weights_sha256=save_tensors(dict(network.state_dict()), folder / WEIGHTS),
                diagnostics_sha256=save_tensors(shown, folder / DIAGNOSTICS),
                environment=describe_environment(device, "eager"),
                verdict=judge(
                    experiment.budget,
                    network,
                    profile,
                    epochs=epochs,
                    accuracy=test.score.accuracy,
                ),
                warnings=warnings,
                trained_elsewhere=True,
                stated_epochs=epochs,
            )
            times = Times(started=started, total_seconds=time.perf_counter() - clock)
            write_atomic(folder / TIMES, format_times(times))
            write_atomic(folder / RECORD, format_record(record))
    write_report(folder)
    return RunResult(
        verdict=record.verdict,
        folder=folder,
        record=replace(record, experiment=record.experiment.with_files_in(folder)),
        network=TrainedNetwork(network.cpu(), record.data),
    )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in a .safetensors file, or in what torch.save wrote; no code in it is run.

    The state dict may be under the key state_dict, model_state_dict or model, and its names may
    have the prefix of DataParallel or of torch.compile.

    Raises:
        RecordError: the file is missing, damaged, or holds something else.
    """
    content: object
    if path.suffix == ".safetensors":
        content = read_tensors(path)
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
        except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            reason = (
                f"it holds {found[1]}" if found else "it is damaged, or torch.save did not write it"
            )
            raise _not_weights(path, reason) from None
    for key in KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise _not_weights(path, f"it holds a {type(content).__name__}")
    if not content or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise _not_weights(path, "it holds other things than tensors, or none")
    state = dict(content)
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _not_weights(path: Path, reason: str) -> RecordError:
    return RecordError(
        f"{path} is not a state dict that can be read without running code "
        f"({reason}); save one with torch.save(network.state_dict(), PATH)."
    )


def _normalized(
    dataset: Dataset, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Dataset:
    """The data set with the mean and standard deviation that training used, where given."""
    means, stds = tuple(mean or dataset.mean), tuple(std or dataset.std)
    channels = dataset.image_shape[0]
    if not len(means) == len(stds) == channels or not all(value > 0 for value in stds):
        raise ConfigError(
            f"mean is {means} and std {stds}; each must have one value for each of {channels} "
            "channels, for pixels in [0, 1], with std above 0."
        )
    return replace(dataset, mean=means, std=stds)


def _command(mean: Sequence[float] | None, std: Sequence[float] | None, epochs: int | None) -> str:
    """The command that repeats the evaluation, in the run's folder."""
    words = ["smidgen", "evaluate", EXPERIMENT, "--weights", WEIGHTS]
    for flag, values in (("--mean", mean), ("--std", std)):
        words += [flag, *map(str, values)] if values else []
    words += ["--epochs", str(epochs)] if epochs is not None else []
    return shlex.join(words)
