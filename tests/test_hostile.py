"""Files that somebody made to do harm: each is refused in one line, and nothing else happens.

Nothing in them runs, nothing is left outside of the folder that was named, no time and no memory is
lost. ONNX is not read by this project, so no file of that kind is here.
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
import tarfile
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
from smidgen.data.named.catalog import BUILT_IN
from smidgen.record import RECORD, seal
from smidgen.runs.options import RunOptions
from smidgen.runs.run import run
from smidgen.training.checkpoint import CHECKPOINT

Capture = pytest.CaptureFixture[str]
MOST_SECONDS, MOST_MB = 10.0, 256
LINUX = sys.platform == "linux"


class TooLongError(BaseException):
    """A command did not come back; no handler in it can take this for one of its errors."""


@dataclass(frozen=True)
class Place:
    """Where a case plays: `here` is the current folder, `outside` lies beside it."""

    here: Path
    outside: Path
    finished: Path
    stopped: Path

    @property
    def canary(self) -> Path:
        """What hostile code would write."""
        return self.outside / "canary"

    @property
    def run(self) -> Path:
        """A finished run, to be spoilt."""
        folder = self.here / "run"
        if not folder.exists():
            shutil.copytree(self.finished, folder)
        return folder

    @property
    def pets(self) -> Path:
        """A folder of pictures in two classes."""
        folder = self.here / "pets"
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(6):
                Image.new("L", (8, 8), 20 * number).save(folder / name / f"{number}.png")
        return folder

    def code(self, path: Path) -> Path:
        """A module at `path` that tells of itself when it is run."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"import pathlib\npathlib.Path({str(self.canary)!r}).touch()\n"
            "from torch import nn\n"
            "def Net(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
        )
        return path

    def training(self, path: str) -> list[str]:
        """The words that train on the data at `path`."""
        text = (self.finished / "experiment.toml").read_text()
        begin = text.index("[data]")
        end = text.index("[train]")
        data = f'[data]\npath = "{path}"\n\n'
        (self.here / "own.toml").write_text(text[:begin] + data + text[end:])
        return ["train", "own.toml"]

    def trap(self) -> "Trap":
        return Trap(str(self.canary))


