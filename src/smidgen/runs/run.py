"""One experiment, one seed: trained from its first step or from a checkpoint, then scored once."""

import os
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor, nn

from smidgen._storage.cores import usable_cores
from smidgen._storage.files import remove_partial_files, write_atomic
from smidgen._storage.locks import locked, new_run_folder
from smidgen._storage.tensors import save_tensors
from smidgen.callbacks import Callback, CallbackList, RunInfo, TrainState
from smidgen.config import Experiment
from smidgen.data import (
    Dataset,
    DatasetSource,
    InMemory,
    TrainLoader,
    dataset_in_memory,
    open_dataset,
)
from smidgen.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    DataError,
    Interrupted,
    ModelError,
)
from smidgen.evaluate import evaluate_split
from smidgen.models import ModelInMemory
from smidgen.record import (
    DIAGNOSTICS,
    EXPERIMENT,
    PROGRESS,
    RECORD,
    SCHEMA,
    TIMES,
    WEIGHTS,
    Epoch,
    RunRecord,
    Score,
    Times,
    format_record,
    format_times,
    read_record,
)
from smidgen.report.progress_log import ProgressLog
from smidgen.runs.checkpointer import Checkpointer
from smidgen.runs.diagnostics import collect_diagnostics
from smidgen.runs.experiment_files import (
    code_sha256,
    mark_failed,
    require_module_in_folder,
    require_not_failed,
    require_unchanged,
    save_experiment,
)
from smidgen.runs.judge import judge
from smidgen.runs.load import TrainedNetwork, load_network
from smidgen.runs.network import prepare_network
from smidgen.runs.options import CHECKPOINT_SECONDS, RunOptions
from smidgen.runs.prepare import PreparedRun, data_record, in_memory_caveats, prepare_run
from smidgen.runs.result import RunResult
from smidgen.seeds import preserved_generators
from smidgen.training import (
    Checkpoint,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
    train,
)
from smidgen.training.device import compute_settings
from smidgen.training.sanity_checks import check_classes, check_first_epoch, check_network
from smidgen.training.signals import noted_signals


def run(
    experiment: Experiment,
    options: RunOptions | None = None,
    callbacks: Sequence[Callback] = (),
    dataset: Dataset | None = None,
    model: ModelInMemory | None = None,
) -> RunResult:
    """Train `experiment` once and score it; its folder then holds everything but the report.

    As smidgen.train, which writes the report too. `dataset` is used instead of loading the
    experiment's; `model` is the network if the experiment says that it is passed in Python.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written first.
        SmidgenError: something the user can fix; what was finished stays in the folder.
    """
    options, clock, callback = options or RunOptions(), time.perf_counter(), CallbackList(callbacks)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with (
        compute_settings(options.device, options.threads) as device,
        preserved_generators(device),
    ):
        source = _open(experiment, options) if dataset is None else dataset
        network, profile = prepare_network(experiment, source.info, options.seed, model)
        verdict = judge(experiment.budget, network, profile, epochs=experiment.train.epochs)
        if not verdict.passed:
            return RunResult(verdict=verdict)
        dataset = _load(source, callback)
        warnings = check_classes(dataset)
        callback.on_status("choosing the backend")
        prepared = prepare_run(network, profile, dataset, experiment, options, device)
        checkpoint = Checkpoint(
            experiment=experiment.with_bare_files(),
            seed=options.seed,
            device=options.device,
            data_dir=str(Path(options.data_dir).absolute()) if options.data_dir else None,
            skip_bad=options.skip_bad,
            code_sha256=code_sha256(experiment),
            data=data_record(dataset),
            environment=prepared.environment,
            times=Times(started=started),
            warnings=(*warnings, *check_network(prepared.network, prepared.dataset)),
            caveats=in_memory_caveats(experiment),
        )

        def fill(folder: Path) -> None:
            save_experiment(experiment, folder)
            save_checkpoint(folder, checkpoint, {})

        with new_run_folder(
            Path(options.out) / experiment.name, f"seed-{options.seed}", fill
        ) as folder:
            task = _Task(folder, checkpoint, {}, prepared, options.checkpoint_seconds, clock)
            messages = (str(prepared.backend),) if options.backend == "auto" else ()
            return _complete(task, callbacks, (*messages, *checkpoint.warnings))


