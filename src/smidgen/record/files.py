"""The files of a run's folder; records are read from and written as JSON with its own digest."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from smidgen._storage.digests import sha256_of
from smidgen._storage.locks import is_locked
from smidgen._storage.serialization import from_plain, to_plain
from smidgen.errors import RecordError
from smidgen.record.export import ExportRecord
from smidgen.record.run import Epoch, RunRecord, Times

SCHEMA = 3

# The files of a run's folder.
EXPERIMENT = "experiment.toml"
RECORD = "run.json"
METRICS = "metrics.jsonl"
WEIGHTS = "weights.safetensors"
DIAGNOSTICS = "diagnostics.safetensors"
TIMES = "times.json"
PAGE = "report.html"
MARKDOWN_PAGE = "report.md"
EXPORT = "export.json"
FAILURE = "failure.txt"
PROGRESS = "progress.jsonl"

T = TypeVar("T")


def format_record(record: RunRecord) -> str:
    """The record as JSON with its own digest."""
    return seal(json.dumps(to_plain(record), indent=1, allow_nan=False) + "\n")


def format_times(times: Times) -> str:
    """The times as JSON with its own digest."""
    return seal(json.dumps(to_plain(times), indent=1, allow_nan=False) + "\n")


def format_export(record: ExportRecord) -> str:
    """The record of an export as JSON with its own digest."""
    return seal(json.dumps(to_plain(record), indent=1, allow_nan=False) + "\n")


def format_epoch(epoch: Epoch) -> str:
    """One line of JSON, newline included."""
    return json.dumps(to_plain(epoch), allow_nan=False) + "\n"


def find_run_folders(folder: Path) -> Iterator[Path]:
    """The folders of runs, finished or not: `folder` itself and any below it that is not hidden."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        if EXPERIMENT in files and (RECORD in files or METRICS in files):
            yield Path(place)


def run_status(folder: Path) -> str:
    """What has become of the run in `folder`: "finished", "running", "failed" or "interrupted"."""
    if (folder / RECORD).exists():
        return "finished"
    if is_locked(folder):
        return "running"
    return "failed" if (folder / FAILURE).exists() else "interrupted"


def require_files(folder: Path) -> None:
    """Refuse a run's folder with a pipe or a device among its files, which would block the reader.

    Raises:
        RecordError: there is one, or a file is out of reach.
    """
    for name in (RECORD, EXPERIMENT, METRICS, WEIGHTS, DIAGNOSTICS, TIMES):
        path = folder / name
        try:
            special = path.exists() and not (path.is_file() or path.is_dir())
        except OSError as error:
            raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
        if special:
            raise RecordError(f"{path} is a pipe or a device, not a file.")


def read_record(folder: str | os.PathLike[str], edited: bool = False) -> RunRecord:
    """The record of the run in `folder`, from its run.json; with `edited`, a changed one too.

    Raises:
        RecordError: the run did not finish, or its record is damaged or was changed.
    """
    folder = Path(folder)
    require_files(folder)
    path = folder / RECORD
    plain = _read_sealed(path, edited)
    if plain is None:
        raise RecordError(f"{folder} is not a finished run: it has no {RECORD}.")
    if plain.get("schema") != SCHEMA:
        raise RecordError(
            f"{path} has schema {plain.get('schema')!r}; this smidgen reads {SCHEMA}. Repeat the "
            "run, or read it with the smidgen that wrote it."
        )
    record = _read_as(RunRecord, plain, path)
    return replace(record, experiment=record.experiment.with_files_in(folder))


def read_times(folder: Path) -> Times | None:
    """How long the run in `folder` took; None if it has no times.json.

    Raises:
        RecordError: its times.json is damaged or was changed.
    """
    path = folder / TIMES
    plain = _read_sealed(path)
    return None if plain is None else _read_as(Times, plain, path)


def read_export(folder: Path) -> ExportRecord | None:
    """The record of what was exported into `folder`; None if it has no export.json.

    Raises:
        RecordError: its export.json is damaged or was changed.
    """
    path = folder / EXPORT
    plain = _read_sealed(path)
    return None if plain is None else _read_as(ExportRecord, plain, path)


_SEAL = '{\n "sha256": "'


def seal(body: str) -> str:
    """A JSON object as text, with the SHA-256 of that text as its first entry."""
    return f'{_SEAL}{sha256_of(body)}",{body[1:]}'


def is_sealed(text: str) -> bool:
    """Whether a text is the result of `seal`, unchanged."""
    digest, rest = text[len(_SEAL) :][:64], text[len(_SEAL) + 64 :]
    body = "{" + rest.removeprefix('",')
    return text == _SEAL + digest + '",' + body[1:] and digest == sha256_of(body)


def _read_sealed(path: Path, edited: bool = False) -> dict[str, Any] | None:
    """The content of a sealed file without its digest; None if there is no such file."""
    try:
        text = path.read_bytes().decode()  # without converting line ends
        plain = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if not isinstance(plain, dict):
            raise ValueError("the file must be a table")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}.") from None
    if not edited and plain.get("schema", SCHEMA) == SCHEMA and not is_sealed(text):
        raise RecordError(
            f"{path} was changed after it was written: its content does not match its SHA-256. "
            "Restore the original, or repeat the run."
        )
    plain.pop("sha256", None)
    return plain


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("it has a number beyond double precision")
    return value


def _read_as(kind: type[T], plain: dict[str, Any], path: Path) -> T:
    try:
        return from_plain(kind, plain)
    except ValueError as error:
        raise RecordError(f"{path} is damaged: {error}") from None
