"""Malicious files are refused in one line, without any other effect.

They execute nothing, write nothing outside the run's folder and cost little time and memory. The
threat model in docs/robustness.md says what is covered. smidgen reads no ONNX, so none is here.
"""

import gzip
import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import signal
import stat
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from forging import forge
from PIL import Image

from smidgen.cli import main
from smidgen.config import Experiment
from smidgen.data import Dataset
from smidgen.record import RECORD, seal
from smidgen.runs.options import RunOptions
from smidgen.runs.run import run
from smidgen.training.checkpoint import CHECKPOINT

Capture = pytest.CaptureFixture[str]
MAX_SECONDS, MAX_MB = 10.0, 256
LINUX = sys.platform == "linux"


class TooLongError(BaseException):
    """The command ran too long. A BaseException, so that no handler in the command catches it."""


@dataclass(frozen=True)
class Workspace:
    """The folders of a case: `here` is the current folder, `outside` is next to it."""

    here: Path
    outside: Path
    finished: Path
    stopped: Path

    @property
    def canary(self) -> Path:
        """The file that malicious code would create."""
        return self.outside / "canary"

    @property
    def run(self) -> Path:
        """A copy of a finished run, to be damaged."""
        folder = self.here / "run"
        if not folder.exists():
            shutil.copytree(self.finished, folder)
        return folder

    @property
    def pets(self) -> Path:
        """A folder of images in two classes."""
        folder = self.here / "pets"
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(6):
                Image.new("L", (8, 8), 20 * number).save(folder / name / f"{number}.png")
        return folder

    def write_module(self, path: Path) -> Path:
        """Write a module that creates the canary file when it is run."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"import pathlib\npathlib.Path({str(self.canary)!r}).touch()\n"
            "from torch import nn\n"
            "def Net(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
        )
        return path

    def train_on(self, path: str) -> list[str]:
        """Write an experiment on the data at `path`, and return the command that trains it."""
        text = (self.finished / "experiment.toml").read_text()
        begin = text.index("[data]")
        end = text.index("[train]")
        data = f'[data]\npath = "{path}"\n\n'
        (self.here / "custom.toml").write_text(text[:begin] + data + text[end:])
        return ["train", "custom.toml"]

    def trap(self) -> "Trap":
        return Trap(str(self.canary))


class Trap:
    """An object that runs code when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (os.system, (f"touch {self.path}",))


Make = Callable[[Workspace], list[str]]
"""Write the malicious file and return the arguments of the command that reads it."""

CASES: dict[str, tuple[Make, str]] = {}
"""Cases that exit with status 2, and text that the error line includes."""


def case(name: str, make: Make, message: str) -> None:
    assert name not in CASES
    CASES[name] = (make, message)


# ---------------------------------------------------------------------- weights and other tensors


def torch_saved(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def safetensors_bytes(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header, of which it claims that it has `length` bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one_tensor(body: bytes = bytes(8), **changes: object) -> bytes:
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, len(body)]} | changes
    return safetensors_bytes({"0.0.weight": tensor}, body)


