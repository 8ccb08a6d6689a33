import contextlib
import gzip
import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from custom_sets import idx, idx_folder, labels, npz, pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from smidgen.config import Data
from smidgen.data import load
from smidgen.data.custom.arrays import array_files, read_arrays
from smidgen.errors import DataError


class Trap:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def arrays(**changes: Any) -> dict[str, Any]:
    return {
        "x_train": pixels(6, 4, 4),
        "y_train": labels(6),
        "x_test": pixels(3, 4, 4, seed=1),
        "y_test": labels(3),
    } | changes


def read(path: Path) -> Any:
    files = array_files(path)
    assert files is not None
    return read_arrays(files)


@pytest.mark.parametrize(
    "images",
    [
        pixels(6, 4, 5),
        pixels(6, 4, 5, 1),
        pixels(6, 4, 5, 3),
        pixels(6, 3, 4, 5),
        pixels(6, 4, 5).astype(np.int64),
        np.asfortranarray(pixels(6, 4, 5)),
    ],
)
def test_an_npz_is_read_in_its_usual_shapes(images: Any, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **arrays(x_train=images))
    got = read(tmp_path / "a.npz").train.images
    if images.ndim == 3:
        images = images[..., None]
    elif images.shape[1] == 3:
        images = images.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(got, images)
    assert got.dtype == np.uint8


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((6, 3, 5, 1), (6, 3, 5, 1)),
        ((6, 1, 5, 3), (6, 1, 5, 3)),
        ((6, 1, 4, 5), (6, 4, 5, 1)),
        ((6, 3, 4, 5), (6, 4, 5, 3)),
        ((6, 4096, 1), (6, 4096, 1, 1)),
        ((6, 1, 4096), (6, 1, 4096, 1)),
    ],
)
def test_channels_may_come_last_or_first(
    shape: tuple[int, ...], found: tuple[int, ...], tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **arrays(x_train=np.zeros(shape, np.uint8)))
    assert read(tmp_path / "a.npz").train.images.shape == found


