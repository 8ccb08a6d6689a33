"""Export of a finished run's network, as files that are each compared with it."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smidgen._storage.digests import sha256_of_file
from smidgen._storage.files import make_folder, write_atomic
from smidgen.config import Data
from smidgen.data import Dataset, InMemory, dataset_in_memory, load
from smidgen.errors import ConfigError, ExportError, did_you_mean
from smidgen.exporters.conversion import to_integers
from smidgen.exporters.graph import Graph, graph_of
from smidgen.exporters.integer import IntegerNetwork
from smidgen.exporters.job import Exporter, ExportJob
from smidgen.exporters.onnx import export_onnx
from smidgen.exporters.quantization import GraphNetwork
from smidgen.formatting import percent
from smidgen.models import ModelInMemory
from smidgen.record import (
    EXPORT,
    Artifact,
    ExportedFile,
    ExportRecord,
    RunRecord,
    format_export,
    read_export,
    read_record,
)
from smidgen.runs.load import TrainedNetwork, restore
from smidgen.seeds import preserved_generators
from smidgen.training.device import compute_settings

EXPORTERS: dict[str, Exporter] = {"onnx": export_onnx}
"""By the names of their artifacts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult:
    """What was exported, and what was not."""

    folder: Path
    """Where the files and their export.json are."""
    artifacts: tuple[Artifact, ...]
    """Of this export."""
    failures: tuple[str, ...]
    """One line for each artifact whose scores differ too much; it has no files."""

    @property
    def passed(self) -> bool:
        """Whether everything that was asked for was exported."""
        return not self.failures

    def __str__(self) -> str:
        lines = [_summary(artifact, self.folder) for artifact in self.artifacts]
        return "\n".join([*lines, *(f"FAILED {failure}" for failure in self.failures)])


def export(
    run: str | os.PathLike[str],
    to: Sequence[str] = ("onnx",),
    out: str | os.PathLike[str] | None = None,
    *,
    license: str = "",
    data_dir: str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
    model: ModelInMemory | None = None,
    data: InMemory | None = None,
) -> ExportResult:
    """Export the network of the finished run in the folder `run`, and compare what was written.

        smidgen.export("runs/gap-6k/seed-0", to=("onnx",))

    `to` names the artifacts. They go into the folder `out`, or into the run's folder, together with
    export.json, which says how each compares with the network on the whole test split. `license` is
    for their metadata. A network or data that were passed to smidgen.train in Python must be passed
    again.

    Raises:
        ModelError: the network has a layer that cannot be exported; names it.
        SmidgenError: the run or its data are missing or damaged, or a package is.
    """
    folder = Path(run)
    for name in to:
        if name not in EXPORTERS:
            raise ConfigError(
                f"{name!r} cannot be exported to; there are {', '.join(EXPORTERS)}."
                + did_you_mean(name, EXPORTERS)
            )
    record = read_record(folder)
    target = make_folder(folder if out is None else Path(out))
    before = read_export(target)
    if before is not None and before.weights_sha256 != record.weights_sha256:
        raise ConfigError(f"{target} has exports of another run; choose another folder with --out.")
    network = TrainedNetwork(restore(folder, record, model), record.data)
    dataset = _dataset(record.experiment.data, data, data_dir, skip_bad)
    job = ExportJob(
        record=record,
        network=network,
        dataset=dataset,
        make_graph=lambda: _graph(network),
        quantize=lambda graph: _quantized(graph, dataset),
        license=license,
    )
    artifacts, failures = [], []
    with compute_settings("cpu"), preserved_generators():
        for name in dict.fromkeys(to):
            _remove(target, before, name)
            try:
                artifacts.append(_export_one(job, name, target))
            except ExportError as error:
                failures.append(f"{name}: {error}")
    _write_record(target, record, before, artifacts, to)
    return ExportResult(folder=target, artifacts=tuple(artifacts), failures=tuple(failures))


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


def _quantized(graph: Graph, dataset: Dataset) -> IntegerNetwork:
    network = GraphNetwork(graph)
    network.calibrate(network.centered(dataset.train.images[:1000]))
    return to_integers(network)


def _export_one(job: ExportJob, name: str, target: Path) -> Artifact:
    """Write an artifact into a temporary folder, and move its files if it passes."""
    with tempfile.TemporaryDirectory(dir=target, prefix=".export-") as temporary:
        comparison = EXPORTERS[name](job, Path(temporary))
        files = []
        for path in sorted(Path(temporary).rglob("*")):
            if path.is_file():
                relative = path.relative_to(temporary)
                files.append(
                    ExportedFile(
                        path=relative.as_posix(),
                        sha256=sha256_of_file(path),
                        num_bytes=path.stat().st_size,
                    )
                )
                make_folder((target / relative).parent)
                shutil.move(path, target / relative)
    return Artifact(name=name, files=tuple(files), comparison=comparison)


def _remove(target: Path, before: ExportRecord | None, name: str) -> None:
    """Remove the files that an earlier export wrote for an artifact."""
    for artifact in before.artifacts if before is not None else ():
        if artifact.name == name:
            for file in artifact.files:
                (target / file.path).unlink(missing_ok=True)


def _write_record(
    target: Path,
    record: RunRecord,
    before: ExportRecord | None,
    artifacts: Sequence[Artifact],
    to: Sequence[str],
) -> None:
    """Write export.json, with the artifacts of earlier exports that were not written again."""
    earlier = () if before is None else before.artifacts
    still = [artifact for artifact in earlier if artifact.name not in to]
    whole = ExportRecord(weights_sha256=record.weights_sha256, artifacts=(*still, *artifacts))
    write_atomic(target / EXPORT, format_export(whole))


def _summary(artifact: Artifact, folder: Path) -> str:
    """An artifact in a few lines."""
    found = artifact.comparison
    accuracy = percent(found.num_correct / found.num_images)
    unit = " steps" if found.unit == "step" else ""
    lines = [f"{artifact.name}: {folder / f.path} ({f.num_bytes:,} bytes)" for f in artifact.files]
    return "\n".join(
        [
            *lines,
            f"  {accuracy} of {found.num_images:,} test images; {len(found.differing)} predictions "
            f"differ from the {found.reference}'s, scores by at most "
            f"{found.largest_difference:.2g}{unit}",
            *(f"  {note}" for note in found.notes),
        ]
    )