_TWO = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"%s":{"dtype":"F32","shape":[2],'
TENSORS: dict[str, Callable[[Workspace], bytes]] = {
    "a pickle": lambda ws: pickle.dumps(ws.trap()),
    "a zip of torch.save": lambda ws: torch_saved({"0.0.weight": ws.trap()}),
    "a header of 2^60 bytes": lambda _: safetensors_bytes({}, length=2**60),
    "a header that claims 100 MB": lambda _: safetensors_bytes({}, length=10**8),
    "a header of 100 MB of spaces": lambda _: safetensors_bytes(b"{}" + b" " * 10**8),
    "a header nested 100,000 deep": lambda _: safetensors_bytes(
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    ),
    "tensors that overlap": lambda _: safetensors_bytes(
        _TWO % b"b" + b'"data_offsets":[4,12]}}', bytes(12)
    ),
    "one name twice": lambda _: safetensors_bytes(
        _TWO % b"a" + b'"data_offsets":[8,16]}}', bytes(16)
    ),
    "a tensor beyond the end": lambda _: one_tensor(shape=[2**40], data_offsets=[0, 2**42]),
    "a negative shape": lambda _: one_tensor(shape=[-2, -1]),
    "a shape of 2^64 values": lambda _: one_tensor(shape=[2**32, 2**32]),
    "an unknown type": lambda _: one_tensor(dtype="F99"),
    "a type that torch and numpy lack": lambda _: one_tensor(dtype="F4", shape=[16]),
}


def as_weights(make: Callable[[Workspace], bytes], command: str) -> Make:
    def write(ws: Workspace) -> list[str]:
        (ws.run / "weights.safetensors").write_bytes(make(ws))
        return [command, str(ws.run)]

    return write


def as_diagnostics(make: Callable[[Workspace], bytes]) -> Make:
    """Write diagnostics, and a forged record with their digest."""

    def write(ws: Workspace) -> list[str]:
        content = make(ws)
        (ws.run / "diagnostics.safetensors").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        forge(ws.run, lambda plain: plain.update(diagnostics_sha256=digest))
        return ["report", str(ws.run)]

    return write


for what, content_of in TENSORS.items():
    case(f"weights: {what}", as_weights(content_of, "check"), "weights.safetensors is damaged")
    case(f"diagnostics: {what}", as_diagnostics(content_of), "diagnostics.safetensors is damaged")


def predict_with_pickle(ws: Workspace) -> list[str]:
    Image.new("L", (28, 28)).save(ws.here / "a.png")
    return [*as_weights(TENSORS["a pickle"], "predict")(ws), "a.png"]


case("weights: a pickle, for predict", predict_with_pickle, "weights.safetensors is damaged")


def with_arrays(**arrays: torch.Tensor) -> Make:
    """The diagnostics of a run with some arrays replaced."""

    def content(ws: Workspace) -> bytes:
        original = safetensors.torch.load((ws.run / "diagnostics.safetensors").read_bytes())
        return safetensors.torch.save(original | arrays)

    return as_diagnostics(content)


for what, arrays in {
    "samples in one dimension": {"samples": torch.zeros(20, dtype=torch.uint8)},
    "samples that are not integers": {"samples": torch.full((20, 1, 28, 28), float("nan"))},
    "samples of seven channels": {"samples": torch.zeros(20, 7, 28, 28, dtype=torch.uint8)},
    "no samples": {"samples": torch.zeros(0, 1, 28, 28, dtype=torch.uint8)},
    "maps without sides": {"maps": torch.zeros((), dtype=torch.float16)},
    "maps without pixels": {"maps": torch.zeros(3, 0, 0, dtype=torch.float16)},
}.items():
    case(f"diagnostics: {what}", with_arrays(**arrays), "which do not fit the record")
for what, label in {"labels of no class": 10**12, "labels below 0": -99}.items():
    labels = torch.full((12,), label)
    case(
        f"diagnostics: {what}",
        with_arrays(wrong_labels=labels),
        "has labels of none of the classes",
    )


# --------------------------------------------------------------------------------------- records


def with_text(old: str, new: str, command: str = "report") -> Make:
    """Replace text in the record, and seal it again."""

    def write(ws: Workspace) -> list[str]:
        path = ws.run / RECORD
        body = "{\n" + path.read_text().split("\n", 2)[2]
        assert old in body
        path.write_text(seal(body.replace(old, new, 1)))
        return [command, str(ws.run)]

    return write


def with_value(key_path: str, value: object, command: str = "report") -> Make:
    """Set a value in the record, and seal it again."""

    def change(plain: Any) -> None:
        *above, last = [int(key) if key.isdigit() else key for key in key_path.split(".")]
        for key in above:
            plain = plain[key]
        plain[last] = value

    def write(ws: Workspace) -> list[str]:
        forge(ws.run, change)
        return [command, str(ws.run)]

    return write


case("record: nested 100,000 deep", with_text(": 3", ": " + "[" * 100_000), "is damaged")
case("record: an integer of 5,000 digits", with_text(": 3", ": " + "9" * 5000), "is damaged")
# followed by the original digits, this is larger than any float
case("record: 1e400", with_text('"loss": ', '"loss": ' + "9" * 400), "run.json is damaged: it has ")
for what, key_path, value in (
    ("a loss of 1e308", "epochs.0.train.loss", 1e308),
    ("a ragged confusion matrix", "test.confusion", [[1], [2, 3]]),
    ("no confusion matrix", "test.confusion", []),
    ("no test images", "test.num_images", 0),
    ("more correct images than images", "test.num_correct", 10**6),
    ("no epochs", "epochs", []),
    ("a limit that is a script", "verdict.limits.0.limit", "<script>alert(1)</script>"),
):
    case(f"record: {what}", with_value(key_path, value), "run.json is damaged: it has ")


def with_module(reference: str, command: str = "check") -> Make:
    """Name a module in the record that is not in the run's folder."""

    def write(ws: Workspace) -> list[str]:
        for folder in (ws.outside, ws.here):
            ws.write_module(folder / "evil.py")
        if reference == "link":
            (ws.run / "evil.py").symlink_to(ws.outside / "evil.py")
        module = "evil.py:Net" if reference == "link" else reference.format(ws.outside)
        with_value("experiment.model", {"module": module})(ws)
        return [command, str(ws.run), *(["a.png"] if command == "predict" else [])]

    return write


for what, reference in {
    "an absolute path": "{}/evil.py:Net",
    "a path with parents": "../../outside/evil.py:Net",
    "a file of the current folder": "evil.py:Net",
    "a link that leaves the folder": "link",
}.items():
    case(f"module: {what}", with_module(reference), "which is not in that folder")
case("module: for predict", with_module("{}/evil.py:Net", "predict"), "which is not in that folder")


def with_image_shape(shape: list[int]) -> Make:
    """Turn the record into one of a custom data set with images of this shape."""

    def change(plain: Any) -> None:
        plain["experiment"]["data"] = {"path": "pets", "augment": {"no_aug_epochs": 1}}
        plain["data"].update(image_shape=shape, mean=[0.5] * shape[0], std=[0.5] * shape[0])

    def write(ws: Workspace) -> list[str]:
        forge(ws.run, change)
        Image.new("L", (28, 28)).save(ws.here / "a.png")
        return ["predict", str(ws.run), "a.png"]

    return write


case("record: images of 10^12 pixels", with_image_shape([1, 10**6, 10**6]), "which no data set has")
case("record: images of no channels", with_image_shape([0, 8, 8]), "which no data set has")
case("record: images of no pixels", with_image_shape([1, 0, -5]), "which no data set has")
case(
    "record: data from a folder of the system",
    with_value("experiment.data", {"path": "/etc", "augment": {"no_aug_epochs": 1}}, "check"),
    "/etc",
)


def as_pipe(name: str, command: str = "report") -> Make:
    def write(ws: Workspace) -> list[str]:
        (ws.run / name).unlink()
        os.mkfifo(ws.run / name)
        return [command, str(ws.run)]

    return write


for name in ("run.json", "weights.safetensors", "diagnostics.safetensors", "times.json"):
    case(f"a pipe as {name}", as_pipe(name), "is a pipe or a device, not a file")
case("a pipe as metrics.jsonl", as_pipe("metrics.jsonl", "check"), "is a pipe or a device")


# ----------------------------------------------------------------------------------- checkpoints


def with_checkpoint(change: Callable[[Workspace, Any], object], sealed: bool = True) -> Make:
    """A stopped run whose checkpoint is changed and sealed again."""

    def write(ws: Workspace) -> list[str]:
        body = (ws.stopped / CHECKPOINT).read_bytes().partition(b"\n")[2]
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        plain = json.loads(header["__metadata__"]["checkpoint"])
        (ws.run / RECORD).unlink()
        found = change(ws, plain)
        body = (
            found
            if isinstance(found, bytes)
            else safetensors.torch.save(
                {}, {"checkpoint": found if isinstance(found, str) else json.dumps(plain)}
            )
        )
        head = b"smidgen checkpoint 1 " + hashlib.sha256(body).hexdigest().encode() + b"\n"
        (ws.run / CHECKPOINT).write_bytes(head + body if sealed else body)
        return ["train", "--resume", str(ws.run), "--quiet"]

    return write


def naming_module(reference: str) -> Callable[[Workspace, Any], None]:
    def change(ws: Workspace, plain: Any) -> None:
        for folder in (ws.outside, ws.here):
            ws.write_module(folder / "evil.py")
        module = reference.format(ws.outside)
        plain["experiment"]["model"] = {"module": module}
        toml = (ws.run / "experiment.toml").read_text()
        chain = 'chain = "6,s2 8,s2,o0.1 G"'
        assert chain in toml
        (ws.run / "experiment.toml").write_text(toml.replace(chain, f'module = "{module}"'))

    return change


NOT_A_CHECKPOINT = "is not a checkpoint of this version of smidgen"
case(
    "checkpoint: a pickle",
    with_checkpoint(lambda ws, _: pickle.dumps(ws.trap()), False),
    "is damaged",
)
case(
    "checkpoint: a sealed pickle",
    with_checkpoint(lambda ws, _: pickle.dumps(ws.trap())),
    NOT_A_CHECKPOINT,
)
case(
    "checkpoint: a zip of torch.save",
    with_checkpoint(lambda ws, _: torch_saved(ws.trap())),
    NOT_A_CHECKPOINT,
)
case("checkpoint: nested 100,000 deep", with_checkpoint(lambda *_: "[" * 100_000), NOT_A_CHECKPOINT)
case(
    "checkpoint: a wrong type", with_checkpoint(lambda _, p: p.update(epoch="1")), NOT_A_CHECKPOINT
)
case(
    "checkpoint: a device",
    with_checkpoint(lambda _, p: p.update(device="meta")),
    "it must be one of",
)
for what, reference in {
    "an absolute path": "{}/evil.py:Net",
    "a path with parents": "../../outside/evil.py:Net",
    "a file of the current folder": "evil.py:Net",
}.items():
    case(
        f"checkpoint: a module by {what}",
        with_checkpoint(naming_module(reference)),
        "which is not in that folder",
    )


# ------------------------------------------------------------------------------------ images


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(side: int, pixels: bytes, more: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + more
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )


def giant_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "JPEG")
    content = stream.getvalue()
    begin = content.index(b"\xff\xc0") + 5
    return content[:begin] + struct.pack(">HH", 65_535, 65_535) + content[begin + 4 :]


