import gzip
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smidgen._storage import cache as cache_module
from smidgen.data.datasets import RawDataset
from smidgen.data.named import files as module
from smidgen.data.named.catalog import CATALOG, MNIST
from smidgen.data.named.download import RemoteFile
from smidgen.data.named.files import DatasetFile, load_named, verify
from smidgen.errors import DataError


def as_idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


# Seven and three images of 3 x 2 pixels, in files of MNIST's names.
ARRAYS = {
    "train-images-idx3-ubyte": np.arange(42, dtype=np.uint8).reshape(7, 3, 2),
    "train-labels-idx1-ubyte": np.arange(7, dtype=np.uint8),
    "t10k-images-idx3-ubyte": np.arange(100, 118, dtype=np.uint8).reshape(3, 3, 2),
    "t10k-labels-idx1-ubyte": np.array([9, 8, 7], dtype=np.uint8),
}
CONTENTS = {name: as_idx(array) for name, array in ARRAYS.items()}
PACKED = {name: gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}
FILES = tuple(
    DatasetFile(
        RemoteFile(f"{name}.gz", len(PACKED[name]), hashlib.sha256(PACKED[name]).hexdigest()),
        unpacked_sha256=hashlib.sha256(content).hexdigest(),
    )
    for name, content in CONTENTS.items()
)
SMALL = replace(MNIST, files=FILES, mirrors=("https://mirror.invalid/",))
IMAGES = "train-images-idx3-ubyte"


