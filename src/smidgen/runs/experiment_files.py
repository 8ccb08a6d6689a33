"""The experiment file and the user's code, as a run's folder stores them."""

import os
from pathlib import Path

from smidgen._storage.digests import sha256_of
from smidgen._storage.files import make_folder, write_atomic
from smidgen._storage.user_code import source_files
from smidgen.config import (
    Experiment,
    read_experiment,
)
from smidgen.errors import CheckpointError, RecordError
from smidgen.record import EXPERIMENT, FAILURE
from smidgen.training import Checkpoint, remove_checkpoints


def save_experiment(experiment: Experiment, folder: Path) -> None:
    """Write experiment.toml and copies of the module's source files into `folder`."""
    if (file := experiment.model.file) is not None:
        for path in source_files(file):
            make_folder((folder / path).parent)
            write_atomic(folder / path, (file.parent / path).read_bytes())
    write_atomic(folder / EXPERIMENT, experiment.with_bare_files().to_toml())


def code_sha256(experiment: Experiment) -> str:
    """SHA-256 of the user's source files that `experiment` runs: its module and transforms."""
    transforms = (experiment.data.transforms or "").rpartition(":")[0]
    files = [experiment.model.file, Path(transforms) if transforms.endswith(".py") else None]
    return sha256_of(
        *(
            (file.parent / path).read_bytes()
            for file in files
            if file is not None and os.path.isfile(file)  # noqa: PTH113 (any name)
            for path in source_files(file)
        )
    )


def require_unchanged(checkpoint: Checkpoint, experiment: Experiment, folder: Path) -> None:
    """Check that code and experiment are those that the run started with; texts may differ.

    Raises:
        CheckpointError: one of them was edited.
    """
    if code_sha256(experiment) != checkpoint.code_sha256:
        raise CheckpointError(
            f"the network's or the transforms' code of {folder} has changed since the run started; "
            "start a new run with it, or restore the original."
        )
    current = read_experiment(folder / EXPERIMENT)
    if current.without_texts() != experiment.without_texts():
        raise CheckpointError(
            f"{folder / EXPERIMENT} has changed since the run started; train it as a new run, or "
            "restore the original."
        )


def require_module_in_folder(experiment: Experiment, folder: Path) -> None:
    """Check that the module of the run in `folder`, if it is a file, lies in that folder.

    Naming a run runs its module; a record must not choose other code on this machine.

    Raises:
        RecordError: the file is not in the folder, or is a link that leads out of it.
    """
    file = experiment.model.file
    if file is None:
        return
    inside = file == folder.absolute() / file.name and os.path.isfile(file)  # noqa: PTH113
    if not inside or not file.resolve().is_relative_to(folder.resolve()):
        raise RecordError(
            f"{folder} names the module {file}, which is not in that folder: a run stores a copy "
            "of its module. Restore the original, or repeat the run."
        )


def mark_failed(folder: Path, reason: str) -> None:
    """Note why training failed, and remove the checkpoints: they would lead to the same again."""
    write_atomic(folder / FAILURE, f"{reason}\n")
    remove_checkpoints(folder)


def require_not_failed(folder: Path) -> None:
    """Check that the run in `folder` did not end in `mark_failed`.

    Raises:
        CheckpointError: it did; says why.
    """
    if (folder / FAILURE).exists():
        reason = (folder / FAILURE).read_text(encoding="utf-8").strip()
        raise CheckpointError(
            f"the run in {folder} failed and would fail again: {reason} Start a new run."
        )