class Trap:
    """Unpickling it runs code."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (os.system, (f"touch {self.path}",))


Make = Callable[[Place], list[str]]
"""Makes the hostile thing, and gives the words of the command that meets it."""

CASES: dict[str, tuple[Make, str]] = {}
"""What is refused with status 2, and a part of the line that says so."""


def case(name: str, make: Make, says: str) -> None:
    assert name not in CASES
    CASES[name] = (make, says)


# ---------------------------------------------------------------------- weights and other tensors


def saved(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def tensors(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header; it says that it has `length` bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one(body: bytes = bytes(8), **changes: object) -> bytes:
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, len(body)]} | changes
    return tensors({"0.0.weight": tensor}, body)


_TWO = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"%s":{"dtype":"F32","shape":[2],'
TENSORS: dict[str, Callable[[Place], bytes]] = {
    "a pickle": lambda at: pickle.dumps(at.trap()),
    "a zip of torch.save": lambda at: saved({"0.0.weight": at.trap()}),
    "a header of 2^60 bytes": lambda _: tensors({}, length=2**60),
    "a header of 100 MB that is promised": lambda _: tensors({}, length=10**8),
    "a header of 100 MB of spaces": lambda _: tensors(b"{}" + b" " * 10**8),
    "a header nested 100,000 deep": lambda _: tensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "tensors that overlap": lambda _: tensors(_TWO % b"b" + b'"data_offsets":[4,12]}}', bytes(12)),
    "one name twice": lambda _: tensors(_TWO % b"a" + b'"data_offsets":[8,16]}}', bytes(16)),
    "a tensor beyond the end": lambda _: one(shape=[2**40], data_offsets=[0, 2**42]),
    "a negative shape": lambda _: one(shape=[-2, -1]),
    "a shape of 2^64 values": lambda _: one(shape=[2**32, 2**32]),
    "an unknown type": lambda _: one(dtype="F99"),
    "a type that torch and numpy lack": lambda _: one(dtype="F4", shape=[16]),
}


def weights(make: Callable[[Place], bytes], command: str) -> Make:
    def made(at: Place) -> list[str]:
        (at.run / "weights.safetensors").write_bytes(make(at))
        return [command, str(at.run)]

    return made


def diagnostics(make: Callable[[Place], bytes]) -> Make:
    """The record is forged to say the digest of the hostile file."""

    def made(at: Place) -> list[str]:
        content = make(at)
        (at.run / "diagnostics.safetensors").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        forge(at.run, lambda plain: plain.update(diagnostics_sha256=digest))
        return ["report", str(at.run)]

    return made


for what, content_of in TENSORS.items():
    case(f"weights: {what}", weights(content_of, "check"), "weights.safetensors is damaged")
    case(f"pictures: {what}", diagnostics(content_of), "diagnostics.safetensors is damaged")


def predicting(at: Place) -> list[str]:
    Image.new("L", (28, 28)).save(at.here / "a.png")
    return [*weights(TENSORS["a pickle"], "predict")(at), "a.png"]


case("weights: a pickle, to predict with", predicting, "weights.safetensors is damaged")


def changed(**arrays: torch.Tensor) -> Make:
    """The right pictures but for some arrays."""

    def content(at: Place) -> bytes:
        there = safetensors.torch.load((at.run / "diagnostics.safetensors").read_bytes())
        return safetensors.torch.save(there | arrays)

    return diagnostics(content)


for what, arrays in {
    "samples in one dimension": {"samples": torch.zeros(20, dtype=torch.uint8)},
    "samples that are no numbers": {"samples": torch.full((20, 1, 28, 28), float("nan"))},
    "samples of seven channels": {"samples": torch.zeros(20, 7, 28, 28, dtype=torch.uint8)},
    "labels of no class": {"wrong_labels": torch.full((12,), 10**12)},
    "labels below 0": {"wrong_labels": torch.full((12,), -99)},
    "shares that are no numbers": {"wrong_shares": torch.full((12, 10), float("nan"))},
    "maps without sides": {"maps": torch.zeros((), dtype=torch.float16)},
    "100,000 maps": {"maps": torch.zeros(100_000, 1, 1, dtype=torch.float16)},
}.items():
    case(f"pictures: {what}", changed(**arrays), "is not what a run keeps by that name")


# --------------------------------------------------------------------------------------- records


def rewritten(old: str, new: str, command: str = "report") -> Make:
    """The record's text changed, and a digest that fits."""

    def made(at: Place) -> list[str]:
        path = at.run / RECORD
        body = "{\n" + path.read_text().split("\n", 2)[2]
        assert old in body
        path.write_text(seal(body.replace(old, new, 1)))
        return [command, str(at.run)]

    return made


def put(where: str, value: object, command: str = "report") -> Make:
    """The value at that place of the record, and a digest that fits."""

    def change(plain: Any) -> None:
        *above, last = [int(key) if key.isdigit() else key for key in where.split(".")]
        for key in above:
            plain = plain[key]
        plain[last] = value

    def made(at: Place) -> list[str]:
        forge(at.run, change)
        return [command, str(at.run)]

    return made


case("record: nested 100,000 deep", rewritten(": 3", ": " + "[" * 100_000), "is damaged")
case("record: an integer of 5,000 digits", rewritten(": 3", ": " + "9" * 5000), "is damaged")
# with its own digits behind these, the number is larger than any
case("record: 1e400", rewritten('"loss": ', '"loss": ' + "9" * 400), "run.json is damaged: it has ")
for what, where, value in (
    ("a loss of 1e308", "epochs.0.train.loss", 1e308),
    ("10^300 parameters", "profile.num_params", 10**300),
    ("multiply-adds below 0", "profile.layers.0.macs", -(10**300)),
    ("a ragged confusion matrix", "test.confusion", [[1], [2, 3]]),
    ("no confusion matrix", "test.confusion", []),
    ("no test images", "test.num_images", 0),
    ("no epochs", "epochs", []),
    ("no layers", "profile.layers", []),
    ("a limit that is a script", "verdict.limits.0.limit", "<script>alert(1)</script>"),
):
    case(f"record: {what}", put(where, value), "run.json is damaged: it has ")


def foreign(reference: str, command: str = "check") -> Make:
    """A record whose module is not in its folder."""

    def made(at: Place) -> list[str]:
        for folder in (at.outside, at.here):
            at.code(folder / "evil.py")
        if reference == "link":
            (at.run / "evil.py").symlink_to(at.outside / "evil.py")
        module = "evil.py:Net" if reference == "link" else reference.format(at.outside)
        put("experiment.model", {"module": module})(at)
        return [command, str(at.run), *(["a.png"] if command == "predict" else [])]

    return made


