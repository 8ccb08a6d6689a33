import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from custom_sets import (
    FORMATS,
    class_folder,
    csv,
    folder_with_validation,
    image_folder,
    npz,
    pixels,
    save,
    split_folder,
)
from PIL import Image

from smidgen.config import Augment, Data, TrainTestSplit
from smidgen.data import Dataset, TrainLoader, load, open_dataset
from smidgen.data import images as images_module
from smidgen.data.custom import cache as cache_module
from smidgen.data.datasets import channel_statistics
from smidgen.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def content(dataset: Dataset) -> list[Any]:
    return [
        dataset.sha256,
        dataset.mean,
        dataset.std,
        dataset.classes,
        dataset.notes,
        *(split.images.numpy().tobytes() for split in dataset.splits.values()),
        *(split.labels.tolist() for split in dataset.splits.values()),
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_loads_and_is_cached(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, counts, shape = FORMATS[name]
    data = Data(path=str(make(folder)))
    source = open_dataset(data)
    dataset = source.load()
    assert source.info == dataset.info == open_dataset(data).info
    assert dataset.image_shape == shape
    assert len(dataset.classes) == 3
    assert dataset.validation is not None
    assert tuple(map(len, dataset.splits.values())) == counts
    for split in dataset.splits.values():  # each holds each class's share
        shares = split.labels.bincount(minlength=3)
        assert shares.max() - shares.min() <= 1
    assert dataset.classes == (
        ("cat", "dog", "elk") if name.startswith("folder") else ("0", "1", "2")
    )
    assert dataset.notes == ()

    fit = torch.cat([dataset.train.images, dataset.validation.images])
    digest = hashlib.sha256()
    for tensor in (
        fit,
        torch.cat([dataset.train.labels, dataset.validation.labels]),
        dataset.test.images,
        dataset.test.labels,
    ):
        digest.update(tensor.numpy().tobytes())
    assert dataset.sha256 == digest.hexdigest()
    assert (dataset.mean, dataset.std) == channel_statistics(dataset.train.images)

    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail("the second start must not decode anything")

    monkeypatch.setattr(images_module, "_open", refuse)
    monkeypatch.setattr("smidgen.data.custom.arrays.read_arrays", refuse)
    start = time.perf_counter()
    again = load(data)
    assert time.perf_counter() - start < 1
    assert content(again) == content(dataset)
    everything = load(Data(path=data.path, validation=0))
    assert everything.sha256 == dataset.sha256
    assert torch.equal(everything.train.images, fit)


def test_pixels_and_labels_match_the_files(folder: Path) -> None:
    dataset = load(Data(path=str(folder_with_validation(folder))))
    for split, name in (
        (dataset.train, "train"),
        (dataset.validation, "val"),
        (dataset.test, "test"),
    ):
        assert split is not None
        expected = set()
        for label, animal in enumerate(dataset.classes):
            for file in (folder / "pets" / name / animal).iterdir():
                array = np.asarray(Image.open(file)).transpose(2, 0, 1)
                expected.add((array.tobytes(), label))
        found = {
            (image.numpy().tobytes(), int(label))
            for image, label in zip(split.images, split.labels, strict=True)
        }
        assert found == expected


def test_images_and_labels_of_arrays_stay_paired(folder: Path) -> None:
    path = npz(folder)
    dataset = load(Data(path=str(path), validation=0))
    raw = np.load(path)
    pairs = {
        (image.tobytes(), int(label))
        for image, label in zip(raw["x_train"], raw["y_train"], strict=True)
    }
    found = {
        (np.ascontiguousarray(image.numpy().transpose(1, 2, 0)).tobytes(), int(label))
        for image, label in zip(dataset.train.images, dataset.train.labels, strict=True)
    }
    assert found == pairs
    assert np.array_equal(dataset.test.images.numpy(), raw["x_test"].transpose(0, 3, 1, 2))


def test_size_and_color_are_as_given_or_the_most_common(folder: Path) -> None:
    path = split_folder(folder)
    for place in range(20):
        save(path / "train" / "cat" / f"large-{place}.jpg", pixels(1, 40, 30, seed=place)[0])
    save(path / "train" / "dog" / "red.png", pixels(1, 9, 7, 3)[0])
    for data, shape in (
        (Data(path=str(path)), (3, 9, 7)),
        (Data(path=str(path), grayscale=True), (1, 9, 7)),
        (Data(path=str(path), size=5), (3, 5, 5)),
        (Data(path=str(path), size=12, grayscale=True), (1, 12, 12)),
    ):
        assert open_dataset(data).info.image_shape == shape
        assert load(data).image_shape == shape
    for data, shape in (
        (Data(path=str(npz(folder)), size=5, grayscale=True), (1, 5, 5)),
        (Data(path=str(csv(folder)), size=6, grayscale=False), (3, 6, 6)),
    ):
        assert open_dataset(data).info.image_shape == load(data).image_shape == shape


def test_the_split_follows_from_the_seed(folder: Path) -> None:
    path = str(class_folder(folder))
    first, other = (load(Data(path=path, split=TrainTestSplit(seed=seed))) for seed in (0, 1))
    assert first.sha256 != other.sha256
    even = load(Data(path=path, split=TrainTestSplit(test=0.5), validation=1))
    assert (len(even.train), len(even.test)) == (20, 21)
    moved = folder / "elsewhere"
    (folder / "pets").rename(moved)
    assert load(Data(path=str(moved))).sha256 == first.sha256


def test_changed_files_are_noticed(folder: Path) -> None:
    path = split_folder(folder)
    data = Data(path=str(path))
    before = load(data)
    save(path / "train" / "elk" / "new.png", pixels(1, 9, 7, seed=9)[0])
    assert len(load(data).train) + 1 == len(before.train) + 2
    image = path / "test" / "elk" / "002.png"
    save(image, pixels(1, 9, 7, seed=10)[0])
    os.utime(image, ns=(1, 1))
    assert load(data).sha256 != before.sha256


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "dataset.json"])
@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_cache_is_made_again(name: str, damage: str, folder: Path, cache: Path) -> None:
    data = Data(path=str(split_folder(folder)))
    before = content(load(data))
    (file,) = cache.rglob(name)
    if damage == "gone":
        file.unlink()
    else:
        raw = file.read_bytes()
        file.write_bytes(raw[:-3] if damage == "cut" else raw[:-3] + b"?" + raw[-2:])
        os.utime(file, ns=(5, 5))
    assert content(load(data)) == before