def fill(folder: Path, names: Sequence[str] = tuple(CONTENTS), packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if packed:
            (folder / f"{name}.gz").write_bytes(PACKED[name])
        else:
            (folder / name).write_bytes(CONTENTS[name])
    return folder


def load(folder: Path | None = None) -> RawDataset:
    return load_named(SMALL, folder, 1.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which does not exist yet; downloading fails the test."""

    def refuse(*args: object, **kwargs: object) -> tuple[str, ...]:
        pytest.fail("this must not download")

    monkeypatch.delenv("SMIDGEN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "download", refuse)
    return tmp_path / "cache" / "smidgen" / "mnist"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("inner", ["", "mnist", "MNIST/raw"])
def test_files_are_found_and_read(tmp_path: Path, inner: str, packed: bool) -> None:
    place = fill(tmp_path / inner, packed=packed)
    raw = load(tmp_path)
    assert raw.source == f"the folder {place.name}"
    for split, kind in ((raw.train, "train"), (raw.test, "t10k")):
        images = torch.from_numpy(ARRAYS[f"{kind}-images-idx3-ubyte"]).unsqueeze(1)
        assert torch.equal(split.images, images)
        assert split.labels.tolist() == ARRAYS[f"{kind}-labels-idx1-ubyte"].tolist()


def test_packed_and_unpacked_files_mix(tmp_path: Path) -> None:
    fill(tmp_path, list(CONTENTS)[:2], packed=True)
    fill(tmp_path, list(CONTENTS)[2:], packed=False)
    assert len(load(tmp_path).train) == 7


def test_a_given_folder_comes_before_the_variable_and_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named = fill(tmp_path / "given"), fill(tmp_path / "named")
    fill(cache)
    assert load().source == f"the folder {cache.name}"
    monkeypatch.setenv("SMIDGEN_DATA", str(named))
    assert load().source == f"the folder {named.name}"
    assert load(given).source == f"the folder {given.name}"
    monkeypatch.setenv("SMIDGEN_DATA", "")
    assert load().source == f"the folder {cache.name}"


@pytest.mark.parametrize("says", ["--data-dir", "SMIDGEN_DATA"])
def test_a_given_folder_without_mnist_is_an_error(
    says: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache)
    for folder, message in (
        (tmp_path, f"{says} is .*, which does not hold MNIST: train-images"),
        (tmp_path / "nothing", f"{says} is .*nothing, which is not a folder"),
    ):
        monkeypatch.setenv("SMIDGEN_DATA", str(folder))
        with pytest.raises(DataError, match=message):
            load(folder if says == "--data-dir" else None)


def test_missing_files_of_a_folder_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "mnist", [IMAGES, "t10k-labels-idx1-ubyte"])
    with pytest.raises(
        DataError,
        match=r"mnist \(--data-dir\) lacks train-labels-idx1-ubyte, t10k-images-idx3-ubyte \(each",
    ):
        load(tmp_path)


def test_files_missing_from_the_cache_are_downloaded(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, [IMAGES])
    asked: list[str] = []

    def fake(
        files: Sequence[RemoteFile], folder: Path, mirrors: Sequence[str], *, timeout: float
    ) -> tuple[str, ...]:
        assert timeout == 1.0
        asked.extend(file.name for file in files)
        fill(folder, [file.name.removesuffix(".gz") for file in files])
        return ("one.example", "two.example")

    monkeypatch.setattr(module, "download", fake)
    assert load().source == "downloaded from one.example and two.example"
    assert asked == [f"{name}.gz" for name in CONTENTS if name != IMAGES]
    assert load().source == f"the folder {cache.name}"
    assert len(asked) == 3


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_the_cache_is_in_the_home_folder_unless_said_otherwise(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_module.cache_folder("mnist") == tmp_path / ".cache" / "smidgen" / "mnist"


def test_without_a_home_folder_advice_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(DataError, match=r"no home folder .*--data-dir"):
        load()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("change", ["altered", "cut", "empty", "larger"])
def test_a_damaged_file_is_named_with_both_digests(
    tmp_path: Path, packed: bool, change: str
) -> None:
    fill(tmp_path, packed=packed)
    good = PACKED[IMAGES] if packed else CONTENTS[IMAGES]
    bad = {
        "altered": good[:-1] + bytes([good[-1] ^ 1]),
        "cut": good[:-9],
        "empty": b"",
        "larger": good + bytes(10**6),
    }[change]
    path = tmp_path / (f"{IMAGES}.gz" if packed else IMAGES)
    path.write_bytes(bad)
    expected, found = (hashlib.sha256(content).hexdigest() for content in (good, bad))
    with pytest.raises(
        DataError,
        match=rf"{path} is damaged or not a file of MNIST: .* is {found} instead of {expected}\. "
        rf"Delete it and download it again, for example from .*/{IMAGES}\.gz\.$",
    ):
        load(tmp_path)


def test_an_unpacked_file_is_preferred(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / IMAGES).write_bytes(PACKED[IMAGES])
    with pytest.raises(DataError, match=f"{IMAGES} is damaged or not a file of MNIST"):
        load(tmp_path)


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    real = Path.open

    def refuse(self: Path, mode: str = "r") -> object:
        if self.name.startswith("t10k"):
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, mode)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz cannot be read: Permission"):
        load(tmp_path)


@pytest.mark.parametrize("name", [name for name in CATALOG if CATALOG[name].files])
def test_the_catalog_is_complete(name: str) -> None:
    entry = CATALOG[name]
    assert entry.name == name
    assert len(set(entry.classes)) == len(entry.classes) == entry.info.num_classes
    assert entry.mirrors
    assert 0 < entry.default_validation < entry.num_train
    for mirror in entry.mirrors:
        assert mirror.startswith(("https://", "http://"))
        assert mirror.endswith("/")
    for file in entry.files:
        assert len(bytes.fromhex(file.remote.sha256)) == 32
        assert file.remote.num_bytes > 0
        assert bool(file.members) == file.remote.name.endswith((".zip", ".tar.gz"))


def test_files_are_verified_one_by_one(tmp_path: Path, cache: Path) -> None:
    assert list(verify(SMALL, fill(tmp_path)).values()) == [None] * 4
    (tmp_path / f"{IMAGES}.gz").write_bytes(PACKED[IMAGES][:-1] + b"!")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    problems = list(verify(SMALL, tmp_path).values())
    assert "damaged" in (problems[0] or "")
    assert problems[1:3] == [None, None]
    assert "damaged or not a file of MNIST" in (problems[3] or "")
    fill(cache, [IMAGES])
    first, *others = verify(SMALL, None).values()
    assert first is None
    for problem in others:
        assert "is missing; run smidgen data get mnist" in (problem or "")


def test_the_available_files_are_those_of_the_catalog(mnist_folder: Path) -> None:
    for file in MNIST.files:
        path = file.path_in(mnist_folder)
        if path is None or path.suffix != ".gz":
            pytest.skip("MNIST is at hand, but not as the mirrors serve it")
        content = path.read_bytes()
        assert len(content) == file.remote.num_bytes
        assert hashlib.sha256(content).hexdigest() == file.remote.sha256