def test_pixels_and_labels_may_be_integers_of_any_size(tmp_path: Path) -> None:
    images = np.array([0, 255] * 48).reshape(6, 4, 4)
    large = np.array([0, 1, 2, 2**63 - 1, 4, 5], np.uint64)
    np.savez(tmp_path / "a.npz", **arrays(x_train=images, y_train=large[:, None]))
    found = read(tmp_path / "a.npz").train
    np.testing.assert_array_equal(found.images[..., 0], images)
    assert found.labels.tolist() == large.tolist()
    assert (found.images.dtype, found.labels.dtype) == (np.dtype(np.uint8), np.dtype(np.int64))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_1_and_2_of_the_array_format_are_read(
    version: tuple[int, int], good_npz: Path, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    npy.write_array(stream, labels(30), version=version)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(good_npz) as good, zipfile.ZipFile(path, "w") as other:
        for name in good.namelist():
            other.writestr(name, stream.getvalue() if "y_train" in name else good.read(name))
    if version == (3, 0):  # for names of fields beyond ASCII
        with pytest.raises(DataError, match=r"a\.npz: y_train is in version \(3, 0\) of the form"):
            read(path)
    else:
        np.testing.assert_array_equal(read(path).train.labels, labels(30))


def test_the_limit_on_unpacked_bytes_is_exact(
    good_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(good_npz) as archive:
        size = sum(info.file_size for info in archive.infolist())
    monkeypatch.setattr("smidgen.data.custom.arrays._MAX_BYTES", size)
    assert len(read(good_npz).train.images) == 30
    monkeypatch.setattr("smidgen.data.custom.arrays._MAX_BYTES", size - 1)
    with pytest.raises(DataError, match=r"pets\.npz unpacks to more than"):
        read(good_npz)

    images, rest = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    rest.write_bytes(idx(labels(30).astype(np.uint8)))
    plain = idx(np.zeros((30, 5, 6), np.uint8))
    for path, content, limit, message in (
        (images, plain, len(plain), "holds more than"),
        (images.with_suffix(".gz"), gzip.compress(plain), len(plain), "holds more than"),
        (tmp_path / "a.csv", b"1,2,3,4,5\n" * 3, 15, r"has more than .* of pixels; refused"),
    ):
        path.write_bytes(content)
        files = [path] if path.suffix == ".csv" else [path, rest]
        monkeypatch.setattr("smidgen.data.custom.arrays._MAX_BYTES", limit)
        assert len(read_arrays(files).train.images) in (3, 30)
        monkeypatch.setattr("smidgen.data.custom.arrays._MAX_BYTES", limit - 1)
        with pytest.raises(DataError, match=f"{path.name} {message}"):
            read_arrays(files)


def test_the_limit_is_shown_in_gib(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, 3, 0, 4, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1]))  # 2^18 x 256 x 257
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels(30).astype(np.uint8)))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte holds more than 16 GiB; refused"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": pixels(6, 4, 4) / 255}, "x_train is float64; pixels must be integers"),
        ({"x_train": pixels(6, 4, 4).astype(int) + 9}, "x_train is int64; pixels must be integers"),
        ({"x_train": np.full((6, 4, 4), 256)}, "x_train is int64; pixels must be integers from 0"),
        ({"x_train": np.full((6, 4, 4), -1)}, "x_train is int64; pixels must be integers from 0"),
        (
            {"x_train": pixels(6, 16)},
            r"x_train has the shape \(6, 16\); it must be \(images, height, width\), for color "
            r"\(images, height, width, 3\) or \(images, 3, height, width\)\.$",
        ),
        ({"x_train": pixels(6, 4, 4, 4)}, r"x_train has the shape \(6, 4, 4, 4\)"),
        ({"x_train": pixels(0, 4, 4)}, r"x_train has the shape \(0, 4, 4\)"),
        ({"x_train": pixels(5, 4, 4)}, "5 images and .*y_train 6 labels; each image needs one"),
        (
            {"x_train": np.zeros((6, 1, 4097), np.uint8)},
            r"x_train has images of \(1, 4097\); a side has at most 4096\.$",
        ),
        ({"x_train": np.zeros((6, 4097, 1), np.uint8)}, r"images of \(4097, 1\); a side has at"),
        ({"y_train": labels(6) / 2}, "y_train is float64; labels must be integers"),
        ({"y_train": labels(6) > 0}, "y_train is bool; labels must be integers"),
        ({"y_train": np.array(list("abcabc"))}, "y_train is <U1; labels must be integers"),
        ({"y_train": np.eye(6, dtype=int)}, r"y_train has the shape \(6, 6\)"),
        ({"y_train": labels(6) * 0}, "has only the label 0; at least two are needed"),
        ({"y_train": np.full(6, 2**64 - 1, np.uint64)}, "18446744073709551615, which is too"),
        ({"y_test": labels(3) + 5}, "test images have the label 5, training images do not"),
        ({"x_test": pixels(3, 4)}, "a.npz: x_test has the shape"),
        ({"y_test": labels(3)[None]}, "a.npz: y_test has the shape"),
        ({"x_test": pixels(3, 5, 4)}, r"training images are \(4, 4, 1\) and test images \(5, 4,"),
    ],
)
def test_an_invalid_npz_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(DataError, match=message) as caught:
        load(Data(path=str(tmp_path / "a.npz")))
    assert "a.npz" in str(caught.value)


def test_a_pickle_in_an_npz_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")] * 6, dtype=object)
    np.savez(tmp_path / "a.npz", allow_pickle=True, **arrays(y_train=trap))
    with pytest.raises(DataError, match=r"y_train holds Python objects \(pickled\), which could"):
        read(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(DataError, match=r"b\.npz is damaged or not an \.npz \(BadZipFile: "):
        read(tmp_path / "b.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("shape", ["(10,)", "(99999999999999, 99999999)", "(-1,)", "(2, (3,))"])
def test_a_false_header_allocates_nothing(shape: str, tmp_path: Path) -> None:
    good = io.BytesIO()
    np.save(good, labels(6))
    body = good.getvalue()
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': " + shape.encode() + b", }"
    length = len(body) - 48 - 10
    lying = body[:8] + length.to_bytes(2, "little") + header.ljust(length - 1) + b"\n" + body[-48:]
    np.savez(tmp_path / "a.npz", **{k: v for k, v in arrays().items() if k != "y_train"})
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("y_train.npy", lying)
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path / "a.npz")


def test_missing_arrays_of_an_npz_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=pixels(6, 4, 4), y_train=labels(6))
    message = r"a\.npz lacks x_test, y_test; it must hold x_train, y_train, x_test, y_test\.$"
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.npz")


@pytest.fixture(scope="module")
def good_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return npz(tmp_path_factory.mktemp("npz"))


