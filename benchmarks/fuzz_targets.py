"""The fuzzer's targets: for each parser, valid inputs and ways to damage them."""

import copy
import dataclasses
import gzip
import hashlib
import io
import json
import math
import re
import struct
import tempfile
import types
import typing
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smidgen._storage.serialization import from_plain, to_plain
from smidgen.config import Experiment, read_experiment
from smidgen.data.custom.arrays import read_arrays
from smidgen.data.idx import parse_idx, parse_idx_int32
from smidgen.errors import SmidgenError
from smidgen.models.chain import build_chain
from smidgen.record import RECORD, SCHEMA, RunRecord, read_record
from smidgen.training import checkpoint as checkpoints

Read = Callable[[bytes, Path], None]
Change = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Target:
    """A parser."""

    read: Read
    """Parses an input; the folder is for files."""
    change: Change
    """Damages an input but keeps its syntax, to get past the first checks; raises if the input
    does not have that syntax."""
    samples: Callable[[], list[bytes]]
    """Valid inputs."""
    share: float
    """Fraction of all inputs."""


TOML = b"""[experiment]\nname = "tiny"\ntarget = "Small."\n[budget]\nmax_params = 7_999
min_accuracy = 0.994\n[model]\nchain = "8 M 8 G"\n[data]\nname = "digits"
augment = { rotate = 10, translate = 0.1 }\n[train]\nepochs = 3\nbatch_size = 128
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9, nesterov = true }
schedule = { name = "one-cycle", warmup = 0.2 }\n[analysis]\ntext = \"\"\"It\nlearns.\"\"\"\n"""
OWN = TOML.replace(b'chain = "8 M 8 G"', b'module = "a.py:Net"\nargs = { width = 3, "a b" = nan }')
SPLIT = TOML.replace(
    b'name = "digits"', b'path = "x"\nsize = 8\ngrayscale = true\nsplit.test = 0.3'
)
LONG = "a" * 300 + ".py:Net"
DEEP = "\1deep"
ODD: list[Any] = [None, True, 0, -1, 2**64, 1 << 1100, 0.5, 1e308, float("nan"), "", "x", "\0"]
ODD += ["\ud800", [], {}, LONG, DEEP, "[experiment]"]
ODD_TOML = rb'-1 0x7 1e999 nan "" """ \' [ [[ ]] { } = , . \n # 07:32:00 1979-05-27 \u0000'.split()
ODD_TOML += [LONG.encode(), b"[" * 2000, b"0x" + b"f" * 5000, b"module = ", b"true"]
CHAIN = b"8 4096 M M3 A2 G F ,k1 ,k4096 ,p1 ,p4096 ,s2 ,s0 ,d ,r ,o0.1 ,o1 , 0 12,d,p1 x".split()
DTYPES = ["|u1", "<i8", ">u2", "|b1", "<f4", "|O", "<U3", "|V0", "<M8[s]", "(2,)u1", "u1,u1"]


def read_idx(content: bytes, folder: Path) -> None:
    try:
        parse_idx(content, "file")
    except SmidgenError:
        parse_idx_int32(content, "file")


def read_gzip(content: bytes, folder: Path) -> None:
    images, labels = folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.arange(3, dtype=np.uint8)))
    images.write_bytes(content)
    read_arrays([images, labels])


def read_named(name: str) -> Read:
    def read(content: bytes, folder: Path) -> None:
        (folder / name).write_bytes(content)
        read_arrays([folder / name])

    return read


def read_toml(content: bytes, folder: Path) -> None:
    # naming an experiment may run code anyway: only exceptions other than ours count
    (folder / "experiment.toml").write_bytes(content)
    read_experiment(folder / "experiment.toml").to_toml()


def read_run(content: bytes, folder: Path) -> None:
    (folder / RECORD).write_bytes(content)
    try:
        read_record(folder)
    except SmidgenError:
        read_record(folder, edited=True)  # behind the seal, which no changed record keeps