for what, reference in {
    "an absolute path": "{}/evil.py:Net",
    "a path with parents": "../../outside/evil.py:Net",
    "a file of the current folder": "evil.py:Net",
    "a link that leaves the folder": "link",
}.items():
    case(f"module: {what}", foreign(reference), "which is no file of its own")
case("module: to predict", foreign("{}/evil.py:Net", "predict"), "which is no file of its own")


def unseen(shape: list[int]) -> Make:
    """A record of a set of one's own, whose images are said to be of that shape."""

    def change(plain: Any) -> None:
        plain["experiment"]["data"] = {"path": "pets", "augment": {"no_aug_epochs": 1}}
        plain["data"].update(image_shape=shape, mean=[0.5] * shape[0], std=[0.5] * shape[0])

    def made(at: Place) -> list[str]:
        forge(at.run, change)
        Image.new("L", (28, 28)).save(at.here / "a.png")
        return ["predict", str(at.run), "a.png"]

    return made


case("record: images of 10^12 pixels", unseen([1, 10**6, 10**6]), "which no data set has")
case("record: images of no channels", unseen([0, 8, 8]), "which no data set has")
case("record: images of no pixels", unseen([1, 0, -5]), "which no data set has")
case(
    "record: data from a folder of the system",
    put("experiment.data", {"path": "/etc", "augment": {"no_aug_epochs": 1}}, "check"),
    "/etc",
)


def piped(name: str, command: str = "report") -> Make:
    def made(at: Place) -> list[str]:
        (at.run / name).unlink()
        os.mkfifo(at.run / name)
        return [command, str(at.run)]

    return made


for name in ("run.json", "weights.safetensors", "diagnostics.safetensors", "times.json"):
    case(f"a pipe as {name}", piped(name), "is no file but a pipe or a device")
case("a pipe as metrics.jsonl", piped("metrics.jsonl", "check"), "is no file but a pipe")


# ----------------------------------------------------------------------------------- checkpoints


def stopped(change: Callable[[Place, Any], object], dressed: bool = True) -> Make:
    """A run that was stopped, whose checkpoint is changed and says its right digest."""

    def made(at: Place) -> list[str]:
        body = (at.stopped / CHECKPOINT).read_bytes().partition(b"\n")[2]
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        plain = json.loads(header["__metadata__"]["checkpoint"])
        (at.run / RECORD).unlink()
        found = change(at, plain)
        body = (
            found
            if isinstance(found, bytes)
            else safetensors.torch.save(
                {}, {"checkpoint": found if isinstance(found, str) else json.dumps(plain)}
            )
        )
        head = b"smidgen checkpoint 1 " + hashlib.sha256(body).hexdigest().encode() + b"\n"
        (at.run / CHECKPOINT).write_bytes(head + body if dressed else body)
        return ["train", "--resume", str(at.run), "--quiet"]

    return made


def led_outside(reference: str) -> Callable[[Place, Any], None]:
    def change(at: Place, plain: Any) -> None:
        for folder in (at.outside, at.here):
            at.code(folder / "evil.py")
        module = reference.format(at.outside)
        plain["experiment"]["model"] = {"module": module}
        toml = (at.run / "experiment.toml").read_text()
        chain = 'chain = "6,s2 8,s2,o0.1 G"'
        assert chain in toml
        (at.run / "experiment.toml").write_text(toml.replace(chain, f'module = "{module}"'))

    return change


NOT_OURS = "is not a checkpoint of this version of smidgen"
case("checkpoint: a pickle", stopped(lambda at, _: pickle.dumps(at.trap()), False), "is damaged")
case("checkpoint: a pickle, dressed", stopped(lambda at, _: pickle.dumps(at.trap())), NOT_OURS)
case("checkpoint: a zip of torch.save", stopped(lambda at, _: saved(at.trap())), NOT_OURS)
case("checkpoint: nested 100,000 deep", stopped(lambda *_: "[" * 100_000), NOT_OURS)
case("checkpoint: a wrong type", stopped(lambda _, p: p.update(epoch="1")), NOT_OURS)
case("checkpoint: a device", stopped(lambda _, p: p.update(device="meta")), "it must be one of")
for what, reference in {
    "an absolute path": "{}/evil.py:Net",
    "a path with parents": "../../outside/evil.py:Net",
    "a file of the current folder": "evil.py:Net",
}.items():
    case(
        f"checkpoint: a module by {what}",
        stopped(led_outside(reference)),
        "which is no file of its own",
    )


