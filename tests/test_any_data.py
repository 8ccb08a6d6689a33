"""Every kind of data set gets all that MNIST gets, by the command line alone."""

import gzip
import html
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from smidgen.cli import main
from smidgen.record import RunRecord, read_record

Capture = pytest.CaptureFixture[str]
Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]
NAMES = ("dog & bone", "long-haired cat", "Élan")

TOML = """
[experiment]
name = "any"
[budget]
max_params = 5_000
[model]
chain = "6,s2 8 G"
[data]
{data}
[train]
epochs = 1
batch_size = 16
optimizer = {{ name = "adam", lr = 0.02 }}
schedule = {{ name = "constant" }}
average = {{ name = "none" }}
"""


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder and cache, and reports without plots, which take seconds to draw."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])
    return tmp_path


def noise_images(count: int, *shape: int, seed: int = 0) -> tuple[Pixels, NDArray[np.int64]]:
    """Noise, (count, *shape), as bright as its class, and the classes in turn."""
    labels = np.arange(count) % len(NAMES)
    noise = np.random.default_rng(seed).integers(0, 100, (count, *shape))
    bright = (labels * 70).reshape(-1, *[1] * len(shape))
    return (noise + bright).astype(np.uint8), labels


def folder(counts: dict[str, int], *shape: int, suffix: str = "png") -> str:
    for seed, (split, count) in enumerate(counts.items()):
        images, labels = noise_images(count, *shape, seed=seed)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = Path("pets") / split / NAMES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number:03}.{suffix}")
    return 'path = "pets"'


def npz(*shape: int) -> str:
    splits = {"train": noise_images(36, *shape), "test": noise_images(12, *shape, seed=1)}
    arrays = {f"x_{split}": images for split, (images, _) in splits.items()}
    labels = {f"y_{split}": labels for split, (_, labels) in splits.items()}
    np.savez_compressed("pets.npz", allow_pickle=False, **arrays, **labels)
    return 'path = "pets.npz"'


def idx() -> str:
    Path("pets").mkdir()
    for split, count in (("train", 36), ("t10k", 12)):
        images, labels = noise_images(count, 11, 9, seed=count)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            content = gzip.compress(head + array.tobytes())
            (Path("pets") / f"{split}-{kind}-ubyte.gz").write_bytes(content)
    return 'path = "pets"'


def csv() -> str:
    images, labels = noise_images(48, 64)
    heading = "label," + ",".join(f"pixel{place}" for place in range(64))
    rows = [
        ",".join(map(str, [label, *image])) for image, label in zip(images, labels, strict=True)
    ]
    Path("train.csv").write_text("\n".join([heading, *rows]))
    return 'path = "train.csv"'


FORMATS: dict[str, tuple[Callable[[], str], Shape, tuple[int, int, int], tuple[str, ...]]] = {
    "digits by name": (
        *(lambda: 'name = "digits"', (1, 28, 28), (1137, 300, 360)),
        tuple(map(str, range(10))),
    ),
    "grayscale folder": (
        *(lambda: folder({"train": 36, "test": 12}, 9, 13), (1, 9, 13), (30, 6, 12)),
        NAMES,
    ),
    "color folder with val": (
        *(lambda: folder({"train": 30, "val": 6, "test": 12}, 16, 8, 3), (3, 16, 8), (30, 6, 12)),
        NAMES,
    ),
    "folder of classes, JPEG": (
        *(lambda: folder({"": 45}, 12, 12, 3, suffix="jpg"), (3, 12, 12), (30, 6, 9)),
        NAMES,
    ),
    "folder, resized and grayscale": (
        *(lambda: folder({"": 45}, 20, 14, 3) + "\nsize = 10\ngrayscale = true", (1, 10, 10)),
        *((30, 6, 9), NAMES),
    ),
    "folder, split otherwise": (
        lambda: (
            folder({"": 48}, 10, 10)
            + "\nsplit = { test = 0.5, seed = 3 }\nvalidation = 0\naugment = { rotate = 20 }"
        ),
        *((1, 10, 10), (24, 0, 24), NAMES),
    ),
    "npz, grayscale": (lambda: npz(8, 11), (1, 8, 11), (30, 6, 12), ("0", "1", "2")),
    "npz, color": (lambda: npz(8, 8, 3), (3, 8, 8), (30, 6, 12), ("0", "1", "2")),
    "IDX": (idx, (1, 11, 9), (30, 6, 12), ("0", "1", "2")),
    "CSV": (csv, (1, 8, 8), (33, 6, 9), ("0", "1", "2")),
}
"""What writes each layout and returns its TOML; image shape; sizes of the splits; classes."""