def read_checkpoint(content: bytes, folder: Path) -> None:
    try:
        checkpoints.decode_checkpoint(content)
    except SmidgenError:
        checkpoints.decode_checkpoint(sealed(content.partition(b"\n")[2]))


def read_chain(content: bytes, folder: Path) -> None:
    build_chain(content.decode(errors="replace"), (1, 28, 28), 10)


def idx(array: NDArray[Any]) -> bytes:
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8 if array.itemsize == 1 else 12, array.ndim]) + shape + array.tobytes()


def npz(packing: int) -> bytes:
    arrays: dict[str, NDArray[Any]]
    arrays = {"x_train": np.zeros((4, 3, 3), np.uint8), "y_train": np.arange(4)}
    arrays |= {"x_test": np.zeros((2, 3, 3), np.uint8), "y_test": np.arange(2)}
    members = []
    for name, array in arrays.items():
        np.save(stream := io.BytesIO(), array)
        members.append((f"{name}.npy", stream.getvalue()))
    return zipped(members, packing)


def zipped(members: list[tuple[str, bytes]], packing: int) -> bytes:
    with zipfile.ZipFile(stream := io.BytesIO(), "w", packing) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def plain(kind: Any) -> Any:
    """Plain data of which from_plain makes a `kind`."""
    if kind is Experiment:
        return to_plain(Experiment.from_toml(TOML.decode()))
    arguments, origin = typing.get_args(kind), typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        names = [each.name for each in dataclasses.fields(kind)]
        return {name: "max_params" if name == "limit" else plain(hints[name]) for name in names}
    if origin is tuple:
        return [plain(argument) for argument in arguments if argument is not Ellipsis]
    if origin in (typing.Union, types.UnionType):
        return plain(arguments[0])
    return {int: 1, float: 0.5, str: "x", bool: True}[kind]


def run_json() -> bytes:
    record = {**plain(RunRecord), "trained_elsewhere": False}  # it has epochs
    return json.dumps({**record, "schema": SCHEMA, "sha256": "0" * 64}).encode()


def checkpoint() -> bytes:
    made = from_plain(checkpoints.Checkpoint, plain(checkpoints.Checkpoint))
    with tempfile.TemporaryDirectory() as folder:
        tensors = {"a": torch.zeros(2, 3), "b": torch.ones(1, dtype=torch.int64)}
        checkpoints.save_checkpoint(Path(folder), made, tensors)
        return (Path(folder) / checkpoints.CHECKPOINT).read_bytes()


def sealed(body: bytes) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return b"smidgen checkpoint 1 " + digest.encode() + b"\n" + body


def spoil(content: bytes, random: Random) -> bytes:
    start, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
    some = random.randbytes(random.randint(0, 8))
    return random.choice(
        [content[:start] + some + content[start + len(some) :], content[:start] + content[end:]]
    )


def change_words(vocabulary: list[bytes]) -> Change:
    def change(content: bytes, random: Random) -> bytes:
        words = re.findall(rb"[\w+-]+|\s+|.", content)
        known = [*vocabulary, *words]
        for _ in range(random.randint(1, 4)):
            place, to = random.randrange(len(words)), random.randrange(len(words))
            first, last = min(place, to), max(place, to)
            new = [[], [random.choice(known)], words[first:last], [words[place]] * 9]
            words[place : place + random.randint(0, 2)] = random.choice(new)
        return b"".join(words)

    return change


def change_idx(content: bytes, random: Random) -> bytes:
    shape = [random.choice([0, 1, 2, 3, 28, 2**32 - 1]) for _ in range(random.randint(0, 9))]
    kind = random.choice([8, 12])
    num_bytes = math.prod(shape) * (1 if kind == 8 else 4) + random.choice([0, 0, 0, 1, -1])
    values = random.randbytes(num_bytes) if 0 <= num_bytes <= 1 << 12 else content[4:]
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


def change_gzip(content: bytes, random: Random) -> bytes:
    inner = gzip.decompress(content)
    inner = change_idx(inner, random) if random.random() < 0.5 else spoil(inner, random)
    return gzip.compress(inner, random.choice([0, 9])) + random.choice([b"", b"", b"\0", content])


