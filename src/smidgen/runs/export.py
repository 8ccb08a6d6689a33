"""Export of a finished run's network, as files that are each compared with it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smidgen._storage.digests import sha256_of_file
from smidgen._storage.files import make_folder, write_atomic
from smidgen.config import Budget, Data
from smidgen.data import Dataset, InMemory, dataset_in_memory, load
from smidgen.errors import ConfigError, ExportError, did_you_mean, require
from smidgen.exporters.c import HEADER, SOURCE
from smidgen.exporters.c_export import C_FOLDER, export_c
from smidgen.exporters.graph import Graph
from smidgen.exporters.job import REFERENCES, Exporter, ExportJob
from smidgen.exporters.onnx import export_int8, export_onnx
from smidgen.exporters.targets import TARGETS, measure
from smidgen.exporters.tracing import graph_of
from smidgen.exporters.web import export_web
from smidgen.formatting import counted, percent, plain_table
from smidgen.models import ModelInMemory
from smidgen.record import (
    EXPORT,
    Artifact,
    Comparison,
    ExportedFile,
    ExportRecord,
    Measurement,
    Quantization,
    format_export,
    read_export,
    read_record,
)
from smidgen.runs.load import TrainedNetwork, restore
from smidgen.runs.quantize import TOLERANCE, Bits, Quantizer
from smidgen.seeds import preserved_generators
from smidgen.training.device import compute_settings

EXPORTERS: dict[str, Exporter] = {
    "onnx": export_onnx,
    "int8": export_int8,
    "c": export_c,
    "html": export_web,
}
"""By the names of their artifacts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult:
    """What was exported, and what was not."""

    folder: Path
    """Where the files and their export.json are."""
    artifacts: tuple[Artifact, ...]
    """Of this export."""
    failures: tuple[str, ...]
    """One line for each artifact whose scores differ too much, which has no files, and for each
    limit on flash or RAM that was missed."""
    quantization: Quantization | None
    """Of the integer network, if any artifact needed it."""

    @property
    def passed(self) -> bool:
        """Whether everything that was asked for was exported."""
        return not self.failures

    def __str__(self) -> str:
        lines = [_summary(artifact, self.folder) for artifact in self.artifacts]
        if self.quantization is not None:
            lines.append(_quantization_text(self.quantization))
        return "\n".join([*lines, *(f"FAILED {failure}" for failure in self.failures)])


