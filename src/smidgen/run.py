"""One experiment, one seed: the only place where the stages meet."""

import hashlib
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from smidgen.budget import Verdict
from smidgen.config import Experiment, format_experiment
from smidgen.data import Dataset, Facts, Part, load
from smidgen.data import describe as describe_data
from smidgen.environment import describe, settle
from smidgen.errors import ConfigError, RecordError
from smidgen.evaluate import evaluate
from smidgen.exhibit import exhibits
from smidgen.files import append_line, ensure_folder, new_folder, write_whole
from smidgen.nets import build, sources
from smidgen.profiling import check_output, profile
from smidgen.record import (
    EXHIBITS,
    EXPERIMENT,
    METRICS,
    RECORD,
    SCHEMA,
    WEIGHTS,
    DataRecord,
    Epoch,
    Evaluation,
    Profile,
    RunRecord,
    Score,
    format_epoch,
    format_record,
)
from smidgen.report import read_run, write_report
from smidgen.training import Progress, Watch, train

_MOST_THREADS = 1024  # beyond it the system refuses to start them, and the process dies


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
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
    """CPU threads; left out: torch's own choice, usually one for each core."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"--seed is {self.seed}; it must be from 0 to 2^63 - 1.")
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise ConfigError(
                f"--threads is {self.threads}; it must be from 1 to {_MOST_THREADS:,}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """What is told as a run goes on; a display is one."""

    ready: Callable[[Dataset, Profile, Path], None] = lambda *_: None
    """Before the first step, with the run's folder."""
    batch: Callable[[Progress], None] = lambda _: None
    epoch: Callable[[Epoch], None] = lambda _: None


