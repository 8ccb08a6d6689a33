"""The named data sets: their files, mirrors and digests, and how they are decoded.

Mirrors are the publishers' own. Sizes and SHA-256 are of the files as these serve them, and agree
with the tables of TensorFlow Datasets (url_checksums); MNIST's were computed from files whose MD5
is the one that torchvision states.
"""

import os
import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from smidgen.data.datasets import TestSplit
from smidgen.data.named.decode import (
    IDX_FILES,
    QMNIST_FILES,
    decode_cifar,
    decode_emnist,
    decode_idx,
    decode_qmnist,
    decode_qmnist_extra,
    emnist_files,
)
from smidgen.data.named.digits import NUM_TEST, NUM_TRAIN, load_digits
from smidgen.data.named.download import RemoteFile
from smidgen.data.named.files import CatalogEntry, DatasetFile, read_named

_DIGITS = tuple(string.digits)
_FASHION_CLASSES = """
    T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot
"""


def _gzip_files(
    names: Sequence[str],
    packed: Sequence[tuple[int, str]],
    unpacked: Sequence[str | None] = (None,) * 4,
) -> tuple[DatasetFile, ...]:
    """Four files from their names, packed sizes and digests, and unpacked digests."""
    return tuple(
        DatasetFile(RemoteFile(f"{name}.gz", num_bytes, sha256), unpacked_sha256=digest)
        for name, (num_bytes, sha256), digest in zip(names, packed, unpacked, strict=True)
    )