# ---------------------------------------------------------------------------------- pictures


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
PICTURES: dict[str, tuple[Callable[[Place, Path], object], str]] = {
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
        "is no picture",
    ),
    "a page of HTML": (
        lambda _, path: path.write_text("<script>alert(1)</script>"),
        "is no picture",
    ),
    "an EPS that starts a program": (
        lambda at, path: path.write_text(
            f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {at.canary}) (w) file\n"
        ),
        "is no picture",
    ),
    "a link to a file outside": (
        lambda at, path: path.symlink_to(at.code(at.outside / "evil.py")),
        "a link that leaves",
    ),
    "a link to a device": (lambda _, path: path.symlink_to("/dev/zero"), "a link that leaves"),
    "a link to itself": (lambda _, path: path.symlink_to(path), "leads to itself"),
    "a pipe": (lambda _, path: os.mkfifo(path), "is no file"),
    "a folder that is a link to its parent": (
        lambda at, _: (at.pets / "bird").symlink_to(at.pets),
        "is a folder within a class",
    ),
}


def pictured(make: Callable[[Place, Path], object], *words: str) -> Make:
    def made(at: Place) -> list[str]:
        make(at, at.pets / "cat" / "x.png")
        return [*words] if words else at.training("pets")

    return made


for what, (make_picture, says) in PICTURES.items():
    case(f"pictures of one's own: {what}", pictured(make_picture), says)
    case(f"data show: {what}", pictured(make_picture, "data", "show", "pets"), says)


# ------------------------------------------------------------------------------ arrays and tables


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def npz(image: Callable[[Place], bytes]) -> Callable[[Place], str]:
    """An .npz whose training images are these bytes."""

    def made(at: Place) -> str:
        labels = io.BytesIO()
        np.save(labels, np.arange(4) % 2)
        with zipfile.ZipFile(at.here / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x_train.npy", image(at))
            archive.writestr("x_test.npy", image(at))
            for name in ("y_train", "y_test"):
                archive.writestr(f"{name}.npy", labels.getvalue())
        return "x.npz"

    return made


def pickled(at: Place) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([at.trap()], dtype=object), allow_pickle=True)
    return stream.getvalue()


def said(shape: str, kind: str = "|u1") -> bytes:
    return npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", bytes(64))


def larger_than_it_says(at: Place) -> str:
    """Each member says that it unpacks to 4 GiB."""
    name = npz(lambda _: said("(4, 4, 4)"))(at)
    content = bytearray((at.here / name).read_bytes())
    place = 0
    while (place := content.find(b"PK\x01\x02", place)) >= 0:
        content[place + 24 : place + 28] = b"\xfe\xff\xff\xff"
        place += 4
    (at.here / name).write_bytes(content)
    return name


def idx(shape: tuple[int, ...], body: bytes = b"", packed: bool = False) -> Callable[[Place], str]:
    def made(at: Place) -> str:
        (at.here / "x").mkdir()
        head = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        name = "train-images-idx3-ubyte" + (".gz" if packed else "")
        (at.here / "x" / name).write_bytes(gzip.compress(head + body) if packed else head + body)
        (at.here / "x" / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 0]))
        return "x"

    return made


def csv(line: bytes, megabytes: int = 0) -> Callable[[Place], str]:
    def made(at: Place) -> str:
        with (at.here / "x.csv").open("wb") as file:
            file.write(line)
            if megabytes:
                file.truncate(megabytes * 10**6)  # a hole, which takes no space
        return "x.csv"

    return made


ARRAYS: dict[str, tuple[Callable[[Place], str], str]] = {
    "npz: pickled objects": (npz(pickled), "could run code; refused"),
    "npz: a header of 2^60 images": (npz(lambda _: said(f"({2**60}, 8, 8)")), "is damaged"),
    "npz: a header that is code": (
        npz(lambda at: said(f"__import__('os').system('touch {at.canary}')")),
        "is damaged",
    ),
    "npz: a zip in the zip": (npz(lambda at: saved(at.trap())), "is damaged"),
    "npz: members that say 4 GiB": (larger_than_it_says, "is damaged"),
    "IDX: 2^31 images": (idx((2**31, 28, 28)), "is damaged"),
    "IDX: a gzip bomb": (idx((1, 28, 28), bytes(10**8), packed=True), "unpacks to more than"),
    "IDX: a gzip that says 2^90 bytes": (
        idx((2**30, 2**30, 2**30), packed=True),
        "unpacks to more than",
    ),
    "CSV: a line of 100 MB": (csv(b"1", 100), "has more than 16,777,216 bytes"),
    "CSV: a million columns": (csv(b"1" + b",0" * 999_999 + b"\n"), "images must be square"),
    "CSV: a number of a million digits": (csv(b"1" * 10**6 + b",0\n"), "line 1"),
    "a zip of pictures": (
        lambda at: shutil.make_archive(str(at.here / "x"), "zip", at.pets),
        "a file must be",
    ),
}