BOMB = b"a\0\0" + zlib.compress(bytes(200_000_000), 9)
IMAGES: dict[str, tuple[Callable[[Workspace, Path], object], str]] = {
    "a PNG of 10^10 pixels": (
        lambda _, path: path.write_bytes(png(100_000, bytes(10**7))),
        "decompression bomb",
    ),
    "a PNG with 200 MB of text": (
        lambda _, path: path.write_bytes(png(8, bytes(72), chunk(b"zTXt", BOMB))),
        "cannot be read",
    ),
    "a JPEG of 65,535 x 65,535": (
        lambda _, path: path.write_bytes(giant_jpeg()),
        "decompression bomb",
    ),
    "a GIF of 65,535 x 65,535": (
        lambda _, path: path.write_bytes(
            b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0xF7, 0, 0) + bytes(768) + b","
        ),
        "x.png",
    ),
    "a TIFF of nonsense": (
        lambda _, path: path.write_bytes(b"II*\0\x08\0\0\0\xff\xff" + bytes(200)),
        "x.png",
    ),
    "an SVG": (
        lambda _, path: path.write_text('<svg><image href="file:///etc/passwd"/></svg>'),
        "is not an image",
    ),
    "a page of HTML": (
        lambda _, path: path.write_text("<script>alert(1)</script>"),
        "is not an image",
    ),
    "an EPS that runs a program": (
        lambda ws, path: path.write_text(
            f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {ws.canary}) (w) file\n"
        ),
        "is not an image",
    ),
    "a link to a file outside": (
        lambda ws, path: path.symlink_to(ws.write_module(ws.outside / "evil.py")),
        "a link that leaves",
    ),
    "a link to a device": (lambda _, path: path.symlink_to("/dev/zero"), "a link that leaves"),
    "a link to itself": (lambda _, path: path.symlink_to(path), "leads to itself"),
    "a pipe": (lambda _, path: os.mkfifo(path), "is not a regular file"),
    "a folder that is a link to its parent": (
        lambda ws, _: (ws.pets / "bird").symlink_to(ws.pets),
        "is a folder inside a class",
    ),
}