def test_partial_files_of_a_killed_process_are_removed(folder: Path, cache: Path) -> None:
    data = Data(path=str(split_folder(folder)))
    load(data)
    place = next(cache.rglob("dataset.json"))
    partial = place.parent / ".images.npy.1234.part"
    partial.write_bytes(b"cut off")
    place.unlink()
    load(data)
    assert not partial.exists()


def test_the_images_are_mapped_copy_on_write(folder: Path) -> None:
    dataset = load(Data(path=str(split_folder(folder))))
    # A change in memory does not reach the file.
    dataset.train.images[0] = 0
    assert load(Data(path=str(folder / "pets"))).train.images[0].max() > 0
    batches = TrainLoader(
        split=dataset.train,
        batch_size=8,
        augment=Augment(rotate=5),
        mean=dataset.mean,
        std=dataset.std,
        seed=0,
    )
    assert sum(len(labels) for _, labels in batches.epoch(1)) == len(dataset.train)


def test_of_several_processes_one_decodes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(path=str(split_folder(folder)), size=8, grayscale=True)
    real, calls = cache_module._write, []

    def counted(*args: Any) -> cache_module.CachedDataset:
        calls.append(args)
        time.sleep(0.1)
        return real(*args)

    monkeypatch.setattr(cache_module, "_write", counted)
    with ThreadPoolExecutor(3) as pool:
        digests = {dataset.sha256 for dataset in pool.map(load, [data] * 3)}
    assert len(digests) == len(calls) == 1


def test_a_full_disk_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "_write_images", full)
    with pytest.raises(DataError, match=r"cannot be written to: No space left.* XDG_CACHE_HOME"):
        load(Data(path=str(split_folder(folder))))
    assert list(cache.rglob(".images*")) == []


def test_duplicates_in_train_and_test_are_noted(folder: Path) -> None:
    path = split_folder(folder)
    for number, name in enumerate(("cat", "dog")):
        array = np.asarray(Image.open(path / "train" / name / f"00{number}.png"))
        save(path / "test" / name / "copy.bmp", array)  # the same pixels in another file
    (note,) = load(path).notes
    assert note.startswith("2 test images are among the training images too, such as test/cat/")
    assert "train/cat/000.png" in note


def test_other_files_are_ignored_and_noted(folder: Path) -> None:
    path = split_folder(folder)
    (path / "train" / "cat" / "Thumbs.db").write_bytes(b"x")
    (path / "train" / "cat" / ".hidden.png").write_bytes(b"x")
    (path / "read-me.txt").write_text("pets")
    assert load(path).notes == ("Ignored 1 other file, such as train/cat/Thumbs.db.",)


def bad_images(path: Path) -> list[Path]:
    """A text file, a truncated PNG, an empty file and a truncated JPEG among training images."""
    text, png, empty, jpeg = (
        path / "train" / "cat" / name for name in ("0.png", "1.png", "2.gif", "3.jpg")
    )
    text.write_text("not an image")
    good = (path / "train" / "cat" / "000.png").read_bytes()
    png.write_bytes(good[:60])
    empty.write_bytes(b"")
    save(jpeg, pixels(1, 9, 7)[0])
    jpeg.write_bytes(jpeg.read_bytes()[:-40])
    return [text, png, empty, jpeg]