def trained_on(make: Callable[[Place], str]) -> Make:
    return lambda at: at.training(make(at))


for what, (make_array, says) in ARRAYS.items():
    case(what, trained_on(make_array), says)


# ------------------------------------------------------------------------ pages and experiments


def experiment(old: str, new: str) -> Make:
    def made(at: Place) -> list[str]:
        text = (at.run / "experiment.toml").read_text()
        assert old in text
        (at.here / "x.toml").write_text(text.replace(old, new, 1))
        return ["train", "x.toml"]

    return made


def page(words: str) -> Make:
    def made(at: Place) -> list[str]:
        assert at.run
        text = f"<!-- smidgen {words} -->\n<!-- smidgen end -->\n"
        (at.here / "README.md").write_text(text)
        return ["readme", "--update", "README.md"]

    return made


PARAMS = "max_params = 1000"
case("TOML: nested 10^6 deep", experiment(PARAMS, "x = " + "[" * 10**6), "at most 262,144")
case("TOML: nested 10^5 deep", experiment(PARAMS, "x = " + "[" * 10**5), "too deeply")
case("TOML: an integer of 5,000 digits", experiment(PARAMS, PARAMS + "9" * 5000), "x.toml")
case("TOML: an integer of 4,000 digits", experiment(PARAMS, PARAMS + "9" * 4000), "too large")
case("TOML: a budget of nan", experiment("= 0.15", "= nan"), "min_accuracy is nan")
case("TOML: a rate of 1e400", experiment("lr = 0.1", "lr = 1e400"), "train.optimizer.lr is inf")
case(
    "TOML: a name that leaves the folder", experiment('"tiny"', '"../outside/x"'), "experiment.name"
)
case("README: a pattern of parents", page("results ../../.."), "README.md, line 1")
case("README: an absolute pattern", page("results /etc/*"), "is no pattern of run folders")
case("README: a quote that does not end", page("results 'run"), "is not understood")