def resume(
    folder: Path,
    callbacks: Sequence[Callback] = (),
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str | None = None,
    threads: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    model: ModelInMemory | None = None,
    data: InMemory | None = None,
) -> RunResult:
    """Continue the run in `folder` from its last checkpoint; as smidgen.resume but for the report.

    Raises:
        As smidgen.resume.
    """
    clock, callback = time.perf_counter(), CallbackList(callbacks)
    with locked(folder):
        remove_partial_files(folder)
        if (folder / RECORD).exists():
            remove_checkpoints(folder)
            (folder / PROGRESS).unlink(missing_ok=True)
            return _finished(folder, model)
        require_not_failed(folder)
        checkpoint, tensors, damage = load_checkpoint(folder)
        experiment = checkpoint.experiment.with_files_in(folder)
        require_module_in_folder(experiment, folder)
        require_unchanged(checkpoint, experiment, folder)
        options = RunOptions(
            seed=checkpoint.seed,
            data_dir=data_dir or checkpoint.data_dir,
            device=device or checkpoint.device,
            skip_bad=checkpoint.skip_bad,
            threads=threads or min(checkpoint.environment.threads, usable_cores()),
            backend=checkpoint.environment.backend,
        )
        with (
            compute_settings(options.device, options.threads) as target,
            preserved_generators(target),
        ):
            if data is not None:
                source: Dataset | DatasetSource = dataset_in_memory(data, experiment.data)
            else:
                source = _open(experiment, options)
            network, profile = prepare_network(experiment, source.info, options.seed, model)
            dataset = _load(source, callback)
            _require_same_data(dataset, checkpoint, folder)
            try:
                prepared = prepare_run(network, profile, dataset, experiment, options, target)
            except ConfigError:  # the backend cannot be used any more, or on another device
                options = replace(options, backend="auto")
                prepared = prepare_run(network, profile, dataset, experiment, options, target)
            caveats = checkpoint.inexact_reasons(prepared.environment)
            resumed = replace(
                checkpoint,
                environment=prepared.environment,
                times=replace(checkpoint.times, stops=checkpoint.times.stops + 1),
                caveats=(*checkpoint.caveats, *caveats),
            )
            place = f"resuming in epoch {checkpoint.epoch}, after batch {checkpoint.batch}"
            messages = (place, *((damage,) if damage else ()), *caveats)
            task = _Task(folder, resumed, tensors, prepared, checkpoint_seconds, clock)
            return _complete(task, callbacks, messages)


def _finished(folder: Path, model: ModelInMemory | None) -> RunResult:
    record = read_record(folder)
    network = load_network(folder, model)
    return RunResult(verdict=record.verdict, folder=folder, record=record, network=network)


def find_interrupted(experiment: Experiment, options: RunOptions) -> Path | None:
    """Folder of an interrupted run of `experiment` with these options, if there is one."""
    for folder in sorted((Path(options.out) / experiment.name).glob(f"seed-{options.seed}*")):
        try:
            with locked(folder):
                checkpoint, _, _ = load_checkpoint(folder)
        except (CheckpointError, BusyError):
            continue
        if (checkpoint.experiment, checkpoint.seed) == (experiment.with_bare_files(), options.seed):
            return folder
    return None


def _open(experiment: Experiment, options: RunOptions) -> DatasetSource:
    return open_dataset(experiment.data, data_dir=options.data_dir, skip_bad=options.skip_bad)


def _load(source: Dataset | DatasetSource, callback: Callback) -> Dataset:
    if isinstance(source, Dataset):
        return source
    callback.on_status(f"loading {source.data.name or source.data.path}")
    return source.load()


def _require_same_data(dataset: Dataset, checkpoint: Checkpoint, folder: Path) -> None:
    """Check that the data are those that the run started with, wherever they are stored now."""
    if replace(data_record(dataset), source=checkpoint.data.source) != checkpoint.data:
        raise DataError(
            f"{dataset.name} is not the data that the run in {folder} started with: its SHA-256 "
            f"is {dataset.sha256[:16]}..., and was {checkpoint.data.sha256[:16]}..."
        )


@dataclass(frozen=True, slots=True)
class _Task:
    """A run that only needs to be trained to its end, scored and written."""

    folder: Path
    checkpoint: Checkpoint
    """Where training starts, and everything that is known of the run."""
    tensors: dict[str, Tensor]
    """The checkpoint's; empty before the first step."""
    prepared: PreparedRun
    checkpoint_seconds: float
    clock: float
    """time.perf_counter() when this process took up the run."""