def with_image(make: Callable[[Workspace, Path], object], *command: str) -> Make:
    def write(ws: Workspace) -> list[str]:
        make(ws, ws.pets / "cat" / "x.png")
        return [*command] if command else ws.train_on("pets")

    return write


for what, (make_image, message) in IMAGES.items():
    case(f"images: {what}", with_image(make_image), message)
    case(f"data show: {what}", with_image(make_image, "data", "show", "pets"), message)


# ------------------------------------------------------------------------------ arrays and tables


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def npz(image: Callable[[Workspace], bytes]) -> Callable[[Workspace], str]:
    """An .npz whose training images are these bytes."""

    def write(ws: Workspace) -> str:
        labels = io.BytesIO()
        np.save(labels, np.arange(4) % 2)
        with zipfile.ZipFile(ws.here / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x_train.npy", image(ws))
            archive.writestr("x_test.npy", image(ws))
            for name in ("y_train", "y_test"):
                archive.writestr(f"{name}.npy", labels.getvalue())
        return "x.npz"

    return write


def pickled(ws: Workspace) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([ws.trap()], dtype=object), allow_pickle=True)
    return stream.getvalue()


def npy_of_shape(shape: str, kind: str = "|u1") -> bytes:
    return npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", bytes(64))


def with_false_sizes(ws: Workspace) -> str:
    """Claim that each member has 4 GiB."""
    name = npz(lambda _: npy_of_shape("(4, 4, 4)"))(ws)
    content = bytearray((ws.here / name).read_bytes())
    place = 0
    while (place := content.find(b"PK\x01\x02", place)) >= 0:
        content[place + 24 : place + 28] = b"\xfe\xff\xff\xff"
        place += 4
    (ws.here / name).write_bytes(content)
    return name