def memory(key: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{key}:")[2].split()[0]) << 10


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Seconds and MB that something takes; a hang ends, and memory has an end."""
    found: dict[str, float] = {}

    def end(*_: object) -> None:
        raise TooLongError

    before, limits = 0, resource.getrlimit(resource.RLIMIT_AS)
    if LINUX:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmRSS")
        resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + (4 << 30), limits[1]))
    old = signal.signal(signal.SIGALRM, end)
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
            found["mb"] = (memory("VmHWM") - before) / 2**20


def everything(folder: Path) -> dict[str, str]:
    """All that is in a folder, with digests of what is in the files."""
    found = {}
    for path in folder.rglob("*"):
        if folder / "cache" in (path, *path.parents):
            continue  # what was found out about pictures may be kept there
        mode = path.lstat().st_mode
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""
        found[str(path.relative_to(folder))] = f"{stat.S_IFMT(mode):o} {digest}"
    return found


@pytest.fixture(scope="module")
def stopped_folder(
    tiny: Experiment, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run that still has its checkpoint; for reading only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smidgen.runs.run.remove_checkpoints", lambda _: None)
        patch.setattr("smidgen.runs.train.write_report", lambda *_: None)
        found = run(tiny, RunOptions(out=tmp_path_factory.mktemp("stopped")), dataset=digits).folder
    assert found is not None
    return found


@pytest.fixture
def place(
    tmp_path: Path, finished_folder: Path, stopped_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    at = Place(tmp_path / "here", tmp_path / "outside", finished_folder, stopped_folder)
    at.here.mkdir()
    at.outside.mkdir()
    monkeypatch.chdir(at.here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return at


def refused(words: list[str], says: str, place: Place, tmp_path: Path, capfd: Capture) -> None:
    """The command ends with 2 and one line, and everything is as it was."""
    before = everything(tmp_path)
    capfd.readouterr()
    with watched() as took:
        status = main(words)
    out, err = capfd.readouterr()
    assert status == 2, out + err
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("smidgen: ")
    assert says in err
    assert not place.canary.exists()
    assert everything(tmp_path) == before
    assert took["seconds"] < MOST_SECONDS
    assert took.get("mb", 0) < MOST_MB


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_and_nothing_else_happens(
    name: str, place: Place, tmp_path: Path, capfd: Capture
) -> None:
    make, says = CASES[name]
    refused(make(place), says, place, tmp_path, capfd)


# ------------------------------------------------------- archives of the published sets: as if they
# had the published digests, as otherwise nothing of them is looked at


def tarred(*members: tuple[str, bytes, str]) -> Callable[[Path], None]:
    """Names, types and where links lead."""

    def made(path: Path) -> None:
        with tarfile.open(path, "w:gz") as archive:
            for name, kind, target in members:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, target
                archive.addfile(member)

    return made


def tar_bomb(path: Path) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("bomb")
        member.size = 3 * 10**8
        archive.addfile(member, io.BytesIO(bytes(member.size)))


def zipped(name: str, mode: int = 0, size: int = 0) -> Callable[[Path], None]:
    def made(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, bytes(size))

    return made


ARCHIVES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "tar: a parent path": ("cifar-10", tarred(("../evil", tarfile.REGTYPE, "")), "leaves its"),
    "tar: an absolute path": ("cifar-10", tarred(("/tmp/evil", tarfile.REGTYPE, "")), "leaves its"),
    "tar: a link": (
        "cifar-10",
        tarred(("a", tarfile.SYMTYPE, "/etc/passwd")),
        "a link or a device",
    ),
    "tar: a hard link": ("cifar-10", tarred(("a", tarfile.LNKTYPE, "b")), "a link or a device"),
    "tar: a device": ("cifar-10", tarred(("a", tarfile.CHRTYPE, "")), "a link or a device"),
    "tar: a pipe": ("cifar-10", tarred(("a", tarfile.FIFOTYPE, "")), "a link or a device"),
    "tar: a bomb": ("cifar-10", tar_bomb, "unpacks to more than it should hold"),
    "zip: a parent path": ("emnist-digits", zipped("../evil"), "leaves its folder"),
    "zip: an absolute path": ("emnist-digits", zipped("/tmp/evil"), "leaves its folder"),
    "zip: a path of Windows": ("emnist-digits", zipped("C:\\evil"), "leaves its folder"),
    "zip: a link": ("emnist-digits", zipped("a", stat.S_IFLNK | 0o777), "a link or a device"),
    "zip: a bomb": (
        "emnist-digits",
        zipped("gzip/emnist-digits-train-images-idx3-ubyte.gz", size=4 * 10**8),
        "it should have at most",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_refused_whole(
    name: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    which, make, says = ARCHIVES[name]
    [source] = BUILT_IN[which].files
    make(place.here / source.packed.name)
    monkeypatch.setattr("smidgen.data.named.sources._require_digest", lambda *_: None)
    refused(["data", "get", which, "--data-dir", "."], says, place, tmp_path, capfd)


# ------------------------------------------------------------------- what is read and does no harm


def test_a_record_that_names_a_module_runs_nothing_in_pages(
    place: Place, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "smidgen.report.run_page.sections_of", lambda _: []
    )  # pictures take seconds
    foreign("{}/evil.py:Net")(place)
    place.code(place.run / "evil.py")
    (place.here / "README.md").write_text("<!-- smidgen results run -->\n<!-- smidgen end -->\n")
    assert main(["report", "run"]) == 0
    assert main(["readme", "--update", "README.md"]) == 0
    assert main(["audit", "README.md"]) == 0
    assert main(["audit", "run/experiment.toml"]) == 0
    assert not place.canary.exists()


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_names_of_classes_are_text_in_a_report(name: str, place: Place, capfd: Capture) -> None:
    names = [f"{name}{number}" for number in range(10)]
    assert main(put("data.classes", names)(place)) == 0
    text = (place.run / "report.html").read_text(encoding="utf-8")
    assert name not in text
    assert "<img src=x" not in text


def test_names_of_classes_are_no_formulas(place: Place, capfd: Capture) -> None:
    names = [r"$\frac{" + str(number) for number in range(10)]
    assert main(put("data.classes", names)(place)) == 0
    assert capfd.readouterr().err == ""


def test_the_table_is_no_shorter_than_it_was() -> None:
    assert len(CASES) + len(ARCHIVES) >= 100