def test_an_unreadable_image_is_named_or_skipped(folder: Path) -> None:
    path = split_folder(folder)
    data = Data(path=str(path))
    bad = bad_images(path)
    assert open_dataset(data).info.image_shape == (1, 9, 7)
    with pytest.raises(DataError, match=r"cat/\d\.(png|gif|jpg) is (not an image|damaged)"):
        load(data)
    dataset = load(data, skip_bad=True)
    assert len(dataset.train) == 25
    (note,) = dataset.notes
    assert note.startswith("4 images were skipped. ")
    for file in bad:
        assert file.relative_to(path).as_posix() in note
    with pytest.raises(DataError, match=r"cat/\d\.(png|gif|jpg) is (not an image|damaged)"):
        load(data)  # the cache holds the data set without them
    assert load(data, skip_bad=True).sha256 == dataset.sha256


def test_a_class_without_readable_images_is_refused(folder: Path) -> None:
    path = split_folder(folder)
    for file in (path / "train" / "dog").iterdir():
        file.write_bytes(b"no")
    with pytest.raises(DataError, match=r"no readable image of dog is left: .*is not an image"):
        load(Data(path=str(path)), skip_bad=True)


def remove_class(path: Path) -> None:
    for file in (path / "train" / "dog").iterdir():
        file.unlink()


def leave_one_class(path: Path) -> None:
    for split in ("train", "test"):
        for name in ("dog", "elk"):
            (path / split / name).rename(path.parent / f"{split}-{name}")


def link_out(path: Path) -> None:
    outside = path.parent / "secret.png"
    save(outside, pixels(1, 9, 7)[0])
    (path / "train" / "cat" / "link.png").symlink_to(outside)


def link_class_out(path: Path) -> None:
    (path / "train" / "cat").rename(path.parent / "cat")
    (path / "train" / "cat").symlink_to(path.parent / "cat")


def bomb(path: Path) -> None:
    Image.new("1", (8000, 7000)).save(path / "train" / "cat" / "bomb.png")


def huge_bomb(path: Path) -> None:
    raw = bytearray((path / "train" / "cat" / "000.png").read_bytes())
    raw[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    (path / "train" / "cat" / "bomb.png").write_bytes(raw)


REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (remove_class, r"train/dog has no image"),
    (leave_one_class, r"has only the class cat; .*two classes"),
    (lambda path: (path / "test" / "elk").rename(path / "test" / "emu"), "differ in their classes"),
    (lambda path: (path / "train" / "cat" / "more").mkdir(), "cat/more is a folder inside a class"),
    (link_out, r"cat/link\.png is a link that leaves"),
    (link_class_out, r"train/cat is a link that leaves"),
    (bomb, r"bomb\.png has 8000x7000 pixels; at most 50,000,000"),
    (huge_bomb, r"bomb\.png cannot be read: .*decompression bomb"),
    (lambda path: (path / "train").rename(path / "training"), "has test, but no train"),
]


@pytest.mark.parametrize(("damage_folder", "message"), REFUSED)
def test_an_invalid_folder_is_refused(
    damage_folder: Callable[[Path], object], message: str, folder: Path
) -> None:
    path = split_folder(folder)
    damage_folder(path)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    path = split_folder(folder)
    (path / "train" / "cat" / "again.png").symlink_to(path / "train" / "cat" / "000.png")
    dataset = load(Data(path=str(path), validation=0))
    assert len(dataset.train) == 31


def test_other_paths_are_answered_with_the_formats(folder: Path) -> None:
    with pytest.raises(DataError, match=r"data\.path is .*nowhere, which does not exist"):
        load(Data(path=str(folder / "nowhere")))
    with pytest.raises(DataError, match="has no class; a data set must have a folder of images"):
        load(Data(path=str(folder)))
    (folder / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"a file must be an \.npz or a \.csv"):
        load(Data(path=str(folder / "a.txt")))
    with pytest.raises(DataError, match=r"a file must be an \.npz or a \.csv"):
        open_dataset(folder / "a.txt")


def test_one_image_of_each_class_cannot_be_split(folder: Path) -> None:
    image_folder(folder / "pets", {"": 3}, 4, 4)
    with pytest.raises(DataError, match="pets: each class has only one image, so none is left"):
        load(Data(path=str(folder / "pets")))


def test_progress_shows_on_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("smidgen._storage.progress._FEW", 1)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    load(Data(path=str(split_folder(folder))))
    shown = capsys.readouterr().err
    assert "reading headers" in shown
    assert "decoding images" in shown
    assert "42/42" in shown