def idx(
    shape: tuple[int, ...], body: bytes = b"", compressed: bool = False
) -> Callable[[Workspace], str]:
    def write(ws: Workspace) -> str:
        (ws.here / "x").mkdir()
        head = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        name = "train-images-idx3-ubyte" + (".gz" if compressed else "")
        (ws.here / "x" / name).write_bytes(
            gzip.compress(head + body) if compressed else head + body
        )
        (ws.here / "x" / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 0]))
        return "x"

    return write


def csv(line: bytes, megabytes: int = 0) -> Callable[[Workspace], str]:
    def write(ws: Workspace) -> str:
        with (ws.here / "x.csv").open("wb") as file:
            file.write(line)
            if megabytes:
                file.truncate(megabytes * 10**6)  # sparse, so it takes no space
        return "x.csv"

    return write


ARRAYS: dict[str, tuple[Callable[[Workspace], str], str]] = {
    "npz: pickled objects": (npz(pickled), "could run code; refused"),
    "npz: a header of 2^60 images": (npz(lambda _: npy_of_shape(f"({2**60}, 8, 8)")), "is damaged"),
    "npz: a header that is code": (
        npz(lambda ws: npy_of_shape(f"__import__('os').system('touch {ws.canary}')")),
        "is damaged",
    ),
    "npz: a zip in the zip": (npz(lambda ws: torch_saved(ws.trap())), "is damaged"),
    "npz: members that claim 4 GiB": (with_false_sizes, "is damaged"),
    "IDX: 2^31 images": (idx((2**31, 28, 28)), "holds more than 16 GiB"),
    "IDX: a gzip bomb": (idx((1, 28, 28), bytes(10**8), compressed=True), "is damaged"),
    "IDX: a gzip that claims 2^90 bytes": (
        idx((2**30, 2**30, 2**30), compressed=True),
        "holds more than 16 GiB",
    ),
    "CSV: a line of 100 MB": (csv(b"1", 100), "has more than 16,777,216 bytes"),
    "CSV: a million columns": (csv(b"1" + b",0" * 999_999 + b"\n"), "images must be square"),
    "CSV: a number of a million digits": (csv(b"1" * 10**6 + b",0\n"), "line 1"),
    "a zip of images": (
        lambda ws: shutil.make_archive(str(ws.here / "x"), "zip", ws.pets),
        "a file must be",
    ),
}