@given(st.data())
def test_a_damaged_npz_is_refused_or_read(good_npz: Path, data: st.DataObject) -> None:
    content = bytearray(good_npz.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = good_npz.with_name("damaged.npz")
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with contextlib.suppress(DataError):
        read(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_numpy_never_uses_is_refused(
    method: int, good_npz: Path, tmp_path: Path
) -> None:
    with (
        zipfile.ZipFile(good_npz) as good,
        zipfile.ZipFile(tmp_path / "a.npz", "w", method) as odd,
    ):
        for name in good.namelist():
            odd.writestr(name, good.read(name))
    with pytest.raises(DataError, match=r"x_train is compressed in a way that numpy never uses"):
        read(tmp_path / "a.npz")


headers = st.tuples(
    st.sampled_from(["|u1", "<i8", ">u2", "|O", "<f4", "<U3", "|V0", "<M8[s]", "(2,)u1", "u1,u1"]),
    st.booleans(),
    st.lists(st.integers(-2, 9) | st.integers(), max_size=5).map(tuple),
)


@settings(max_examples=60)
@given(headers, st.binary(max_size=9), st.sampled_from([b"\1\0", b"\2\0", b"\3\0"]))
def test_any_array_header_is_refused_or_read(
    good_npz: Path, header: tuple[str, bool, tuple[int, ...]], values: bytes, version: bytes
) -> None:
    descr, fortran, shape = header
    said = str({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    length = len(said).to_bytes(2 if version == b"\1\0" else 4, "little")
    path = good_npz.with_name("any-header.npz")
    with zipfile.ZipFile(good_npz) as good, zipfile.ZipFile(path, "w") as odd:
        for name in good.namelist():
            lies = name == "x_train.npy"
            content = b"\x93NUMPY" + version + length + said + values if lies else good.read(name)
            odd.writestr(name, content)
    with contextlib.suppress(DataError):
        read(path)


HEADING = b"label,pixel0,pixel1,pixel2,pixel3\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no image"),
        (HEADING, "has no image"),
        (b"image,pixel0\n", "the first column is 'image'; it must be 'label'"),
        (HEADING + b"1,2,3,4\n", "line 2, has 4 values instead of 5"),
        (HEADING + b"1,2,3,4,5\n\n1,2,3,4,256\n", "line 4, has a pixel above 255"),
        (b"0123456789" * 3 + b"\n", "line 1, is not an integer label"),
        (b"a123456789" * 3 + b"\n", r"the first column is 'a123456789a123456789'; it must"),
        (
            HEADING + b"a,2,3,4,5\n",
            r"line 2, is not an integer label and integers from 0 to 255, separated by commas\.$",
        ),
        (HEADING + b"1.5,2,3,4,5\n", "line 2, is not an integer label"),
        (HEADING + b"-1,2,3,4,5\n", "line 2, is not an integer label"),
        (HEADING + b"1,2,,4,5\n", "line 2, is not an integer label"),
        (HEADING + b"1,2,3,4,9999999999\n", "line 2, is not an integer label"),
        (HEADING + b"1,2,3,4,\n", "line 2, is not an integer label"),
        (HEADING + b",1,2,3,4\n", "line 2, is not an integer label"),
        (HEADING + b"1,2,3,4,0000000001\n", "line 2, is not an integer label"),
        (b"1,2,3,4\n", "has 3 pixels a line; images must be square, as 784 = 28 x 28"),
        (b"1\n", "has 0 pixels a line"),
        (b"1," + b"0," * (1 << 23) + b"0\n", "line 1, has more than 16,777,216 bytes"),
    ],
)
def test_an_invalid_csv_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "a.csv")
    assert "a.csv" in str(caught.value)


numbers = st.integers(0, 300).map(str)
csv_lines = st.lists(numbers, max_size=6).map(",".join) | st.text(max_size=10)


