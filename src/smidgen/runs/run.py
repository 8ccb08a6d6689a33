"""One experiment, one seed: the only place where the stages meet."""

import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from smidgen.budget import Verdict
from smidgen._storage.tensors import pack_tensors
from smidgen.config import (
    Experiment,
    beside,
    format_experiment,
    parse_experiment,
)
from smidgen.data import Dataset, TrainLoader, load
from smidgen.training.device import describe_environment, require_threads, settle
from smidgen.errors import BusyError, CheckpointError, ConfigError, DataError, Interrupted
from smidgen.runs.diagnostics import diagnostics
from smidgen._storage.digests import sha256_of
from smidgen._storage.files import held, new_folder, remove_partial_files, write_atomic
from smidgen.training.signals import noted_signals
from smidgen.runs.checkpointer import (
    Checkpointer,
    digest_of_code,
    keep_experiment,
    movable,
    require_unchanged,
    inexact_reasons,
)
from smidgen.callbacks import Listener
from smidgen.record import (
    DIAGNOSTICS,
    EXPERIMENT,
    PAGE,
    RECORD,
    SCHEMA,
    TIMES,
    WEIGHTS,
    Epoch,
    Profile,
    RunRecord,
    Score,
    Times,
    format_record,
    format_times,
)
from smidgen.report import read_run, write_report
from smidgen.runs.load import require_own_module
from smidgen.seeds import seed_all
from smidgen.runs.stages import data_record, prepare, score
from smidgen.training import (
    BACKENDS,
    Checkpoint,
    State,
    Watch,
    choose_backend,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
    train,
    unsupported_reason,
)

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Where and how an experiment runs: what is no part of it."""

    seed: int = 0
    """Of the first weights, the order of the images, augmentation and dropout."""
    out: Path = Path("runs")
    """The folder of all runs; this one goes to OUT/NAME/seed-SEED, never over another."""
    data_dir: Path | None = None
    """The folder that holds the data set's files."""
    device: str = "auto"
    """auto, cuda, mps or cpu; auto takes the first of these that is there."""
    skip_bad: bool = False
    """Whether pictures of one's own that cannot be read are left out and noted."""
    threads: int | None = None
    """CPU threads; left out: one, or one for each core, whichever is faster."""
    backend: str = "auto"
    """How training steps are computed: eager, channels-last or native; auto: the fastest of them."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Between two checkpoints within an epoch; there is one after each epoch, too."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"--seed is {self.seed}; it must be from 0 to 2^63 - 1.")
        if not self.checkpoint_seconds >= 0:
            raise ConfigError(
                f"--checkpoint-seconds is {self.checkpoint_seconds}; it must be 0 or more."
            )
        require_threads(self.threads)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a run; without folder and record where the budget stopped it before."""

    verdict: Verdict
    folder: Path | None = None
    record: RunRecord | None = None


def run(
    experiment: Experiment,
    where: RunOptions | None = None,
    listener: Listener | None = None,
    dataset: Dataset | None = None,
) -> Outcome:
    """Train `experiment` once and judge it; everything that came of it stands in the run's folder.

    A network or a number of epochs over the budget stops before training and leaves no folder. The
    last epoch counts; the test set is scored once, at the end, unless the experiment asks for more.
    The experiment's data is loaded unless it is given. What is stopped goes on with `resume`.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written first.
        SmidgenError: what the person can mend; what was finished until then stays in the folder.
    """
    where, clock = where or RunOptions(), _Clock()
    experiment = parse_experiment(format_experiment(experiment))  # 5 is 5.0, as when it goes on
    device = settle(where.device, where.threads)
    seed_all(where.seed, "network")
    network, found = prepare(experiment)
    verdict = experiment.budget.check(found, epochs=experiment.train.epochs)
    if not verdict.passed:
        return Outcome(verdict=verdict)
    dataset = dataset or load(experiment.data, folder=where.data_dir, skip_bad=where.skip_bad)
    backends = BACKENDS if where.backend == "auto" else (where.backend,)
    backend = _take_form(network.to(device), dataset, experiment, backends, where.threads)
    checkpoint = Checkpoint(
        experiment=movable(experiment),
        seed=where.seed,
        device=where.device,
        data_dir=str(where.data_dir.absolute()) if where.data_dir else None,
        skip_bad=where.skip_bad,
        code_sha256=digest_of_code(experiment),
        data=data_record(dataset),
        environment=describe_environment(device, backend),
        times=Times(started=clock.started),
        inexact=(),
    )

    def fill(folder: Path) -> None:
        keep_experiment(experiment, folder)
        save_checkpoint(folder, checkpoint, {})

    with new_folder(where.out / experiment.name, f"seed-{where.seed}", fill) as folder:
        job = _Job(folder, checkpoint, None, network, found, dataset.to(device))
        return _go_on(job, where.checkpoint_seconds, listener or Listener(), clock)


