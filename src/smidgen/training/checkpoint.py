"""Everything that a run needs to resume, in one file that states its own digest.

A line of text with the SHA-256 of the rest, then safetensors: the tensors, and everything else as
JSON in the safetensors header. Reading it runs no code. The previous checkpoint is kept as well.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from smidgen._storage.digests import sha256_of
from smidgen._storage.files import write_atomic
from smidgen._storage.serialization import from_plain, to_plain
from smidgen._storage.tensors import pack_tensors, unpack_metadata, unpack_tensors
from smidgen.config import Experiment
from smidgen.errors import CheckpointError
from smidgen.record import DataRecord, Environment, Epoch, Times
from smidgen.training.device import MAX_THREADS

CHECKPOINT = "last.checkpoint"
PREVIOUS = "previous.checkpoint"

_HEAD = b"smidgen checkpoint 1 "
_HEAD_BYTES = len(_HEAD) + 64 + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The state of a run, without its tensors."""

    experiment: Experiment
    seed: int
    device: str
    """As requested, such as auto."""
    data_dir: str | None
    skip_bad: bool
    code_sha256: str
    """Of the user's source files that the run uses; of nothing if there are none."""
    data: DataRecord
    environment: Environment
    times: Times
    warnings: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    """These two as in the record."""
    epoch: int = 1
    batch: int = 0
    seconds: float = 0.0
    """These three as in TrainState; before the first step there are no tensors."""
    epochs: tuple[Epoch, ...] = ()

    def __post_init__(self) -> None:
        sound = (
            0 <= self.seed < 2**63
            and 1 <= self.environment.threads <= MAX_THREADS
            and self.epoch >= 1
            and self.batch >= 0
            and self.seconds >= 0
        )
        if not sound:
            raise ValueError("its seed, threads or position are out of range")

    def inexact_reasons(self, now: Environment) -> tuple[str, ...]:
        """Why a run resumed from here, in the environment `now`, may not be exact: a sentence."""
        changes = self.environment.changes_to(now)
        if not changes:
            return ()
        place = f"epoch {self.epoch}, after batch {self.batch}"
        return (f"Resumed in {place}, with {', '.join(changes)}: not exact.",)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> None:
    """Write the checkpoint into `folder`; the last one becomes the previous one.

    Raises:
        SmidgenError: it cannot be written; the last one is still there.
    """
    header = {"checkpoint": json.dumps(to_plain(checkpoint), allow_nan=False)}
    body = pack_tensors(tensors, header)
    write_atomic(
        folder / CHECKPOINT,
        _HEAD + sha256_of(body).encode() + b"\n" + body,
        previous=folder / PREVIOUS,
    )


def load_checkpoint(folder: Path) -> tuple[Checkpoint, dict[str, Tensor], str | None]:
    """The last checkpoint in `folder`, or the previous one if the last is missing or damaged.

    The third value says what is wrong with the last one, in a sentence, if the previous is used.

    Raises:
        CheckpointError: there is no intact checkpoint.
    """
    failures = []
    for name in (CHECKPOINT, PREVIOUS):
        path = folder / name
        try:
            checkpoint, tensors = decode_checkpoint(path.read_bytes())
        except FileNotFoundError:
            continue
        except OSError as error:
            failures.append(f"{path} cannot be read: {error.strerror}.")
        except CheckpointError as error:
            failures.append(f"{path} {error}")
        else:
            return checkpoint, tensors, failures[0] if failures else None
    if failures:
        raise CheckpointError(" ".join(failures))
    raise CheckpointError(f"{folder} has no checkpoint to resume from.")


def decode_checkpoint(content: bytes) -> tuple[Checkpoint, dict[str, Tensor]]:
    """The checkpoint in the bytes of a file.

    Raises:
        CheckpointError: they are damaged; the message lacks the file's name.
    """
    head, body = content[:_HEAD_BYTES], content[_HEAD_BYTES:]
    if head != _HEAD + sha256_of(body).encode() + b"\n":
        raise CheckpointError("is damaged: it does not have the SHA-256 that it states.")
    try:
        header = json.loads(unpack_metadata(body)["checkpoint"])
        return from_plain(Checkpoint, header), unpack_tensors(body)
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"is not a checkpoint of this version of smidgen: {error}.") from None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints, which a finished run does not need."""
    for name in (CHECKPOINT, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