MNIST = CatalogEntry(
    name="mnist",
    title="MNIST",
    about="handwritten digits",
    classes=_DIGITS,
    files=_gzip_files(
        IDX_FILES,
        (
            (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    mirrors=(  # PyTorch's and the CVDF's: the author's own server no longer serves them
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    folders=("mnist", "MNIST/raw"),  # the last is torchvision's, here and below
    decode=decode_idx,
    handwriting=True,
    mean_and_std=((0.1307,), (0.3081,)),
)

DIGITS = CatalogEntry(
    name="digits",
    title="scikit-learn's digits",
    about="handwritten digits, included in scikit-learn",
    classes=_DIGITS,
    num_train=NUM_TRAIN,
    num_test=NUM_TEST,
    files=(),
    mirrors=(),
    folders=(),
    decode=lambda _: load_digits(),
    handwriting=True,
    default_validation=300,
)

FASHION_MNIST = CatalogEntry(
    name="fashion-mnist",
    title="Fashion-MNIST",
    about="articles of clothing",
    classes=tuple(_FASHION_CLASSES.strip().split(", ")),
    files=_gzip_files(
        IDX_FILES,
        (
            (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    folders=("fashion-mnist", "FashionMNIST/raw"),
    decode=decode_idx,
)

KMNIST = CatalogEntry(
    name="kmnist",
    title="KMNIST",
    about="Japanese characters in cursive script",
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    files=_gzip_files(
        IDX_FILES,
        (
            (18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            (29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
            (3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            (5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        ),
    ),
    mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    folders=("kmnist", "KMNIST/raw"),
    decode=decode_idx,
)

QMNIST = CatalogEntry(
    name="qmnist",
    title="QMNIST",
    about="MNIST rebuilt from its sources; 50,000 more test digits: qmnist_extra()",
    classes=_DIGITS,
    files=_gzip_files(
        QMNIST_FILES,
        (
            (9_704_059, "9e26a7bf1683614e065d7b76460ccd52807165b3f22561fb782bd9f38c52b51d"),
            (463_024, "2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f"),
            (9_742_279, "43fc22bf7498b8fc98de98369d72f752d0deabc280a43a7bcc364ab19e57b375"),
            (526_800, "9fbcbe594c3766fdf4f0b15c5165dc0d1e57ac604e01422608bb72c906030d06"),
        ),
    ),
    mirrors=("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
    folders=("qmnist", "QMNIST/raw"),
    decode=decode_qmnist,
    handwriting=True,
)


def _emnist_set(
    kind: str, about: str, classes: Sequence[str], num_train: int, num_test: int, validation: int
) -> CatalogEntry:
    return CatalogEntry(
        name=f"emnist-{kind}",
        title="EMNIST",
        about=about,
        classes=tuple(classes),
        num_train=num_train,
        num_test=num_test,
        files=(
            DatasetFile(
                RemoteFile(
                    "gzip.zip",
                    561_753_746,
                    "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
                ),
                emnist_files(kind),
            ),
        ),
        mirrors=("https://biometrics.nist.gov/cs_links/EMNIST/",),
        folders=("emnist", "EMNIST/raw"),
        decode=decode_emnist(kind),
        handwriting=True,
        default_validation=validation,
    )


# Of the lower-case letters, those that look unlike their upper case.
_BALANCED = string.digits + string.ascii_uppercase + "abdefghnqrt"

_CIFAR_10_TRAIN = tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_10_TEST = "cifar-10-batches-bin/test_batch.bin"
_CIFAR_100_TRAIN, _CIFAR_100_TEST = "cifar-100-binary/train.bin", "cifar-100-binary/test.bin"
_CIFAR_10_CLASSES = """
    airplane automobile bird cat deer dog frog horse ship truck
"""
_CIFAR_100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
    mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
    plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR_10 = CatalogEntry(
    name="cifar-10",
    title="CIFAR-10",
    about="photographs of animals and vehicles, in color",
    image_shape=(3, 32, 32),
    classes=tuple(_CIFAR_10_CLASSES.split()),
    num_train=50_000,
    num_test=10_000,
    files=(
        DatasetFile(
            RemoteFile(
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
            (*_CIFAR_10_TRAIN, _CIFAR_10_TEST),
        ),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    folders=("cifar-10",),
    decode=decode_cifar(_CIFAR_10_TRAIN, _CIFAR_10_TEST, label_bytes=1),
    default_validation=5_000,
)

CIFAR_100 = CatalogEntry(
    name="cifar-100",
    title="CIFAR-100",
    about="photographs of a hundred things, in color",
    image_shape=(3, 32, 32),
    classes=tuple(_CIFAR_100_CLASSES.split()),
    num_train=50_000,
    num_test=10_000,
    files=(
        DatasetFile(
            RemoteFile(
                "cifar-100-binary.tar.gz",
                168_513_733,
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            ),
            (_CIFAR_100_TRAIN, _CIFAR_100_TEST),
        ),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    folders=("cifar-100",),
    decode=decode_cifar([_CIFAR_100_TRAIN], _CIFAR_100_TEST, label_bytes=2),
    default_validation=5_000,
)

CATALOG: dict[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        MNIST,
        DIGITS,
        FASHION_MNIST,
        KMNIST,
        QMNIST,
        _emnist_set("balanced", "digits and letters", _BALANCED, 112_800, 18_800, 18_800),
        _emnist_set("digits", "handwritten digits", _DIGITS, 240_000, 40_000, 40_000),
        _emnist_set(
            "letters", "letters of either case", string.ascii_lowercase, 124_800, 20_800, 20_800
        ),
        CIFAR_10,
        CIFAR_100,
    )
}


def qmnist_extra(
    *,
    data_dir: str | os.PathLike[str] | None = None,
    timeout: float = 20.0,
    entry: CatalogEntry = QMNIST,
) -> TestSplit:
    """Load QMNIST's 50,000 test digits that are not in MNIST: a fresh test for MNIST networks.

    `data_dir` and `timeout` are as in smidgen.data.load.

    Raises:
        DataError: missing or damaged files, a failed download.
    """
    folder = None if data_dir is None else Path(data_dir)
    contents, _ = read_named(replace(entry, files=entry.files[2:]), folder, timeout)
    return decode_qmnist_extra(contents)
