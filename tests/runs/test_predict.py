import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smidgen.config import Data
from smidgen.data import Dataset, normalize
from smidgen.errors import ConfigError, DataError, RecordError
from smidgen.record import RECORD, RunRecord, format_record
from smidgen.runs.load import restore
from smidgen.runs.predict import predict


@torch.no_grad()
def probabilities(folder: Path, record: RunRecord, images: torch.Tensor) -> torch.Tensor:
    network = restore(folder, record)
    scores: torch.Tensor = network(normalize(images, record.data.mean, record.data.std))
    return scores.softmax(1)


def test_a_test_image_is_classified_as_in_the_evaluation(
    finished_folder: Path, record: RunRecord, digits: Dataset, tmp_path: Path
) -> None:
    images = digits.test.images[:40]
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    expected = probabilities(finished_folder, record, images)
    found = predict(str(finished_folder), [str(path) for path in paths])
    assert found == predict(finished_folder, paths)
    assert [p.path for p in found] == paths
    assert [p.classes[0][0] for p in found] == [str(c) for c in expected.argmax(1).tolist()]
    for prediction, row in zip(found, expected, strict=True):
        names, shares = zip(*prediction.classes, strict=True)
        assert sorted(names) == list(digits.classes)
        assert list(shares) == sorted(shares, reverse=True)
        assert math.fsum(shares) == pytest.approx(1, abs=1e-5)
        assert shares[0] == pytest.approx(float(row.max()), abs=1e-5)


def test_all_images_of_a_folder_are_classified(
    finished_folder: Path, digits: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    names = [f"{number // 30}/{number:02}.PNG" for number in range(70)]
    for image, name in zip(digits.test.images, names, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "0.png").write_text("no image")
    found = predict(finished_folder, [folder])
    assert [p.path for p in found] == [folder / name for name in names]
    assert found == predict(finished_folder, [folder / name for name in names])
    (folder / "bad.png").write_text("no image")
    with pytest.raises(DataError, match=r"bad\.png is not an image"):
        predict(finished_folder, [folder])
    bad: list[DataError] = []
    assert predict(finished_folder, [folder], on_bad=bad.append) == found
    assert [str(error).split(" is not")[0] for error in bad] == [str(folder / "bad.png")]
    assert predict(finished_folder, [folder / "bad.png"], on_bad=bad.append) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has no images; their names must end in \.png"):
        predict(finished_folder, [tmp_path / "empty"])


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_images_that_fill_the_frame_are_not_centered_as_handwriting(
    name: str, run_copy: Path, record: RunRecord, tmp_path: Path
) -> None:
    experiment = replace(record.experiment, data=Data(name=name))
    record = replace(record, experiment=experiment, data=replace(record.data, name=name))
    (run_copy / RECORD).write_text(format_record(record))
    garment = np.zeros((56, 56), np.uint8)
    garment[:, 14:42] = np.random.default_rng(0).integers(100, 256, (56, 28))
    Image.fromarray(garment).save(tmp_path / "shirt.png")
    [found] = predict(run_copy, [tmp_path / "shirt.png"])
    small = Image.fromarray(garment).resize((28, 28), Image.Resampling.BILINEAR)
    expected = probabilities(
        run_copy, record, torch.from_numpy(np.asarray(small)[None, None].copy())
    )
    shares = dict(found.classes)
    for label, name in enumerate(record.data.classes):
        assert shares[name] == pytest.approx(float(expected[0, label]), abs=1e-5)


def test_nothing_is_classified_if_one_image_is_missing(
    finished_folder: Path, tmp_path: Path
) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "good.png")
    with pytest.raises(DataError, match=r"none\.png cannot be read"):
        predict(finished_folder, [tmp_path / "good.png", tmp_path / "none.png"])
    with pytest.raises(RecordError, match="is not a finished run"):
        predict(tmp_path, [tmp_path / "good.png"])


def test_a_single_path_is_refused(finished_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"images is '3\.png'; it must be a list of paths"):
        predict(finished_folder, "3.png")