def _complete(
    task: _Task, callbacks: Sequence[Callback], messages: Sequence[str] = ()
) -> RunResult:
    """Train to the end, score and write everything; the record comes last."""
    callbacks = (*callbacks, ProgressLog())
    folder, checkpoint, callback = task.folder, task.checkpoint, CallbackList(callbacks)
    record = None
    try:
        for message in messages:
            callback.on_message(message)
        callback.on_train_start(
            RunInfo(
                folder=folder,
                experiment=checkpoint.experiment,
                seed=checkpoint.seed,
                data=checkpoint.data,
                profile=task.prepared.profile,
                environment=checkpoint.environment,
                completed=tuple(
                    zip(checkpoint.epochs, checkpoint.times.epoch_seconds, strict=False)
                ),
            )
        )
        network, epochs, times = _train(task, callbacks)
        callback.on_status("scoring the test set")
        record = _score_and_save(task, network, epochs)
        total = checkpoint.times.total_seconds + time.perf_counter() - task.clock
        write_atomic(folder / TIMES, format_times(replace(times, total_seconds=total)))
        write_atomic(folder / RECORD, format_record(record))
        remove_checkpoints(folder)
    except KeyboardInterrupt as stop:
        raise Interrupted(getattr(stop, "signal", signal.SIGINT), folder) from None
    except ModelError as error:  # it would come to the same again
        mark_failed(folder, str(error))
        raise
    finally:
        callback.on_train_end(record)
    return RunResult(
        verdict=record.verdict,
        folder=folder,
        record=replace(record, experiment=record.experiment.with_files_in(folder)),
        network=TrainedNetwork(network.cpu(), record.data),
    )


class _FirstEpoch(Callback):
    """Warns after the first epoch if it was no better than guessing."""

    def __init__(self, callbacks: Sequence[Callback], data: Dataset) -> None:
        self._callback, self._num_classes = CallbackList(callbacks), len(data.classes)

    def on_epoch_end(self, epoch: Epoch, seconds: float, capture: Callable[[], TrainState]) -> None:
        if epoch.epoch == 1:
            for warning in check_first_epoch(epoch, self._num_classes):
                self._callback.on_message(warning)


def _train(
    task: _Task, callbacks: Sequence[Callback]
) -> tuple[nn.Module, tuple[Epoch, ...], Times]:
    """The trained network, its epochs and how long they took."""
    checkpoint, prepared, data = task.checkpoint, task.prepared, task.prepared.dataset
    settings = checkpoint.experiment.train

    def evaluate(network: nn.Module) -> tuple[Score | None, Score | None]:
        validation = evaluate_split(network, data, data.validation) if data.validation else None
        test = evaluate_split(network, data, data.test) if settings.test_each_epoch else None
        return validation.score if validation else None, test.score if test else None

    loader = TrainLoader(
        split=data.train,
        batch_size=settings.batch_size,
        augment=checkpoint.experiment.data.augment,
        mean=data.mean,
        std=data.std,
        seed=checkpoint.seed,
        prepare=prepared.backend.prepare,
    )
    start = TrainState(
        epoch=checkpoint.epoch,
        batch=checkpoint.batch,
        seconds=checkpoint.seconds,
        epochs=checkpoint.epochs,
        tensors=task.tensors,
    )
    with noted_signals() as stop_signal:
        checkpointer = Checkpointer(task.folder, checkpoint, task.checkpoint_seconds, stop_signal)
        network, epochs = train(
            prepared.network,
            loader,
            settings,
            forward=prepared.backend.forward,
            evaluate=evaluate,
            callback=CallbackList([checkpointer, *callbacks, _FirstEpoch(callbacks, data)]),
            start=start if task.tensors else None,
        )
    return network, epochs, checkpointer.times


def _score_and_save(task: _Task, network: nn.Module, epochs: tuple[Epoch, ...]) -> RunRecord:
    """Score the test set, write weights and diagnostics, and return the record."""
    checkpoint, profile, data = task.checkpoint, task.prepared.profile, task.prepared.dataset
    experiment = checkpoint.experiment
    test = evaluate_split(network, data, data.test)
    shown = collect_diagnostics(network, data, experiment.data.augment, checkpoint.seed)
    return RunRecord(
        schema=SCHEMA,
        experiment=experiment,
        seed=checkpoint.seed,
        command=_command(checkpoint),
        data=checkpoint.data,
        profile=profile,
        epochs=epochs,
        test=test,
        test_looks=1 + sum(epoch.test is not None for epoch in epochs),
        weights_sha256=save_tensors(dict(network.state_dict()), task.folder / WEIGHTS),
        diagnostics_sha256=save_tensors(shown, task.folder / DIAGNOSTICS),
        environment=checkpoint.environment,
        verdict=judge(
            experiment.budget,
            network,
            profile,
            epochs=len(epochs),
            accuracy=test.score.accuracy,
        ),
        warnings=(*checkpoint.warnings, *check_first_epoch(epochs[0], len(data.classes))),
        caveats=checkpoint.caveats,
    )


def _command(checkpoint: Checkpoint) -> str:
    """The command that repeats the run, in its folder; where the data are stored is left out."""
    words = ["smidgen", "train", EXPERIMENT, "--seed", str(checkpoint.seed)]
    words += ["--threads", str(checkpoint.environment.threads)]
    words += ["--backend", checkpoint.environment.backend]
    if checkpoint.device != "auto":
        words += ["--device", checkpoint.device]
    if checkpoint.skip_bad:
        words.append("--skip-bad")
    return shlex.join(words)