def resume(
    folder: Path,
    listener: Listener | None = None,
    *,
    data_dir: Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Outcome:
    """Go on with the run in `folder` where its last checkpoint stands, as if it had never stopped.

    Weights, metrics and record are then those of an uninterrupted run, byte for byte. Data folder,
    device and threads are those of before unless others are given; what cannot be exact, on another
    build, device or number of threads, stands in the record. A run that is done is given as it is.

    Raises:
        BusyError: another process is at work on the run.
        CheckpointError: there is nothing to go on from, or it is damaged.
        DataError: the data are not those that the run began with.
        Interrupted, SmidgenError: as run.
    """
    listener, clock = listener or Listener(), _Clock()
    with held(folder):
        remove_partial_files(folder)
        if (folder / RECORD).exists():
            return _finished(folder)
        checkpoint, tensors, damage = load_checkpoint(folder)
        experiment = beside(checkpoint.experiment, folder)
        require_own_module(experiment, folder)
        require_unchanged(checkpoint, experiment, folder)
        before = checkpoint.environment
        threads = before.threads if threads is None else threads
        settled = settle(device or checkpoint.device, threads)
        seed_all(checkpoint.seed, "network")
        network, found = prepare(experiment)
        data_dir = data_dir or (Path(checkpoint.data_dir) if checkpoint.data_dir else None)
        dataset = load(experiment.data, folder=data_dir, skip_bad=checkpoint.skip_bad)
        if replace(data_record(dataset), source=checkpoint.data.source) != checkpoint.data:
            raise DataError(
                f"{dataset.name} is not the data that the run in {folder} began with; its SHA-256 "
                f"is {dataset.sha256[:16]}..., and was {checkpoint.data.sha256[:16]}..."
            )
        kept = unsupported_reason(before.backend, network.to(settled), dataset.image_shape) is None
        backends = (before.backend,) if kept else BACKENDS
        backend = _take_form(network, dataset, experiment, backends, torch.get_num_threads())
        now = describe_environment(settled, backend)
        inexact = inexact_reasons(checkpoint, now)
        times = replace(checkpoint.times, stops=checkpoint.times.stops + 1)
        said = (*checkpoint.inexact, *inexact)
        here = replace(checkpoint, environment=now, times=times, inexact=said)
        state = _state(checkpoint, tensors) if tensors else None
        listener.note(f"goes on in epoch {checkpoint.epoch}, after batch {checkpoint.batch}")
        for text in (*((damage,) if damage else ()), *inexact):
            listener.note(text)
        for past in zip(checkpoint.epochs, times.epoch_seconds, strict=False):
            listener.past(*past)
        job = _Job(folder, here, state, network, found, dataset.to(settled))
        return _go_on(job, checkpoint_seconds, listener, clock)


def find_stopped(experiment: Experiment, where: RunOptions) -> Path | None:
    """The folder of a run of `experiment` that `where` would be, was stopped and can go on."""
    for folder in sorted((where.out / experiment.name).glob(f"seed-{where.seed}*")):
        try:
            with held(folder):
                checkpoint, _, _ = load_checkpoint(folder)
        except (CheckpointError, BusyError):
            continue
        if (checkpoint.experiment, checkpoint.seed) == (movable(experiment), where.seed):
            return folder
    return None


@dataclass(frozen=True, slots=True)
class _Job:
    """A run that is ready to go on, from its beginning or from a state."""

    folder: Path
    checkpoint: Checkpoint
    state: State | None
    network: nn.Module
    profile: Profile
    data: Dataset


class _Clock:
    """When this process began with the run, and how long ago that is."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._begun = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._begun


def _go_on(job: _Job, every: float, listener: Listener, clock: _Clock) -> Outcome:
    """Train to the end, score, write everything down; the record is the last that is written."""
    folder, checkpoint, data = job.folder, job.checkpoint, job.data
    experiment = checkpoint.experiment
    try:
        listener.ready(data, job.profile, folder)
        network, epochs, times = _train(job, every, listener)
        tested = score(network, data, data.test)
        shown = diagnostics(network, data, experiment.data.augment, checkpoint.seed)
        verdict = experiment.budget.check(
            job.profile, epochs=len(epochs), accuracy=tested.score.accuracy
        )
        record = RunRecord(
            schema=SCHEMA,
            experiment=experiment,
            seed=checkpoint.seed,
            command=_command(checkpoint),
            data=checkpoint.data,
            profile=job.profile,
            epochs=epochs,
            test=tested,
            test_looks=1 + sum(epoch.test is not None for epoch in epochs),
            weights_sha256=_save_tensors(dict(network.state_dict()), folder / WEIGHTS),
            diagnostics_sha256=_save_tensors(shown, folder / DIAGNOSTICS),
            environment=checkpoint.environment,
            verdict=verdict,
            inexact=checkpoint.inexact,
        )
        total = checkpoint.times.total_seconds + clock.seconds()
        write_atomic(folder / TIMES, format_times(replace(times, total_seconds=total)))
        write_atomic(folder / RECORD, format_record(record))
        return _finished(folder)
    except KeyboardInterrupt as stop:
        raise Interrupted(getattr(stop, "signal", signal.SIGINT), folder) from None


def _finished(folder: Path) -> Outcome:
    """What became of the run in `folder`, which has a record; what is still to be done is done."""
    remove_checkpoints(folder)
    run = read_run(folder)
    assert run.record is not None
    if not (folder / PAGE).exists():
        write_report(run, folder)
    return Outcome(verdict=run.record.verdict, folder=folder, record=run.record)


def _train(
    job: _Job, every: float, listener: Listener
) -> tuple[nn.Module, tuple[Epoch, ...], Times]:
    """The trained network, its epochs and how long they took."""
    data, experiment = job.data, job.checkpoint.experiment

    def validate(network: nn.Module) -> Score | None:
        return score(network, data, data.validation).score if data.validation else None

    def look_at_test(network: nn.Module) -> Score | None:
        asked = experiment.train.test_each_epoch
        return score(network, data, data.test).score if asked else None

    def note(epoch: Epoch, seconds: float) -> None:
        keeper.note(epoch, seconds)
        listener.epoch(epoch, seconds)

    batches = TrainLoader(
        part=data.train,
        batch_size=experiment.train.batch_size,
        augment=experiment.data.augment,
        mean=data.mean,
        std=data.std,
        seed=job.checkpoint.seed,
        kernels=job.checkpoint.environment.backend == "native",
    )
    with noted_signals() as stopped:
        keeper = Checkpointer(job.folder, job.checkpoint, every, stopped)
        watch = Watch(
            batch=listener.batch,
            epoch=note,
            validate=validate,
            test=look_at_test,
            step=keeper.step,
        )
        network, epochs = train(
            job.network,
            batches,
            experiment.train,
            watch,
            job.state,
            job.checkpoint.environment.backend,
        )
    return network, epochs, keeper.times


def _state(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> State:
    return State(
        epoch=checkpoint.epoch,
        batch=checkpoint.batch,
        seconds=checkpoint.seconds,
        epochs=checkpoint.epochs,
        tensors=tensors,
    )


def _take_form(
    network: nn.Module,
    dataset: Dataset,
    experiment: Experiment,
    backends: Sequence[str],
    threads: int | None,
) -> str:
    """The name of the fastest of `backends`; the process has its number of threads from then on."""
    backend = choose_backend(
        network,
        dataset.image_shape,
        experiment.train,
        len(dataset.train),
        backends,
        [threads] if threads else None,
    )
    torch.set_num_threads(backend.threads)
    return backend.name


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> str:
    """Write tensors as safetensors; the SHA-256 of the file."""
    content = pack_tensors(tensors)
    write_atomic(path, content)
    return sha256_of(content)


def _command(checkpoint: Checkpoint) -> str:
    """What repeats the run, in its folder; where the data lies on this machine is left out."""
    words = ["smidgen", "train", EXPERIMENT, "--seed", str(checkpoint.seed)]
    words += ["--threads", str(checkpoint.environment.threads)]
    words += ["--backend", checkpoint.environment.backend]
    if checkpoint.device != "auto":
        words += ["--device", checkpoint.device]
    if checkpoint.skip_bad:
        words.append("--skip-bad")
    return shlex.join(words)