def train(data: str, *flags: str, status: int = 0) -> Path:
    Path("any.toml").write_text(TOML.format(data=data), encoding="utf-8")
    assert main(["train", "any.toml", "--threads", "1", *flags]) == status
    return Path("runs") / "any" / "seed-0"


def record_of(run: Path) -> RunRecord:
    return read_record(run)


def new_images() -> list[str]:
    """A grayscale image, a larger one in color, one with transparency."""
    random = np.random.default_rng(0)
    for name, shape in {"grayscale": (9, 13), "color": (40, 31, 3), "clear": (20, 20, 4)}.items():
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(f"{name}.png")
    return ["grayscale.png", "color.png", "clear.png"]


@pytest.mark.parametrize("layout", FORMATS)
def test_every_format_is_trained_on_checked_and_predicted(layout: str, capsys: Capture) -> None:
    make, shape, counts, classes = FORMATS[layout]
    run = train(make())
    out, err = capsys.readouterr()
    assert err == ""
    assert f"{counts[0]:,} training and {counts[1]:,} validation images" in out
    record = record_of(run)
    found = (record.data.num_train, record.data.num_validation, record.data.num_test)
    assert found == counts
    assert record.data.image_shape == record.profile.input_shape == shape
    assert record.data.classes == classes
    assert len(record.data.mean) == shape[0]

    assert main(["check", str(run)]) == 0
    assert "record: equal to what was counted" in capsys.readouterr().out

    assert main(["predict", str(run), *new_images()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "grayscale.png",
        "color.png",
        "clear.png",
    ]
    for line in lines:
        likely = re.findall(r"(?:: |, )(.+?) (\d+\.\d\d) %", line)
        assert len(likely) == 3
        assert {name for name, _ in likely} <= set(classes)
        assert len(classes) > 3 or sum(float(share) for _, share in likely) == pytest.approx(
            100, abs=0.1
        )

    assert main(["report", str(run)]) == 0
    page = (run / "report.md").read_text(encoding="utf-8")
    assert f"images of {record.data.name}" in page
    confused = [name for name in classes if f"{name} predicted as" in page]
    assert confused or record.test.num_correct == record.test.num_images


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["color folder with val", "IDX"])
def test_the_plots_of_a_report_name_the_classes(
    layout: str, monkeypatch: pytest.MonkeyPatch, away: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(away)
    monkeypatch.setenv("XDG_CACHE_HOME", str(away / "cache"))
    make, _, _, classes = FORMATS[layout]
    page = (train(make()) / "report.html").read_text(encoding="utf-8")
    drawn = re.sub(r"<[^>]*>", "\n", page[page.index("Mistakes") :])
    for name in classes:
        assert drawn.count(name.replace("&", "&amp;")) >= 3  # two axes, and accuracy by class


@pytest.mark.slow
def test_mnist_is_trained_on_checked_and_predicted(mnist_folder: Path, capsys: Capture) -> None:
    where = ("--data-dir", str(mnist_folder))
    run = train('name = "mnist"', *where)
    assert main(["check", str(run), *where]) == 0
    assert main(["predict", str(run), *new_images()]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_predict_agrees_with_the_evaluation_on_test_images(capsys: Capture) -> None:
    run = train(folder({"train": 36, "test": 12}, 9, 13, 3), "--train.epochs", "12")
    capsys.readouterr()
    paths = [path for name in NAMES for path in sorted(Path("pets/test", name).iterdir())]
    assert main(["predict", str(run), *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    correct = [
        path.parent.name in line.partition(": ")[2].split(" %")[0]
        for path, line in zip(paths, lines, strict=True)
    ]
    assert sum(correct) == record_of(run).test.num_correct >= 9


def test_a_note_on_the_data_is_shown_everywhere(capsys: Capture) -> None:
    data = folder({"train": 36, "test": 12}, 9, 9)
    original = next(Path("pets/test", NAMES[0]).iterdir())
    (Path("pets/train") / NAMES[0] / "duplicate.png").write_bytes(original.read_bytes())
    run = train(data)
    [note] = record_of(run).data.notes
    assert note.startswith("1 test image is among the training images too")
    assert f"note: {note}\n" in capsys.readouterr().out
    for page in ("report.md", "report.html"):
        assert note in html.unescape((run / page).read_text(encoding="utf-8"))
    assert main(["check", str(run)]) == 0


def test_an_unreadable_image_is_an_error_or_skipped(capsys: Capture) -> None:
    data = folder({"train": 36, "test": 12}, 9, 9)
    bad = Path("pets/train") / NAMES[1] / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    run = train(data, status=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "bad.png" in err
    assert not run.exists()

    train(data, "--skip-bad")
    out, err = capsys.readouterr()
    assert err == ""
    [note] = [line for line in out.splitlines() if re.match("note: .*skipped", line)]
    assert "bad.png" in note
    record = record_of(run)
    assert (record.data.num_train + record.data.num_validation, record.data.num_test) == (36, 12)
    assert "--skip-bad" in record.command
    assert "bad.png" in (run / "report.md").read_text(encoding="utf-8")

    assert main(["check", str(run)]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert main(["check", str(run), "--skip-bad"]) == 0


def test_user_transforms_run_in_training_only(capsys: Capture) -> None:
    data = folder({"train": 36, "test": 12}, 9, 9, 3)
    module = Path("flips.py")
    module.write_text(
        "from pathlib import Path\n\n"
        "class Flip:\n"
        "    def __call__(self, images):\n"
        "        Path('seen').write_text(f'{tuple(images.shape)} {images.dtype}')\n"
        "        return images.flip(-1)\n"
    )
    run = train(data + '\ntransforms = "flips.py:Flip"')
    shape = r"\(1\d, 3, 9, 9\) torch.uint8"  # 30 images spread over two batches
    assert re.fullmatch(shape, Path("seen").read_text())
    module.write_text("raise RuntimeError('must not run')")
    assert main(["check", str(run)]) == 0
    assert main(["predict", str(run), *new_images()]) == 0
    assert main(["report", str(run)]) == 0
    capsys.readouterr()
    train(data + '\ntransforms = "flips.py:Flip"', "--experiment.name", "again", status=2)
    err = capsys.readouterr().err
    assert err == (
        "smidgen: data.transforms: flips.py fails: flips.py, line 1: RuntimeError: must not run\n"
    )


def test_without_its_images_a_run_predicts_but_cannot_be_checked(capsys: Capture) -> None:
    run = train(folder({"train": 36, "test": 12}, 9, 9, 3))
    Path("pets").rename("gone")
    capsys.readouterr()
    assert main(["predict", str(run), *new_images()]) == 0
    assert NAMES[0] in capsys.readouterr().out
    assert main(["check", str(run)]) == 2
    assert capsys.readouterr() == ("", "smidgen: data.path is pets, which does not exist.\n")


def test_a_changed_data_set_is_noticed(capsys: Capture) -> None:
    run = train(folder({"train": 36, "test": 12}, 9, 9))
    Path("pets/test", NAMES[0], "000.png").unlink()
    capsys.readouterr()
    assert main(["check", str(run)]) == 1
    out = capsys.readouterr().out
    assert "differs from the record: data" in out
    assert "differs from the record: test images: 11 now, 12 in the record" in out


def test_a_network_that_does_not_fit_the_images_gives_both_shapes(capsys: Capture) -> None:
    data = folder({"train": 36, "test": 12}, 9, 9)
    Path("net.py").write_text(
        "from torch import nn\n\ndef Net(): return nn.Sequential(nn.Flatten(), nn.Linear(81, 10))"
    )
    run = train(data, "--model.module", "net.py:Net", status=2)
    assert capsys.readouterr() == (
        "",
        "smidgen: The network returns (batch, 10); it must return (batch, 3), one score for each "
        "class.\n",
    )
    Path("pets").rename("gone")
    folder({"train": 36, "test": 12}, 9, 9, 3)
    train(data, "--model.module", "net.py:Net", status=2)
    assert "expected 81 features in the last dimension, got 243" in capsys.readouterr().err
    assert not run.exists()
