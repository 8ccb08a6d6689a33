"""Each named data set from generated files of its format: found, read and downloaded."""

import gzip
import hashlib
import http.server
import io
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from smidgen.config import Data
from smidgen.data import load, open_dataset, qmnist_extra
from smidgen.data.named.catalog import CATALOG
from smidgen.data.named.decode import emnist_files
from smidgen.data.named.download import RemoteFile
from smidgen.data.named.files import CatalogEntry, DatasetFile, load_named
from smidgen.errors import DataError, UnavailableError

GENERATOR = np.random.default_rng(0)
TRAIN, TEST = 30, 12


def idx(array: NDArray[np.uint8] | NDArray[np.int32]) -> bytes:
    kind = 8 if array.dtype == np.uint8 else 0x0C
    big = array.astype(array.dtype.newbyteorder(">"))
    return (
        bytes([0, 0, kind, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + big.tobytes()
    )


def pixels(count: int, *shape: int) -> NDArray[np.uint8]:
    return GENERATOR.integers(0, 256, (count, *shape), np.uint8)


def gzipped(entry: CatalogEntry, contents: list[bytes]) -> tuple[CatalogEntry, dict[str, bytes]]:
    """The entry with files that hold `contents`, and what a mirror serves."""
    files, served = [], {}
    for file, content in zip(entry.files, contents, strict=True):
        packed = gzip.compress(content, mtime=0)
        served[file.remote.name] = packed
        digest = hashlib.sha256(content).hexdigest() if file.unpacked_sha256 else None
        remote = RemoteFile(file.remote.name, len(packed), hashlib.sha256(packed).hexdigest())
        files.append(DatasetFile(remote, unpacked_sha256=digest))
    return replace(entry, files=tuple(files)), served


def archived(
    entry: CatalogEntry, members: dict[str, bytes]
) -> tuple[CatalogEntry, dict[str, bytes]]:
    (file,) = entry.files
    assert list(file.members) == list(members)
    buffer = io.BytesIO()
    if file.remote.name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    packed = buffer.getvalue()
    remote = RemoteFile(file.remote.name, len(packed), hashlib.sha256(packed).hexdigest())
    return replace(entry, files=(DatasetFile(remote, file.members),)), {remote.name: packed}


Made = tuple[CatalogEntry, dict[str, bytes], NDArray[np.uint8], list[int]]
"""The entry, what mirrors serve, its test images (n, channels, height, width) and test labels."""


def made(name: str) -> Made:
    entry = CATALOG[name]
    classes = len(entry.classes)
    labels, test_labels = (np.arange(count, dtype=np.uint8) % classes for count in (TRAIN, TEST))
    if name.startswith("cifar"):
        (file,) = entry.files
        test = pixels(TEST, 3, 32, 32)
        members = {}
        for member in file.members:
            is_test = "test" in member
            images = test if is_test else pixels(TRAIN, 3, 32, 32)
            column = (test_labels if is_test else labels)[:, None]
            coarse = [np.full_like(column, 200)] if name == "cifar-100" else []
            flat = images.reshape(len(images), -1)
            members[member] = np.concatenate([*coarse, column, flat], 1).tobytes()
        return *archived(entry, members), test, test_labels.tolist()
    images, test = pixels(TRAIN, 28, 28), pixels(TEST, 28, 28)
    if name.startswith("emnist"):
        kind = name.removeprefix("emnist-")
        first = np.uint8(kind == "letters")
        arrays = [
            a.transpose(0, 2, 1) if a.ndim == 3 else a + first
            for a in (images, labels, test, test_labels)
        ]
        packed = [gzip.compress(idx(array)) for array in arrays]
        members = dict(zip(emnist_files(kind), packed, strict=True))
        return *archived(entry, members), test[:, None], test_labels.tolist()
    contents = [idx(array) for array in (images, labels, test, test_labels)]
    if name == "qmnist":
        test = pixels(10_003, 28, 28)
        test_labels = (np.arange(10_003) % 10).astype(np.uint8)
        columns = [
            np.stack([c] + [c * 0 + 99] * 7, 1).astype(np.int32) for c in (labels, test_labels)
        ]
        contents = [idx(images), idx(columns[0]), idx(test), idx(columns[1])]
        return *gzipped(entry, contents), test[:10_000, None], test_labels[:10_000].tolist()
    return *gzipped(entry, contents), test[:, None], test_labels.tolist()


class Handler(http.server.BaseHTTPRequestHandler):
    server: "Mirror"

    def do_GET(self) -> None:
        _, behavior, name = self.path.split("/")
        self.server.asked.append((behavior, name, self.headers.get("Range")))
        content = self.server.served[name]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response({"missing": 404}.get(behavior, 206 if start else 200))
        self.send_header("Content-Type", "text/html" if behavior == "page" else "application/gzip")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if behavior == "altered":
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.wfile.write(content[start : len(content) // 2 if behavior == "broken" else None])

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class Mirror(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.served: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    def addresses(self, *behaviors: str) -> tuple[str, ...]:
        return tuple(f"http://127.0.0.1:{self.server_address[1]}/{name}/" for name in behaviors)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("SMIDGEN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", [name for name in CATALOG if CATALOG[name].files])
def test_a_data_set_is_downloaded_and_read(
    name: str, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry, mirror.served, images, labels = made(name)
    entry = replace(entry, mirrors=mirror.addresses("page", "good"))
    monkeypatch.setitem(CATALOG, name, entry)
    data = Data(name=name, validation=5)
    dataset = load(data)
    assert dataset.source.startswith("downloaded from 127.0.0.1:")
    assert np.array_equal(dataset.test.images.numpy(), images)
    assert dataset.test.labels.tolist() == labels
    assert dataset.info == open_dataset(data).info
    assert dataset.validation is not None
    assert len(dataset.validation) == 5
    mirror.asked.clear()
    again = load(data)
    assert again.source == f"the folder {entry.folders[0]}"
    assert again.sha256 == dataset.sha256
    assert mirror.asked == []


ARCHIVES = ["emnist-letters", "cifar-10", "kmnist"]


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_broken_transfer_is_resumed(
    name: str, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, mirror.served, *_ = made(name)
    entry = replace(entry, mirrors=mirror.addresses("broken", "good"))
    load_named(entry, None, 5.0)
    first = entry.files[0].remote
    assert mirror.asked[:2] == [
        ("broken", first.name, None),
        ("good", first.name, f"bytes={first.num_bytes // 2}-"),
    ]


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        ("altered", "sends something else: SHA-256"),
        ("missing", "HTTP 404"),
        ("page", "a web page instead of the file"),
    ],
)
@pytest.mark.parametrize("name", ARCHIVES)
def test_other_files_from_a_mirror_are_refused(
    name: str, behavior: str, reason: str, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, mirror.served, *_ = made(name)
    with pytest.raises(UnavailableError, match=reason):
        load_named(replace(entry, mirrors=mirror.addresses(behavior)), None, 5.0)


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_altered_file_is_found_at_the_next_load(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry, served, *_ = made(name)
    for file, content in served.items():
        (tmp_path / file).write_bytes(content)
    load_named(entry, tmp_path, 1.0)
    first = tmp_path / entry.files[0].remote.name
    first.write_bytes(first.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match=f"{first.name} is damaged or not a file of {entry.title}"):
        load_named(entry, tmp_path, 1.0)


def test_unpacked_files_without_a_known_digest_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry, served, *_ = made("kmnist")
    for file, content in served.items():
        (tmp_path / file.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    with pytest.raises(DataError, match=r"does not hold KMNIST: train-images.*\.gz"):
        load_named(entry, tmp_path, 1.0)


def test_qmnist_has_more_test_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry, served, *_ = made("qmnist")
    for file, content in served.items():
        if "test" in file:  # training files are not needed
            (tmp_path / file).write_bytes(content)
    extra = qmnist_extra(data_dir=tmp_path, entry=entry)
    assert extra.labels.tolist() == [0, 1, 2]
    assert extra.images.shape == (3, 1, 28, 28)


def test_the_folder_of_the_data_set_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kmnist, served, *_ = made("kmnist")
    _, others, *_ = made("fashion-mnist")
    for folder, files in ((tmp_path, others), (tmp_path / "kmnist", served)):
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
    assert load_named(kmnist, tmp_path, 1.0).source == "the folder kmnist"