def together(*listeners: Listener) -> Listener:
    """One listener that tells all of `listeners`, in their order."""

    def ready(dataset: Dataset, found: Profile, folder: Path) -> None:
        for listener in listeners:
            listener.ready(dataset, found, folder)

    def batch(progress: Progress) -> None:
        for listener in listeners:
            listener.batch(progress)

    def epoch(epoch: Epoch) -> None:
        for listener in listeners:
            listener.epoch(epoch)

    return Listener(ready=ready, batch=batch, epoch=epoch)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a run; without folder and record where the budget stopped it before."""

    verdict: Verdict
    folder: Path | None = None
    record: RunRecord | None = None


def run(
    experiment: Experiment,
    where: Where | None = None,
    listener: Listener | None = None,
    dataset: Dataset | None = None,
) -> Outcome:
    """Train `experiment` once and judge it; everything that came of it stands in the run's folder.

    A network or a number of epochs over the budget stops before training and leaves no folder. The
    last epoch counts; the test set is scored once, at the end, unless the experiment asks for more.
    The experiment's data is loaded unless it is given.

    Raises:
        SmidgenError: what the person can mend; what was finished until then stays in the folder.
    """
    where, listener = where or Where(), listener or Listener()
    begun, started = time.perf_counter(), datetime.now(UTC)
    device = settle(where.device, where.threads)
    torch.manual_seed(where.seed)
    network, found = prepare(experiment)
    verdict = experiment.budget.check(found, epochs=experiment.train.epochs)
    if not verdict.passed:
        return Outcome(verdict=verdict)

    dataset = dataset or load(experiment.data, folder=where.data_dir, skip_bad=where.skip_bad)
    folder = new_folder(where.out / experiment.name, f"seed-{where.seed}")
    kept = _keep(experiment, folder)
    listener.ready(dataset, found, folder)
    data = dataset.to(device)
    train_begun = time.perf_counter()
    network, epochs = _train(network.to(device), data, experiment, where.seed, folder, listener)
    train_seconds = time.perf_counter() - train_begun
    tested = score(network, data, data.test)
    record = RunRecord(
        schema=SCHEMA,
        experiment=experiment,
        seed=where.seed,
        command=_command(where),
        started=started.isoformat(timespec="seconds"),
        train_seconds=train_seconds,
        total_seconds=time.perf_counter() - begun,
        data=data_record(dataset),
        profile=found,
        epochs=epochs,
        test=tested,
        test_looks=1 + sum(epoch.test is not None for epoch in epochs),
        weights_sha256=_save_weights(network, folder),
        environment=describe(device),
        verdict=experiment.budget.check(found, epochs=len(epochs), accuracy=tested.score.accuracy),
    )
    shown = exhibits(network, data, experiment.data.augment, where.seed)
    write_whole(folder / EXHIBITS, safetensors.torch.save(shown))
    write_whole(folder / RECORD, format_record(replace(record, experiment=kept)))
    write_report(read_run(folder), folder)
    return Outcome(verdict=record.verdict, folder=folder, record=record)


def _train(
    network: nn.Module,
    data: Dataset,
    experiment: Experiment,
    seed: int,
    folder: Path,
    listener: Listener,
) -> tuple[nn.Module, tuple[Epoch, ...]]:
    """The trained network and its epochs, which are written down as they end."""

    def validate(network: nn.Module) -> Score | None:
        return score(network, data, data.validation).score if data.validation else None

    def look_at_test(network: nn.Module) -> Score | None:
        asked = experiment.train.test_each_epoch
        return score(network, data, data.test).score if asked else None

    def note(epoch: Epoch) -> None:
        append_line(folder / METRICS, format_epoch(epoch))
        listener.epoch(epoch)

    return train(
        network,
        data.train,
        data.mean,
        data.std,
        experiment.data.augment,
        experiment.train,
        seed,
        Watch(batch=listener.batch, epoch=note, validate=validate, test=look_at_test),
    )


def _save_weights(network: nn.Module, folder: Path) -> str:
    """Write the network's weights; the SHA-256 of the file."""
    tensors = {
        # a copy, as tensors that share their storage are refused
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    content = safetensors.torch.save(tensors)
    write_whole(folder / WEIGHTS, content)
    return hashlib.sha256(content).hexdigest()


def _keep(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment as its files in `folder` say it, which this writes.

    A module of one's own is kept as it is now with what it imports from beside it, and found there
    again.
    """
    file = experiment.model.file
    if file is not None:
        for path in sources(file):
            ensure_folder((folder / path).parent)
            write_whole(folder / path, (file.parent / path).read_bytes())
        own = experiment.model.with_file(Path(file.name))
        experiment = replace(experiment, model=own)
    write_whole(folder / EXPERIMENT, format_experiment(experiment))
    return experiment


def prepare(experiment: Experiment) -> tuple[nn.Module, Profile]:
    """The network of `experiment`, with weights from torch's generator, and its profile.

    Raises:
        ConfigError, ModelError: it cannot be built, or does not give (batch, classes).
    """
    facts = describe_data(experiment.data)
    network = build(experiment.model, facts.image_shape, facts.num_classes)
    found = profile(network, facts.image_shape)
    check_output(found, facts.num_classes)
    return network, found


def restore(folder: Path, record: RunRecord) -> nn.Module:
    """The trained network of the run in `folder`, in eval mode on the CPU.

    Raises:
        RecordError: the weights are missing, damaged or of another network, or the record's images
            and classes are not those of its data set.
    """
    facts = Facts(record.data.image_shape, len(record.data.classes))
    data = record.experiment.data
    if data.path is None and facts != (known := describe_data(data)):
        raise RecordError(
            f"{folder / RECORD} is damaged: it says images of {facts.image_shape} in "
            f"{facts.num_classes} classes; {data.name} has images of {known.image_shape} in "
            f"{known.num_classes}."
        )
    network = build(record.experiment.model, facts.image_shape, facts.num_classes)
    path = folder / WEIGHTS
    try:
        weights = safetensors.torch.load(path.read_bytes())
        network.load_state_dict(weights)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    except safetensors.SafetensorError as error:
        raise RecordError(f"{path} is damaged: {error}.") from None
    except RuntimeError as error:
        lines = str(error).splitlines()  # a heading, then what does not fit
        what = lines[min(1, len(lines) - 1)].strip().rstrip(".")
        raise RecordError(f"{path} holds the weights of another network: {what}.") from None
    return network.eval()


def score(network: nn.Module, data: Dataset, part: Part) -> Evaluation:
    """The score of `network` on one part of `data`."""
    return evaluate(network, part, data.mean, data.std, len(data.classes))


def _command(where: Where) -> str:
    """What repeats the run, in its folder; where the data lies on this machine is left out."""
    words = ["smidgen", "train", EXPERIMENT, "--seed", str(where.seed)]
    words += ["--threads", str(torch.get_num_threads())]
    if where.device != "auto":
        words += ["--device", where.device]
    if where.skip_bad:
        words.append("--skip-bad")
    return shlex.join(words)


def data_record(dataset: Dataset) -> DataRecord:
    """What a record says of `dataset`."""
    return DataRecord(
        name=dataset.name,
        source=dataset.source,
        sha256=dataset.sha256,
        num_train=len(dataset.train.labels),
        num_validation=len(dataset.validation.labels) if dataset.validation else 0,
        num_test=len(dataset.test.labels),
        image_shape=dataset.image_shape,
        mean=dataset.mean,
        std=dataset.std,
        classes=dataset.classes,
        notes=dataset.notes,
    )