def change_npz(content: bytes, random: Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    place = random.randrange(len(members))
    name, inner = members[place]
    shape = tuple(
        random.choice([-1, 0, 1, 2, 3, 4, 5000, 10**4000]) for _ in range(random.randint(0, 5))
    )
    header = {
        "descr": random.choice(DTYPES),
        "fortran_order": random.random() < 0.5,
        "shape": shape,
    }
    said = str(header).encode() + b"\n"
    start = b"\x93NUMPY" + random.choice([b"\1\0", b"\1\0", b"\2\0", b"\3\0"])
    start += len(said).to_bytes(4 if start[-2] == 2 else 2, "little")
    members[place : place + random.choice([0, 1, 1, 1])] = random.choice(
        [
            [],
            [(name, spoil(inner, random))],
            [(name, start + said + bytes(random.choice([0, 4, 36])))],
        ]
    )
    return zipped(members, random.choice([0, 0, 8, 8, 12, 14]))


def change_json(content: bytes, random: Random) -> bytes:
    top = json.loads(content)
    places = [(top, key) for key in top]
    for inside, key in places:  # it grows as it is walked
        if isinstance(inner := inside[key], dict | list):
            places += [
                (inner, k) for k in (inner if isinstance(inner, dict) else range(len(inner)))
            ]
    for _ in range(random.randint(1, 3)):
        inside, key = random.choice(places)
        other, its = random.choice(places)
        try:
            new = [*ODD, other[its], [inside[key]] * random.randint(0, 3)]
        except (KeyError, IndexError):  # changed away
            continue
        inside[key] = copy.deepcopy(random.choice(new))
        if isinstance(inside, dict) and random.random() < 0.2:
            inside[random.choice(["x", key + "x"])] = inside.pop(key)
    depth = random.choice([100, 900, 950, 970, 990, 2000])
    return json.dumps(top).replace(json.dumps(DEEP), "[" * depth + "]" * depth).encode()


def change_checkpoint(content: bytes, random: Random) -> bytes:
    body = content.partition(b"\n")[2]
    end = 8 + int.from_bytes(body[:8], "little")
    header, values = json.loads(body[8:end]), body[end:]
    if random.random() < 0.5:
        inner = header["__metadata__"]["checkpoint"].encode()
        header["__metadata__"]["checkpoint"] = change_json(inner, random).decode()
        said = json.dumps(header).encode()
    else:
        said = random.choice([change_json, change_words(CHAIN + ODD_TOML)])(body[8:end], random)
    values = random.choice([values, values, spoil(values, random)])
    return sealed(len(said).to_bytes(8, "little") + said + values)


TARGETS = {
    "idx": Target(
        read_idx, change_idx, lambda: [idx(np.zeros((2, 3), kind)) for kind in ("u1", ">i4")], 0.15
    ),
    "gzip": Target(
        read_gzip, change_gzip, lambda: [gzip.compress(idx(np.zeros((3, 2, 2), "u1")))], 0.15
    ),
    "npz": Target(read_named("a.npz"), change_npz, lambda: [npz(0), npz(8)], 0.1),
    "csv": Target(
        read_named("a.csv"),
        change_words([b"label", b",", b"\n", b"256", b"0", b"9" * 10, b"1,2,3,4,5\n", b'"']),
        lambda: [b"label,a,b,c,d\n1,2,3,4,5\n0,0,0,0,255\n", b"1,2\n3,4\n"],
        0.15,
    ),
    "toml": Target(read_toml, change_words(ODD_TOML), lambda: [TOML, OWN, SPLIT], 0.15),
    "record": Target(read_run, change_json, lambda: [run_json()], 0.1),
    "checkpoint": Target(read_checkpoint, change_checkpoint, lambda: [checkpoint()], 0.05),
    "chain": Target(
        read_chain,
        change_words(CHAIN),
        lambda: [b"8 8 M 12 12 12 12 G", b"8,s2,p1 8,p1,r A 16,d,o0.1 16,k1 F"],
        0.15,
    ),
}
