"""A person's images, decoded once and kept as one memory-mapped array in the cache folder.

A folder holds images.npy (train, validation, test, in this order), labels.npy and, written last,
store.json: what it was made from and what has been computed of it. Any doubt about it, and it is
made again.
"""

import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from smidgen._storage.files import write_atomic
from smidgen._storage.serialization import from_plain, to_plain
from smidgen.data.datasets import channel_statistics
from smidgen.data.images import Shape
from smidgen.errors import DataError, SmidgenError

_IMAGES, _LABELS, _STORE = "images.npy", "labels.npy", "store.json"
_STRAY_SECONDS = 86_400.0  # a temporary file older than that is nobody's any more
_SHOWN = 20  # skipped pictures that are listed by name
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A data set that is about to be stored."""

    classes: tuple[str, ...]
    shape: Shape
    names: Sequence[str]
    """Of the images, as a message calls them: train, validation, test, in this order."""
    labels: NDArray[np.int64]
    num_train: int
    num_validation: int
    rows: Callable[[], Iterator[Sequence[NDArray[np.uint8] | DataError]]]
    """The images in the names' order, in batches; an error stands for one that is unreadable."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What store.json says."""

    listing: str
    """Digest of the names, sizes and times of what it was made from."""
    classes: tuple[str, ...]
    num_train: int
    num_validation: int
    num_test: int
    image_shape: tuple[int, int, int]
    sha256: str
    """Of images and labels, as smidgen.data.Dataset defines it."""
    labels_sha256: str
    images_bytes: int
    images_mtime_ns: int
    """Of images.npy: a file that was touched since is not believed."""
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = field(default=())
    """Why each picture that could not be read is not in it."""


def stored(folder: Path, listing: str, draft: Callable[[], Draft], *, skip_bad: bool) -> Stored:
    """What `folder` holds of `listing`, written from `draft` if need be.

    Of several processes that start on one data set, the first decodes and the others wait for it.

    Raises:
        DataError: as write_stored.
    """
    found = read_stored(folder, listing)
    if found is None:
        drafted = draft()
        with _alone(folder):
            found = read_stored(folder, listing)
            if found is None:
                found = write_stored(folder, listing, drafted, skip_bad=skip_bad)
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; where the system knows none, two may do the same work."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("wb")
    except OSError as error:
        raise _unwritable(folder, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"{folder} cannot be written to: {error.strerror or error}. XDG_CACHE_HOME can name "
        "another place for the cache."
    )


def read_stored(folder: Path, listing: str) -> Stored | None:
    """What is stored in `folder`, if it was made from `listing` and is whole."""
    found = read_json(folder / _STORE, Stored)
    if found is None or found.listing != listing:
        return None
    try:
        status = (folder / _IMAGES).stat()
        if (status.st_size, status.st_mtime_ns) != (found.images_bytes, found.images_mtime_ns):
            return None
        open_stored(folder, found)
    except (OSError, ValueError, EOFError):
        return None
    return found


def open_stored(folder: Path, found: Stored) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of all parts; the images are read from the disk as they are needed.

    Raises:
        OSError, ValueError, EOFError: the files are not those that `found` tells of.
    """
    # Copy on write: torch wants memory that may be written to, and the file stays as it is.
    images = np.load(folder / _IMAGES, mmap_mode="c", allow_pickle=False)
    labels = np.load(folder / _LABELS, allow_pickle=False)
    count = found.num_train + found.num_validation + found.num_test
    if images.shape != (count, *found.image_shape) or images.dtype != np.uint8:
        raise ValueError("images.npy has another shape")
    if labels.dtype != np.int64 or _sha256(labels) != found.labels_sha256:
        raise ValueError("labels.npy has other labels")
    return torch.from_numpy(images), torch.from_numpy(labels)


def write_stored(folder: Path, listing: str, draft: Draft, *, skip_bad: bool) -> Stored:
    """Decode what `draft` names into `folder`.

    Raises:
        DataError: an unreadable picture, unless they are to be skipped; a class of which nothing
            readable remains to train on; the folder cannot be written to.
    """
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".images-", suffix=".npy")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as out:
            written = _write_images(out, draft, skip_bad)
        settled = _settled(folder, temporary, listing, draft, written)
        write_atomic(folder / _STORE, json.dumps(to_plain(settled), indent=1) + "\n")
        return settled
    except OSError as error:
        raise _unwritable(folder, error) from error
    except DataError:
        raise
    except SmidgenError as error:
        raise DataError(str(error)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def statistics(
    folder: Path, found: Stored, images: torch.Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by channel of `images`, the first of the stored ones.

    They are computed once for each number of images, and kept.
    """
    path = folder / f"statistics-{len(images)}.json"
    known = read_json(path, _Statistics)
    if known is None or known.sha256 != found.sha256:
        mean, std = channel_statistics(images)
        known = _Statistics(sha256=found.sha256, mean=mean, std=std)
        write_atomic(path, json.dumps(to_plain(known)) + "\n")
    return known.mean, known.std


