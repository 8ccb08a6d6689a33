"""The commands of `smidgen data`."""

from pathlib import Path

import numpy as np
import pytest
from custom_sets import class_folder, split_folder
from PIL import Image

from smidgen.cli import main
from smidgen.config import Data
from smidgen.data import NAMES, load


def smidgen(*arguments: str) -> int:
    return main(["data", *arguments])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SMIDGEN_DATA", raising=False)


def test_list_shows_every_named_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert smidgen("list") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "training", "test", "images", "classes", "about"]
    assert [line.split()[0] for line in lines] == list(NAMES)


def test_available_mnist_is_verified_and_not_downloaded(
    mnist_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smidgen("verify", "mnist", "--data-dir", str(mnist_folder)) == 0
    assert smidgen("get", "mnist", "--data-dir", str(mnist_folder)) == 0
    out = capsys.readouterr().out
    assert out.count("ok     ") == 4
    assert "all digests are right" in out


def test_missing_files_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert smidgen("verify", "cifar-10") == 1
    assert "WRONG  " in capsys.readouterr().out
    assert smidgen("get", "cifar-10", "--data-dir", ".") == 2
    assert "which does not hold CIFAR-10: cifar-10-binary.tar.gz" in capsys.readouterr().err


def test_digits_need_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert smidgen("get", "digits") == smidgen("verify", "digits") == 0
    assert capsys.readouterr().out.count("embedded in scikit-learn") == 2


def test_show_counts_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smidgen("show", "digits") == 0
    out = capsys.readouterr().out
    assert "images: 28x28, grayscale; mean 0." in out
    assert out.splitlines()[-3].split() == ["all", "1,137", "300", "360"]
    for name in ("digits.png", "digits-augmented.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 200
            assert np.asarray(image.convert("L")).std() > 10


def test_show_takes_a_folder_of_color_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folder(tmp_path)
    assert smidgen("show", "pets", "--out", "a.png", "--size", "12") == 0
    assert "images: 12x12, color" in capsys.readouterr().out
    assert (tmp_path / "a.png").is_file()
    assert (tmp_path / "a-augmented.png").is_file()


def test_show_skips_bad_images_with_skip_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split_folder(tmp_path)
    (tmp_path / "pets" / "train" / "cat" / "bad.png").write_bytes(b"no")
    assert smidgen("show", "pets") == 2
    assert "cat/bad.png is not an image" in capsys.readouterr().err
    assert smidgen("show", "pets", "--skip-bad") == 0
    assert "note: 1 image was skipped. train/cat/bad.png is not an image" in capsys.readouterr().out


def test_a_path_may_be_written_in_any_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    split_folder(tmp_path)
    (tmp_path / "pets" / "train" / "cat" / "bad.png").write_bytes(b"no")
    loaded = [load("pets", skip_bad=True)]
    for folder, path in (("pets", "."), ("pets", "../pets"), (".", str(tmp_path / "pets"))):
        monkeypatch.chdir(tmp_path / folder)
        loaded.append(load(Data(path=path), skip_bad=True))
        assert smidgen("show", path) == 2
        assert capsys.readouterr().err.startswith(f"smidgen: {path}/train/cat/bad.png is not an")
    assert len({(dataset.notes, dataset.sha256) for dataset in loaded}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("get", "MINST"), "'MINST' is not a data set; it must be one of mnist, digits"),
        (("get", "minst"), "Did you mean mnist?"),
        (("shwo", "mnist"), "Did you mean show? See smidgen data --help"),
        (("show", "mnist", "--skipbad"), "Did you mean --skip-bad? See smidgen data show --help"),
        (("show", "minst"), "'minst' is neither a data set nor a path; data sets: mnist, digits"),
        (("show", "digits", "--out", "a.jpg"), "--out is a.jpg; it must end in .png"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smidgen(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