def train_with(make: Callable[[Workspace], str]) -> Make:
    return lambda ws: ws.train_on(make(ws))


for what, (make_array, message) in ARRAYS.items():
    case(what, train_with(make_array), message)


# ------------------------------------------------------------------------ pages and experiments


def experiment(old: str, new: str) -> Make:
    def write(ws: Workspace) -> list[str]:
        text = (ws.run / "experiment.toml").read_text()
        assert old in text
        (ws.here / "x.toml").write_text(text.replace(old, new, 1))
        return ["train", "x.toml"]

    return write


def page(section: str) -> Make:
    def write(ws: Workspace) -> list[str]:
        assert ws.run
        text = f"<!-- smidgen {section} -->\n<!-- smidgen end -->\n"
        (ws.here / "README.md").write_text(text)
        return ["readme", "--update", "README.md"]

    return write


PARAMS = "max_params = 1000"
case("TOML: a budget of nan", experiment("= 0.15", "= nan"), "min_accuracy is nan")
case("TOML: a rate of 1e400", experiment("lr = 0.1", "lr = 1e400"), "train.optimizer.lr is inf")
case(
    "TOML: a name that leaves the folder", experiment('"tiny"', '"../outside/x"'), "experiment.name"
)
case("README: a pattern of parents", page("results ../../.."), "README.md, line 1")
case("README: an absolute pattern", page("results /etc/*"), "is not a pattern of run folders")
case("README: a quote that does not end", page("results 'run"), "cannot be read")