def export(
    run: str | os.PathLike[str],
    to: Sequence[str] = ("onnx",),
    out: str | os.PathLike[str] | None = None,
    *,
    bits: int | Bits | None = None,
    max_weight_bytes: int | None = None,
    max_accuracy_loss: float = TOLERANCE,
    targets: Sequence[str] = (),
    license: str = "",
    data_dir: str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
    model: ModelInMemory | None = None,
    data: InMemory | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> ExportResult:
    """Export the network of the finished run in the folder `run`, and compare what was written.

        smidgen.export("runs/gap-6k/seed-0", to=("onnx",))

    What was written is compared with the network on the whole test split; export.json, next to the
    files, says how it compares. An artifact that differs too much has no files, and is a failure.

    Args:
        run: the run's folder.
        to: the artifacts: onnx, int8, c, html.
        out: the folder to write into; None: the run's.
        bits: of the weights of an integer network: 8, 4 or 2, for all layers or for each one; None:
            the budget's weight_bits, which are 8 if it does not say. auto: as few as accuracy
            allows, or as fit into `max_weight_bytes`; it is then fine-tuned for at most two epochs,
            as it is whenever rounding costs too much accuracy.
        max_weight_bytes: of an integer network's weights and biases.
        max_accuracy_loss: what an integer network may lose, as a fraction.
        targets: microcontrollers on which the C code is measured in simulators: atmega328p,
            cortex-m0, rv32i. The budget's target is always among them.
        license: of the files, for their metadata.
        data_dir: where the data set's files are.
        skip_bad: leave out images that cannot be read.
        model: the network, if it was passed to smidgen.train in Python.
        data: likewise the data.
        on_message: called with a line before each step that takes long.

    Raises:
        ModelError: the network has a layer that cannot be exported; names it.
        SmidgenError: the run or its data are missing or damaged, or a package is.
    """
    folder = Path(run)
    _require_known(to, targets, max_accuracy_loss)
    record = read_record(folder)
    budget = record.experiment.budget
    bits = budget.weight_bits if bits is None else bits
    if budget.limits_target and budget.target is not None:
        targets = (*targets, budget.target)
    target = make_folder(folder if out is None else Path(out))
    before = read_export(target)
    if before is not None and before.weights_sha256 != record.weights_sha256:
        raise ConfigError(f"{target} has exports of another run; choose another folder with --out.")
    network = TrainedNetwork(restore(folder, record, model), record.data)
    dataset = _dataset(record.experiment.data, data, data_dir, skip_bad)
    quantizer = Quantizer(
        record=record,
        dataset=dataset,
        bits=(bits,) if isinstance(bits, int) else bits,
        max_weight_bytes=max_weight_bytes,
        tolerance=max_accuracy_loss,
        on_message=on_message,
    )
    job = ExportJob(
        record=record,
        network=network,
        dataset=dataset,
        make_graph=lambda: _graph(network),
        quantize=quantizer,
        license=license,
    )
    known = {} if before is None else {artifact.name: artifact for artifact in before.artifacts}
    made: list[Artifact] = []
    failures: list[str] = []
    with compute_settings("cpu"), preserved_generators():
        for name in dict.fromkeys(to):
            on_message(f"exporting to {name}")
            measured = tuple(dict.fromkeys(targets)) if name == "c" else ()
            result = _export_one(job, name, target, known, quantizer, measured)
            if isinstance(result, Artifact):
                made.append(result)
                failures += _over_budget(result.measurements, budget)
            else:
                failures.append(f"{name}: {result}")
    return ExportResult(
        folder=target,
        artifacts=tuple(made),
        failures=tuple(failures),
        quantization=quantizer.result,
    )


def demo(
    run: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    model: ModelInMemory | None = None,
    data: InMemory | None = None,
) -> Path:
    """The web page on which the network of a finished run can be tried out.

    It is exported into the run's folder, unless it is there. The arguments are those of `export`.

    Raises:
        ExportError: the page does not answer as the network does.
        SmidgenError: as `export`.
    """
    folder = Path(run)
    earlier = read_export(folder)
    for artifact in () if earlier is None else earlier.artifacts:
        (file, *_) = artifact.files
        page = folder / file.path
        if artifact.name == "html" and page.exists() and sha256_of_file(page) == file.sha256:
            return page
    result = export(folder, ["html"], data_dir=data_dir, model=model, data=data)
    if not result.passed:
        raise ExportError(result.failures[0])
    return folder / result.artifacts[0].files[0].path


def _require_known(to: Sequence[str], targets: Sequence[str], max_accuracy_loss: float) -> None:
    for name in to:
        if name not in EXPORTERS:
            raise ConfigError(
                f"{name!r} cannot be exported to; there are {', '.join(EXPORTERS)}."
                + did_you_mean(name, EXPORTERS)
            )
    for name in targets:
        if name not in TARGETS:
            raise ConfigError(
                f"{name!r} is not a target; there are {', '.join(TARGETS)}."
                + did_you_mean(name, TARGETS)
            )
    if targets and "c" not in to:
        raise ConfigError("targets are for the C code; add c to what is exported.")
    require(
        0 <= max_accuracy_loss <= 1,
        f"max_accuracy_loss is {max_accuracy_loss}; it must be a fraction from 0 to 1.",
    )


def _dataset(
    settings: Data,
    data: InMemory | None,
    data_dir: str | os.PathLike[str] | None,
    skip_bad: bool,
) -> Dataset:
    if settings.in_memory and data is not None:
        return dataset_in_memory(data, settings)
    directory = None if data_dir is None else Path(data_dir)
    return load(settings, data_dir=directory, skip_bad=skip_bad)


def _graph(network: TrainedNetwork) -> Graph:
    return graph_of(network.network, network.image_shape, network.mean, network.std)


def _export_one(
    job: ExportJob,
    name: str,
    target: Path,
    known: dict[str, Artifact],
    quantizer: Quantizer,
    measured: Sequence[str],
) -> Artifact | ExportError:
    """Export in a temporary folder; if the comparison passes, move the files to `target`.

    Either way they replace those of an earlier export, among the `known` artifacts of export.json.
    """
    with tempfile.TemporaryDirectory(dir=target, prefix=".export-") as temporary:
        result: Artifact | ExportError
        try:
            comparison = EXPORTERS[name](job, Path(temporary))
            of_integers = comparison.reference == "integers"
            if of_integers:
                _require_accuracy(comparison, job, quantizer)
            result = Artifact(
                name=name,
                files=tuple(_files(Path(temporary))),
                comparison=comparison,
                quantization=quantizer.result if of_integers else None,
                measurements=_measurements(job, Path(temporary) / C_FOLDER, measured),
            )
        except ExportError as error:
            result = error
        if name in known:
            for file in known.pop(name).files:
                (target / file.path).unlink(missing_ok=True)
        if isinstance(result, Artifact):
            known[name] = result
            for file in result.files:
                make_folder((target / file.path).parent)
                shutil.move(Path(temporary, file.path), target / file.path)
    record = ExportRecord(weights_sha256=job.record.weights_sha256, artifacts=tuple(known.values()))
    write_atomic(target / EXPORT, format_export(record))
    return result


def _measurements(job: ExportJob, folder: Path, targets: Sequence[str]) -> tuple[Measurement, ...]:
    """What the C code in the folder needs, by a test image."""
    if not targets:
        return ()
    files = {name: (folder / name).read_text("utf-8") for name in (HEADER, SOURCE)}
    image, scores = job.pixels[:1], job.integer_scores[:1]
    return tuple(measure(files, target, image, scores) for target in targets)


def _over_budget(measurements: Sequence[Measurement], budget: Budget) -> Iterator[str]:
    """A line for each limit that the C code misses on the budget's target."""
    for found in measurements:
        if found.target == budget.target:
            ram_bytes = found.ram_bytes or found.static_bytes
            for name, bound, value in (
                ("flash", budget.max_flash_bytes, found.flash_bytes),
                ("RAM", budget.max_ram_bytes, ram_bytes),
            ):
                if bound is not None and value is not None and value > bound:
                    yield (
                        f"budget: {value:,} bytes of {name} on {found.target}; "
                        f"at most {bound:,} are allowed"
                    )


def _files(folder: Path) -> Iterator[ExportedFile]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield ExportedFile(
                path=path.relative_to(folder).as_posix(),
                sha256=sha256_of_file(path),
                num_bytes=path.stat().st_size,
            )


def _require_accuracy(comparison: Comparison, job: ExportJob, quantizer: Quantizer) -> None:
    """Raise an ExportError if too much of the network's test accuracy was lost."""
    number, before = comparison.num_images, job.record.test.score.accuracy
    loss = before - comparison.num_correct / number
    if number == job.record.test.num_images and loss > quantizer.tolerance + 1e-9:
        raise ExportError(
            f"{percent(before - loss)} of {number:,} test images, the network {percent(before)}: "
            f"{100 * loss:.2f} points are lost ({100 * quantizer.tolerance:g} are allowed)"
        )


def _summary(artifact: Artifact, folder: Path) -> str:
    """An artifact in a few lines."""
    found = artifact.comparison
    unit = " steps" if found.unit == "step" else ""
    listed = ", ".join(map(str, found.differing[:10])) + (", ..." if found.differing[10:] else "")
    lines = [f"{artifact.name}: {folder / f.path} ({f.num_bytes:,} bytes)" for f in artifact.files]
    if found.num_images:
        accuracy = percent(found.num_correct / found.num_images)
        lines.append(
            f"  {accuracy} of {found.num_images:,} test images; "
            f"{len(found.differing)} predictions differ from those of the "
            f"{REFERENCES[found.reference]}{f' ({listed})' if listed else ''}, scores by at most "
            f"{found.largest_difference:.2g}{unit}"
        )
    lines += [f"  {note}" for note in found.notes]
    return "\n".join([*lines, *(f"  {_measured_text(each)}" for each in artifact.measurements)])


def _measured_text(found: Measurement) -> str:
    """What the C code needs on a target, in a line."""
    values = []
    if found.flash_bytes is not None:
        values.append(f"{found.flash_bytes:,} bytes of flash")
    if found.ram_bytes is not None:
        values.append(
            f"{found.ram_bytes:,} bytes of RAM without the image ({found.stack_bytes:,} are stack)"
        )
    elif found.static_bytes is not None:
        values.append(f"{found.static_bytes:,} bytes of variables")
    if found.count is not None:
        values.append(f"{found.count:,} {found.unit} for an image")
    if found.note:
        values.append(f"{'the rest ' if values else ''}not measured: {found.note}")
    return f"{found.target}: {', '.join(values)}"


def _quantization_text(made: Quantization) -> str:
    """What was lost by rounding, and what each choice of bits that was tried would lose."""
    lines = [
        f"integer network: {made.weight_bytes:,} bytes of weights with "
        f"{', '.join(map(str, made.bits))} bits; {percent(made.accuracy)} of the {made.split} "
        f"images, in floating point {percent(made.float_accuracy)}"
    ]
    if made.fine_tune_epochs:
        total = "" if made.num_epochs is None else f", which makes {made.num_epochs}"
        if made.max_epochs is not None and (made.num_epochs or 0) > made.max_epochs:
            total += f", more than the budget's {made.max_epochs}"
        lines.append(f"  fine-tuned for {counted(made.fine_tune_epochs, 'epoch')}{total}")
    if len(made.trials) > 1:
        rows: list[Sequence[str]] = [("bits", "bytes", made.split, "fine-tuned")]
        for trial in made.trials:
            tuned = trial.fine_tuned_accuracy
            rows.append(
                (
                    " ".join(map(str, trial.bits)),
                    f"{trial.weight_bytes:,}",
                    percent(trial.accuracy),
                    "" if tuned is None else percent(tuned),
                )
            )
        lines += [f"  {line.rstrip()}" for line in plain_table(rows, "<>>>").splitlines()]
    return "\n".join(lines)