@given(
    st.binary(max_size=80) | st.lists(csv_lines, max_size=5).map(lambda x: "\n".join(x).encode())
)
def test_garbage_is_refused_or_a_csv(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.csv"
    path.write_bytes(content)
    try:
        found = read(path).train
    except DataError:
        return
    assert len(found.images) == len(found.labels) > 0
    assert found.images.shape[1] == found.images.shape[2]


def test_training_and_test_csvs_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(
        b' "label" , "pixel0",pixel1,pixel2,pixel3\n7,0,255,2,3\r\n\n0,4,5,6,7\n'
    )
    (tmp_path / "test.csv").write_bytes(b"9,8,9,10,11\n")
    found = read(tmp_path)
    assert found.notes == ()
    assert found.train.images.tolist() == [[[[0], [255]], [[2], [3]]], [[[4], [5]], [[6], [7]]]]
    assert found.train.labels.tolist() == [7, 0]
    assert found.test.images.tolist() == [[[[8], [9]], [[10], [11]]]]
    assert found.test.labels.tolist() == [9]
    for split in (found.train, found.test):
        assert split.images.dtype == np.dtype(np.uint8)
        assert split.labels.dtype == np.dtype(np.int64)
    (tmp_path / "one.csv").write_bytes(b"3,255\n")
    assert read(tmp_path / "one.csv").train.images.tolist() == [[[[255]]]]
    (tmp_path / "test.csv").unlink()
    assert read(tmp_path).test is None


def test_other_files_are_not_array_files(tmp_path: Path) -> None:
    for name in ("a.txt", "train-images-idx3-ubyte"):
        (tmp_path / name).touch()
        assert array_files(tmp_path / name) is None
        assert array_files(tmp_path) == ([tmp_path / name] if "idx" in name else None)
    (tmp_path / "t10k-labels-idx1-ubyte").mkdir()
    assert array_files(tmp_path) == [tmp_path / "train-images-idx3-ubyte"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.npz"
    with pytest.raises(DataError, match=f"^{path} cannot be read: No such file or directory[.]$"):
        read_arrays([path])


def test_kaggle_s_test_csv_without_labels_is_not_used(tmp_path: Path) -> None:
    rows = b"".join(b"%d,1,2,3,4\n" % (i % 3) for i in range(9))
    (tmp_path / "train.csv").write_bytes(HEADING + rows)
    (tmp_path / "test.csv").write_bytes(b"pixel0,pixel1,pixel2,pixel3\n1,2,3,4\n")
    found = read(tmp_path)
    assert (len(found.train.images), found.test) == (9, None)
    assert found.notes == ("test.csv has no labels, so it is not used.",)


def test_a_line_of_maximal_length_takes_little_memory(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1" + b",1" * ((1 << 23) - 10) + b"\n")
    tracemalloc.start()
    with pytest.raises(DataError, match="has 8388598 pixels a line"):
        read(tmp_path / "a.csv")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 256 << 20


def test_training_and_test_idx_files_are_read(tmp_path: Path) -> None:
    found = read(idx_folder(tmp_path))
    assert found.notes == ()
    for split, count, seed in ((found.train, 30, 0), (found.test, 12, 1)):
        np.testing.assert_array_equal(split.images[..., 0], pixels(count, 5, 6, seed=seed))
        np.testing.assert_array_equal(split.labels, labels(count))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte.gz", gzip.compress(idx(pixels(30, 6))), "has the shape"),
        ("train-images-idx3-ubyte.gz", gzip.compress(b"\0\0\x0d\1"), "holds values of type 0x0d"),
        ("train-images-idx3-ubyte.gz", gzip.compress(idx(pixels(30, 5, 6))[:-1]), "is damaged"),
        (
            "train-images-idx3-ubyte.gz",
            gzip.compress(idx(pixels(30, 5, 6)))[:-1],
            "is damaged or not a gzip file",
        ),
        ("train-labels-idx1-ubyte", idx(pixels(30, 6)), "has the shape"),
        ("train-labels-idx1-ubyte", idx(pixels(30))[:-1], "is damaged: its header says 30 values"),
    ],
)
def test_an_invalid_idx_file_is_named(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (idx_folder(tmp_path) / name).write_bytes(content)
    with pytest.raises(DataError, match=f"^{tmp_path / name} {message}"):
        read(tmp_path)


def test_missing_idx_files_are_named(tmp_path: Path) -> None:
    idx_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="has no IDX file of the test labels"):
        read(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    assert read(tmp_path).test is None
    (tmp_path / "emnist-train-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="are both the train labels; keep one"):
        read(tmp_path)
    for path in tmp_path.glob("*labels*"):
        path.unlink()
    with pytest.raises(DataError, match="has no IDX file of the train labels"):
        read(tmp_path)


def test_an_idx_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    idx_folder(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + b"\x00\x01\x00\x00" * 3 + bytes(10**6)))
    with pytest.raises(DataError, match=r"idx3-ubyte\.gz holds more than 16 GiB; refused"):
        read(tmp_path)
    path.write_bytes(gzip.compress(idx(pixels(30, 5, 6)) + bytes(10**7)))
    with pytest.raises(DataError, match=r"its header says 30 x 5 x 6 values, and 901 follow"):
        read(tmp_path)
    path.write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"idx3-ubyte\.gz is damaged or not a gzip file"):
        read(tmp_path)