def memory_in_status(key: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{key}:")[2].split()[0]) << 10


@contextmanager
def limited() -> Iterator[dict[str, float]]:
    """Measure seconds and MB; interrupt after 20 s and fail at 4 GiB."""
    found: dict[str, float] = {}

    def interrupt(*_: object) -> None:
        raise TooLongError

    before, limits = 0, resource.getrlimit(resource.RLIMIT_AS)
    if LINUX:
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = memory_in_status("VmRSS")
        resource.setrlimit(resource.RLIMIT_AS, (memory_in_status("VmSize") + (4 << 30), limits[1]))
    old = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(20)
    begun = time.process_time()
    try:
        yield found
    finally:
        found["seconds"] = time.process_time() - begun
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
        if LINUX:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            found["mb"] = (memory_in_status("VmHWM") - before) / 2**20


def snapshot(folder: Path) -> dict[str, str]:
    """The names, types and digests of everything in a folder."""
    found = {}
    for path in folder.rglob("*"):
        if folder / "cache" in (path, *path.parents):
            continue  # smidgen may cache what it decoded
        mode = path.lstat().st_mode
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""
        found[str(path.relative_to(folder))] = f"{stat.S_IFMT(mode):o} {digest}"
    return found


@pytest.fixture(scope="module")
def stopped_folder(
    tiny: Experiment, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run that still has its checkpoint; do not change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smidgen.runs.run.remove_checkpoints", lambda _: None)
        patch.setattr("smidgen.runs.train.write_report", lambda *_: None)
        found = run(tiny, RunOptions(out=tmp_path_factory.mktemp("stopped")), dataset=digits).folder
    assert found is not None
    return found


@pytest.fixture
def workspace(
    tmp_path: Path, finished_folder: Path, stopped_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    ws = Workspace(tmp_path / "here", tmp_path / "outside", finished_folder, stopped_folder)
    ws.here.mkdir()
    ws.outside.mkdir()
    monkeypatch.chdir(ws.here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return ws


def assert_refused(
    arguments: list[str], message: str, workspace: Workspace, tmp_path: Path, capfd: Capture
) -> None:
    """The command exits with 2 and one line, and no file changes."""
    before = snapshot(tmp_path)
    capfd.readouterr()
    with limited() as took:
        status = main(arguments)
    out, err = capfd.readouterr()
    assert status == 2, out + err
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("smidgen: ")
    assert message in err
    assert not workspace.canary.exists()
    assert snapshot(tmp_path) == before
    assert took["seconds"] < MAX_SECONDS
    assert took.get("mb", 0) < MAX_MB


@pytest.mark.parametrize("name", CASES)
def test_a_malicious_file_is_refused_without_other_effects(
    name: str, workspace: Workspace, tmp_path: Path, capfd: Capture
) -> None:
    make, message = CASES[name]
    assert_refused(make(workspace), message, workspace, tmp_path, capfd)


# ----------------------------------------------------------------- what is read, and is harmless


def test_reports_and_pages_run_no_module(
    workspace: Workspace, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])  # plots take seconds
    with_module("{}/evil.py:Net")(workspace)
    workspace.write_module(workspace.run / "evil.py")
    (workspace.here / "README.md").write_text(
        "<!-- smidgen results run -->\n<!-- smidgen end -->\n"
    )
    assert main(["report", "run"]) == 0
    assert main(["readme", "--update", "README.md"]) == 0
    assert main(["audit", "README.md"]) == 0
    assert main(["audit", "run/experiment.toml"]) == 0
    assert not workspace.canary.exists()


@pytest.mark.parametrize(
    ("key_path", "value"),
    [
        ("profile.num_params", 10**300),
        ("profile.layers.0.macs", -(10**300)),
        ("profile.layers", []),
        ("epochs.0.train.accuracy", -1e300),
        ("epochs.0.lr", -1e300),
        ("data.num_train", -5),
    ],
)
def test_absurd_numbers_with_the_right_digest_are_shown_as_they_are(
    key_path: str, value: object, workspace: Workspace, capfd: Capture
) -> None:
    """The digest vouches for the record; `smidgen check` counts again."""
    assert main(with_value(key_path, value)(workspace)) == 0
    assert capfd.readouterr().err == ""
    assert (workspace.run / "report.html").exists()


@pytest.mark.parametrize(
    "arrays",
    [
        {"wrong_shares": torch.full((12, 10), float("nan"))},
        {"wrong_labels": torch.zeros(3, dtype=torch.int64)},
        {"maps": torch.zeros(100_000, 1, 1, dtype=torch.float16)},
        {"maps": torch.full((2, 3, 3), float("inf"), dtype=torch.float16)},
    ],
    ids=[
        "probabilities that are not numbers",
        "fewer labels than images",
        "100,000 maps",
        "maps that are infinite",
    ],
)
def test_absurd_diagnostics_with_the_right_digest_are_shown_as_they_are(
    arrays: dict[str, torch.Tensor], workspace: Workspace, capfd: Capture
) -> None:
    assert main(with_arrays(**arrays)(workspace)) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_class_names_are_escaped_in_a_report(
    name: str, workspace: Workspace, capfd: Capture
) -> None:
    names = [f"{name}{number}" for number in range(10)]
    assert main(with_value("data.classes", names)(workspace)) == 0
    text = (workspace.run / "report.html").read_text(encoding="utf-8")
    assert name not in text
    assert "<img src=x" not in text


def test_class_names_are_not_formulas(workspace: Workspace, capfd: Capture) -> None:
    names = [r"$\frac{" + str(number) for number in range(10)]
    assert main(with_value("data.classes", names)(workspace)) == 0
    assert capfd.readouterr().err == ""


def test_the_table_keeps_its_length() -> None:
    assert len(CASES) >= 100
