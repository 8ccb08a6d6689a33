"""The C code gives the scores of the integer network, bit for bit, and compiles silently."""

import ctypes
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import torch
from exported_networks import MEAN, NETWORKS, SHAPE, STD, trained
from numpy.typing import NDArray
from torch import nn

from smidgen.errors import ModelError
from smidgen.exporters import c_export
from smidgen.exporters.c import HEADER, SOURCE, c_code
from smidgen.exporters.conversion import to_integers
from smidgen.exporters.integer import IntegerNetwork
from smidgen.exporters.plan import plan
from smidgen.exporters.quantization import GraphNetwork
from smidgen.exporters.tracing import graph_of
from smidgen.models.chain import build_chain

WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror"]
CHAINS = [
    "8 8 M 14 14 14 16 G",
    "5,k5,p2 5,k3,p1,r M3 7,k2 G",
    "4,s2,p1 8,d,p1,s2 6,k1 A 5,k2 F",
    "6,k2,s3,p1 6,p2 F",
]


class Padded(nn.Sequential):
    """Pools with padding, and windows that overlap."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 5, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.AvgPool2d(3, stride=1, padding=1),
            nn.Conv2d(5, 4, (1, 3), dilation=(1, 2)),
            nn.ReLU6(),
            nn.AvgPool2d((2, 1), stride=(3, 1)),
            nn.Flatten(),
            nn.LazyLinear(5),
        )
        self(torch.zeros(1, *SHAPE))


def integers_of(network: nn.Module, shape: tuple[int, int, int], bits: int) -> IntegerNetwork:
    channels = shape[0]
    graph = graph_of(trained(network), shape, MEAN[:channels], STD[:channels])
    made = GraphNetwork(graph, bits)
    made.calibrate(made.centered(torch.from_numpy(pixels(shape, 20))))
    return to_integers(made)


def pixels(shape: tuple[int, int, int], number: int) -> NDArray[np.uint8]:
    """Noise, and some images of one brightness, which overflow first."""
    images = np.random.default_rng(3).integers(0, 256, (number, *shape), np.uint8)
    images[:2], images[2:4] = 0, 255
    return images


def written(folder: Path, integers: IntegerNetwork) -> Path:
    texts = c_code(integers, title="a /* title */", origin="nowhere", classes=["a"] * 5)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder / SOURCE


def compiled(source: Path, *flags: str, compiler: str = "gcc") -> Path:
    if which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    out = source.with_suffix(".so")
    command = [compiler, *WARNINGS, *flags, "-fPIC", "-shared", "-o", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def scores_of(library: Path, images: NDArray[np.uint8], classes: int) -> NDArray[np.int8]:
    predict = ctypes.CDLL(str(library)).smidgen_predict
    scores = np.zeros((len(images), classes), np.int8)
    for image, out in zip(images.transpose(0, 2, 3, 1).copy(), scores, strict=True):
        best = predict(image.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p))
        assert best == out.argmax()
    return scores


@pytest.mark.parametrize("bits", [pytest.param(8, marks=pytest.mark.slow), 4, 2])
@pytest.mark.parametrize("make", [*NETWORKS.values(), Padded])
def test_modules_in_c_give_the_scores_of_the_integer_network(
    make: Callable[[], nn.Module], bits: int, tmp_path: Path
) -> None:
    integers, images = integers_of(make(), SHAPE, bits), pixels(SHAPE, 60)
    library = compiled(written(tmp_path, integers), "-Os")
    np.testing.assert_array_equal(scores_of(library, images, 5), integers.scores(images))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["-Os"], ["-O3", "-march=native"]])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("chain", CHAINS)
def test_chains_in_c_give_the_scores_of_the_integer_network(
    chain: str, bits: int, flags: list[str], tmp_path: Path
) -> None:
    shape = (1, 28, 28)
    integers = integers_of(build_chain(chain, shape, 5), shape, bits)
    images = pixels(shape, 40)
    library = compiled(written(tmp_path, integers), *flags)
    np.testing.assert_array_equal(scores_of(library, images, 5), integers.scores(images))


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O0", "-Os"])
@pytest.mark.parametrize("make", [NETWORKS["functional"], Padded])
def test_sanitizers_find_nothing(
    make: Callable[[], nn.Module], compiler: str, level: str, tmp_path: Path
) -> None:
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = tmp_path / "program"
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    trial = [compiler, *sanitize, "-o", str(program), str(tmp_path / "main.c")]
    if (
        which(compiler) is None
        or subprocess.run(trial, capture_output=True, check=False).returncode
    ):
        pytest.skip(f"{compiler} is not installed, or its sanitizers are not")
    integers, images = integers_of(make(), SHAPE, 4), pixels(SHAPE, 20)
    source = written(tmp_path, integers)
    (tmp_path / "main.c").write_text(c_export.MAIN)
    files = [str(path) for path in (program, tmp_path / "main.c", source)]
    command = [compiler, *WARNINGS, level, *sanitize, "-o", *files]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    given = images.transpose(0, 2, 3, 1).tobytes()
    done = subprocess.run([program], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    scores = np.frombuffer(done.stdout, np.int8).reshape(len(images), 5)
    np.testing.assert_array_equal(scores, integers.scores(images))


def test_the_code_uses_no_library_and_no_floating_point(tmp_path: Path) -> None:
    written(tmp_path, integers_of(NETWORKS["residual"](), SHAPE, 4))
    code = (tmp_path / SOURCE).read_text() + (tmp_path / HEADER).read_text()
    without_comments = re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL)
    words = set(re.findall(r"\w+", without_comments))
    assert not words & {"float", "double", "malloc", "memcpy", "memset"}
    includes = {line.split()[1] for line in code.splitlines() if line.startswith("#include")}
    assert includes == {f'"{HEADER}"', "<avr/pgmspace.h>", "<stdint.h>"}


def test_a_plan_keeps_few_rows() -> None:
    shape = (1, 28, 28)
    planned = plan(integers_of(build_chain("8 8 M 14 14 14 16 G", shape, 10), shape, 8))
    assert [tensor.ring_rows for tensor in planned.tensors] == [3, 3, 1, 3, 3, 3, 3, 1, 1, 1]
    assert planned.memory_bytes == 2400


def test_networks_that_are_too_large_are_refused_by_name() -> None:
    integers = integers_of(build_chain("300,k1,s9 G", (1, 28, 28), 5), (1, 28, 28), 8)
    with pytest.raises(ModelError, match="at most 255 channels: 0"):
        plan(integers)