@dataclass(frozen=True, kw_only=True, slots=True)
class _Statistics:
    sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_json(path: Path, kind: type[T]) -> T | None:
    """The `kind` that the file at `path` holds; None if it is not there or damaged."""
    try:
        return from_plain(kind, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


@dataclass(slots=True)
class _Written:
    """What is known once all images have been decoded."""

    kept: list[int]
    skipped: list[str]
    sha256: str
    twins: int
    twin: tuple[str, str] | None


def _write_images(out: BinaryIO, draft: Draft, skip_bad: bool) -> _Written:
    """Plain writes, not a map: a full disk is then an error and no crash."""
    total = draft.num_train + draft.num_validation
    _write_header(out, len(draft.names), draft.shape)
    begin = out.tell()
    whole, place = hashlib.sha256(), 0
    found = _Written(kept=[], skipped=[], sha256="", twins=0, twin=None)
    seen: dict[bytes, int] = {}
    for batch in draft.rows():
        for row in batch:
            if place == total:  # images and labels of training come before those of the test
                whole.update(draft.labels[found.kept].tobytes())
                num_train = len(found.kept)
            if isinstance(row, DataError):
                if not skip_bad:
                    raise row
                found.skipped.append(str(row))
            else:
                content = row.tobytes()
                out.write(content)
                whole.update(content)
                digest = hashlib.blake2b(content, digest_size=16).digest()
                if place < total:
                    seen.setdefault(digest, place)
                elif digest in seen:
                    found.twins += 1
                    found.twin = found.twin or (draft.names[place], draft.names[seen[digest]])
                found.kept.append(place)
            place += 1
    whole.update(draft.labels[found.kept[num_train:]].tobytes())
    found.sha256 = whole.hexdigest()
    out.seek(0)
    _write_header(out, len(found.kept), draft.shape)
    assert out.tell() == begin  # numpy pads the header so that the number of images may change
    out.flush()
    os.fsync(out.fileno())
    return found


def _settled(
    folder: Path, temporary: Path, listing: str, draft: Draft, written: _Written
) -> Stored:
    """Put the images and labels in their places; what store.json is to say of them."""
    total = draft.num_train + draft.num_validation
    kept = np.array(written.kept, np.int64)
    labels = draft.labels[kept]
    num_train, num_learnt = int((kept < draft.num_train).sum()), int((kept < total).sum())
    empty = set(range(len(draft.classes))) - set(labels[:num_learnt].tolist())
    if empty or num_learnt == len(kept):
        what = draft.classes[min(empty)] if empty else "the test part"
        reason = f": {written.skipped[0]}" if written.skipped else "."
        raise DataError(f"no picture of {what} is left{reason}")
    saved = io.BytesIO()
    np.save(saved, labels)
    (folder / _STORE).unlink(missing_ok=True)  # from here to its writing there is nothing stored
    temporary.replace(folder / _IMAGES)
    write_atomic(folder / _LABELS, saved.getvalue())
    status = (folder / _IMAGES).stat()
    return Stored(
        listing=listing,
        classes=draft.classes,
        num_train=num_train,
        num_validation=num_learnt - num_train,
        num_test=len(kept) - num_learnt,
        image_shape=draft.shape,
        sha256=written.sha256,
        labels_sha256=_sha256(labels),
        images_bytes=status.st_size,
        images_mtime_ns=status.st_mtime_ns,
        notes=(*draft.notes, *_notes(written)),
        skipped=tuple(written.skipped),
    )


def _notes(written: _Written) -> list[str]:
    notes = []
    if written.skipped:
        more = len(written.skipped) - _SHOWN
        rest = f" And {more:,} more." if more > 0 else ""
        listed = " ".join(written.skipped[:_SHOWN])
        notes.append(f"{len(written.skipped):,} pictures were skipped. {listed}{rest}")
    if written.twin is not None:
        other, first = written.twin
        notes.append(
            f"{written.twins:,} test image{'s are' if written.twins > 1 else ' is'} among the "
            f"training images too, as {other}, which shows the same as {first}: the test score is "
            "too good by what was learnt of them."
        )
    return notes


def _write_header(out: BinaryIO, count: int, shape: Shape) -> None:
    npy.write_array_header_1_0(
        out, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    )


def _sha256(labels: NDArray[np.int64]) -> str:
    return hashlib.sha256(labels.tobytes()).hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed here has left behind."""
    for stray in folder.glob(".images-*"):
        if time.time() - stray.stat().st_mtime > _STRAY_SECONDS:
            stray.unlink(missing_ok=True)
