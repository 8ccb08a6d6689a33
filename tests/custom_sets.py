"""Small custom data sets in every format that can be read."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = 3


def pixels(count: int, *shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def labels(count: int) -> NDArray[np.int64]:
    return np.arange(count) % CLASSES


def save(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def image_folder(
    folder: Path, counts: dict[str, int], *shape: int, suffix: str = "png", seed: int = 0
) -> Path:
    """Images in SPLIT/cat, dog, elk; those of the split "" in the folder itself."""
    for number, (split, count) in enumerate(counts.items()):
        arrays = pixels(count, *shape, seed=seed + number)
        for place, array in enumerate(arrays):
            name = ("cat", "dog", "elk")[place % CLASSES]
            save(folder / split / name / f"{place:03}.{suffix}", array)
    return folder


def idx(array: NDArray[np.uint8]) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def split_folder(folder: Path) -> Path:
    return image_folder(folder / "pets", {"train": 30, "test": 12}, 9, 7)


def folder_with_validation(folder: Path) -> Path:
    counts = {"train": 24, "val": 6, "test": 12}
    return image_folder(folder / "pets", counts, 8, 8, 3)


def class_folder(folder: Path) -> Path:
    return image_folder(folder / "pets", {"": 42}, 8, 6, 3, suffix="jpg")


def npz(folder: Path) -> Path:
    np.savez(
        folder / "pets.npz",
        x_train=pixels(30, 8, 8, 3),
        y_train=labels(30),
        x_test=pixels(12, 8, 8, 3, seed=1),
        y_test=labels(12)[:, None].astype(np.uint8),
    )
    return folder / "pets.npz"


def idx_folder(folder: Path) -> Path:
    for name, content in {
        "train-images-idx3-ubyte": pixels(30, 5, 6),
        "train-labels-idx1-ubyte": labels(30).astype(np.uint8),
        "t10k-images-idx3-ubyte": pixels(12, 5, 6, seed=1),
        "t10k-labels-idx1-ubyte": labels(12).astype(np.uint8),
    }.items():
        if "labels" in name:
            (folder / name).write_bytes(idx(content))
        else:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(content)))
    return folder


def csv(folder: Path) -> Path:
    heading = ["label,", ",".join(f"pixel{i}" for i in range(16))]
    rows = [
        ",".join(str(value) for value in (label, *image))
        for label, image in zip(labels(42), pixels(42, 16), strict=True)
    ]
    (folder / "train.csv").write_text("".join(heading) + "\n" + "\r\n".join(rows) + "\n\n")
    return folder / "train.csv"


def two_csvs(folder: Path) -> Path:
    csv(folder)
    rows = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join(rows[:31]))
    (folder / "test.csv").write_text("\n".join(rows[31:43]))  # no heading
    return folder


FORMATS: dict[str, tuple[Callable[[Path], Path], tuple[int, int, int], tuple[int, int, int]]] = {
    "folder with splits": (split_folder, (25, 5, 12), (1, 9, 7)),
    "folder with validation": (folder_with_validation, (24, 6, 12), (3, 8, 8)),
    "folder of classes": (class_folder, (28, 5, 9), (3, 8, 6)),
    "npz": (npz, (25, 5, 12), (3, 8, 8)),
    "idx": (idx_folder, (25, 5, 12), (1, 5, 6)),
    "csv": (csv, (28, 5, 9), (1, 4, 4)),
    "csvs": (two_csvs, (25, 5, 12), (1, 4, 4)),
}
"""For each format: what writes it into a folder, its sizes of splits, its image shape."""
