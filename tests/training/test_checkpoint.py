import errno
import hashlib
import json
import os
import pickle
import random
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from smidgen._storage.serialization import to_plain
from smidgen.errors import CheckpointError, SmidgenError
from smidgen.record import RunRecord, Times
from smidgen.training import Checkpoint, load_checkpoint, remove_checkpoints, save_checkpoint
from smidgen.training.checkpoint import decode_checkpoint

TENSORS = {
    "network.weight": torch.arange(6.0).reshape(2, 3),
    "average_steps": torch.tensor(7),
    "random.torch": torch.get_rng_state(),
}


@pytest.fixture
def checkpoint(record: RunRecord) -> Checkpoint:
    """A checkpoint of the finished run, as if stopped in its second epoch."""
    return Checkpoint(
        experiment=record.experiment,
        seed=2**63 - 1,
        device="auto",
        data_dir="/data/ä",
        skip_bad=True,
        code_sha256="0" * 64,
        data=record.data,
        environment=record.environment,
        times=Times(
            started="2026-01-01T00:00:00+00:00", epoch_seconds=(1.5,), train_seconds=2.25, stops=3
        ),
        warnings=("Look.",),
        caveats=("Resumed.",),
        epoch=2,
        batch=17,
        seconds=0.75,
        epochs=record.epochs[:1],
    )


@pytest.fixture
def small(checkpoint: Checkpoint) -> Checkpoint:
    """The same with less content."""
    return replace(checkpoint, epochs=(), caveats=(), times=Times(started=""))


def test_the_ends_of_what_makes_sense_are_inside(small: Checkpoint) -> None:
    for threads, seed in ((1, 0), (1024, 2**63 - 1)):
        environment = replace(small.environment, threads=threads)
        made = replace(small, environment=environment, seed=seed, epoch=1, batch=0, seconds=0.0)
        assert (made.seed, made.environment.threads) == (seed, threads)


@pytest.mark.parametrize(
    "change",
    [
        *({"seed": seed} for seed in (-1, 2**63)),
        *({"threads": threads} for threads in (0, 1025)),
        {"epoch": 0},
        {"batch": -1},
        {"seconds": -0.5},
        {"seconds": float("nan")},
    ],
)
def test_an_invalid_position_is_refused(small: Checkpoint, change: dict[str, Any]) -> None:
    if "threads" in change:
        change = {"environment": replace(small.environment, **change)}
    with pytest.raises(ValueError, match=r"^its seed, threads or position are out of range$"):
        replace(small, **change)


def test_an_infinite_number_is_never_written(tmp_path: Path, small: Checkpoint) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_checkpoint(tmp_path, replace(small, seconds=float("inf")), TENSORS)
    assert names(tmp_path) == []


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_saved_checkpoints_are_loaded(tmp_path: Path, checkpoint: Checkpoint) -> None:
    defaults = Checkpoint(
        **{f.name: getattr(checkpoint, f.name) for f in fields(Checkpoint) if f.name in REQUIRED}
    )
    for made in (checkpoint, defaults):
        save_checkpoint(tmp_path, made, {})
        assert load_checkpoint(tmp_path) == (made, {}, None)
    changed = {f.name for f in fields(Checkpoint)} - set(REQUIRED)
    assert all(getattr(checkpoint, name) != getattr(defaults, name) for name in changed)


REQUIRED = (
    *("experiment", "seed", "device", "data_dir", "skip_bad", "code_sha256"),
    *("data", "environment", "times"),
)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        torch.tensor([0.1, 1e300], dtype=torch.float64),
        torch.tensor([0.1], dtype=torch.bfloat16),
        torch.tensor([0.1], dtype=torch.float16),
        torch.tensor([-(2**63), 2**63 - 1]),
        torch.tensor([0, 255], dtype=torch.uint8),
        torch.tensor([True, False]),
        torch.tensor(3.5),
        torch.zeros(0),
        torch.zeros(2, 0, 3),
        torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
        torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.arange(10)[::3],
        torch.zeros(1).expand(5),
        torch.nn.Parameter(torch.ones(2)),
    ],
)
def test_a_tensor_of_any_kind_keeps_its_bits(
    tmp_path: Path, checkpoint: Checkpoint, tensor: Tensor
) -> None:
    save_checkpoint(tmp_path, checkpoint, {"a": tensor, "the same": tensor})
    _, found, _ = load_checkpoint(tmp_path)
    assert found.keys() == {"a", "the same"}
    for again in found.values():
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
        assert again.is_contiguous()
        one, other = ({"a": found.detach().clone().contiguous()} for found in (again, tensor))
        assert safetensors.torch.save(one) == safetensors.torch.save(other)


def test_the_same_state_gives_the_same_bytes(tmp_path: Path, checkpoint: Checkpoint) -> None:
    for _ in range(2):
        save_checkpoint(tmp_path, checkpoint, TENSORS)
    last, before = (tmp_path / f"{name}.checkpoint" for name in ("last", "previous"))
    assert last.read_bytes() == before.read_bytes()


def test_the_previous_checkpoint_remains(tmp_path: Path, checkpoint: Checkpoint) -> None:
    for batch in range(3):
        save_checkpoint(tmp_path, replace(checkpoint, batch=batch), TENSORS)
    assert names(tmp_path) == ["last.checkpoint", "previous.checkpoint"]
    assert load_checkpoint(tmp_path)[0].batch == 2
    (tmp_path / "last.checkpoint").unlink()
    found, _, damage = load_checkpoint(tmp_path)
    assert (found.batch, damage) == (1, None)


def test_one_that_cannot_be_written_leaves_the_last(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save_checkpoint(tmp_path, checkpoint, TENSORS)
    monkeypatch.setattr("os.write", full)
    with pytest.raises(SmidgenError, match=r"last.checkpoint cannot be written: No space left"):
        save_checkpoint(tmp_path, replace(checkpoint, batch=18), TENSORS)
    assert names(tmp_path) == ["last.checkpoint"]
    assert load_checkpoint(tmp_path)[0] == checkpoint


def test_a_finished_run_needs_no_checkpoint(tmp_path: Path, checkpoint: Checkpoint) -> None:
    (tmp_path / "run.json").touch()
    remove_checkpoints(tmp_path)
    for _ in range(2):
        save_checkpoint(tmp_path, checkpoint, TENSORS)
    remove_checkpoints(tmp_path)
    assert names(tmp_path) == ["run.json"]


@pytest.mark.parametrize("folder", [".", "none"])
def test_without_a_checkpoint_nothing_can_be_resumed(tmp_path: Path, folder: str) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint to resume from"):
        load_checkpoint(tmp_path / folder)


# ------------------------------------------------------------------------------------------ damage


def is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError):
        decode_checkpoint(content)


def test_one_cut_anywhere_is_refused(tmp_path: Path, small: Checkpoint) -> None:
    save_checkpoint(tmp_path, small, {"a": torch.ones(3)})
    content = (tmp_path / "last.checkpoint").read_bytes()
    assert len(content) < 10_000
    for length in range(len(content)):
        is_refused(content[:length])
    is_refused(content + b"\0")


def test_one_with_a_wrong_bit_is_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path, checkpoint, TENSORS)
    content = (tmp_path / "last.checkpoint").read_bytes()
    draw = random.Random(0)
    for _ in range(1000):
        bit = draw.randrange(8 * len(content))
        spoilt = bytearray(content)
        spoilt[bit // 8] ^= 1 << bit % 8
        is_refused(bytes(spoilt))


SPOILT: list[Callable[[bytes], bytes]] = [
    lambda content: content[:-1],
    lambda content: content[:40],
    lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    lambda _: b"",
    lambda _: pickle.dumps({"epoch": 1}),
    lambda content: content.replace(b"checkpoint 1", b"checkpoint 2", 1),
]


@pytest.mark.parametrize("change", SPOILT)
def test_if_the_last_one_is_damaged_the_previous_one_is_loaded(
    tmp_path: Path, checkpoint: Checkpoint, change: Callable[[bytes], bytes]
) -> None:
    for batch in (1, 2):
        save_checkpoint(tmp_path, replace(checkpoint, batch=batch), TENSORS)
    path = tmp_path / "last.checkpoint"
    path.write_bytes(change(path.read_bytes()))
    found, tensors, damage = load_checkpoint(tmp_path)
    assert found == replace(checkpoint, batch=1)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert damage is not None
    assert damage.startswith(f"{path} is damaged: it does not have the SHA-256")


@pytest.mark.parametrize("change", SPOILT)
def test_two_damaged_ones_are_an_error_that_names_both(
    tmp_path: Path, checkpoint: Checkpoint, change: Callable[[bytes], bytes]
) -> None:
    for _ in range(2):
        save_checkpoint(tmp_path, checkpoint, TENSORS)
    for name in names(tmp_path):
        path = tmp_path / name
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(
        CheckpointError, match=r"last\.checkpoint is .*states\. /.*previous\.checkpoint is "
    ):
        load_checkpoint(tmp_path)


def test_one_that_cannot_be_read_gives_way_too(tmp_path: Path, checkpoint: Checkpoint) -> None:
    for _ in range(2):
        save_checkpoint(tmp_path, checkpoint, TENSORS)
    (tmp_path / "last.checkpoint").unlink()
    (tmp_path / "last.checkpoint").mkdir()
    found, _, damage = load_checkpoint(tmp_path)
    assert found == checkpoint
    assert damage is not None
    assert "last.checkpoint cannot be read: Is a directory" in damage


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "last.checkpoint").write_bytes(dressed(pickle.dumps(Trap())))
    with pytest.raises(CheckpointError, match=r"last.checkpoint is not a checkpoint of"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "sprung").exists()


def dressed(body: bytes) -> bytes:
    """Put the head of a checkpoint, with its digest, before a body."""
    return b"smidgen checkpoint 1 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def with_header(header: dict[str, str] | None) -> bytes:
    return dressed(safetensors.torch.save({"a": torch.ones(2)}, header))


@pytest.mark.parametrize(
    "header",
    [
        None,
        {},
        {"other": "{}"},
        {"checkpoint": ""},
        {"checkpoint": "[]"},
        {"checkpoint": "1"},
        {"checkpoint": "null"},
        {"checkpoint": "{}"},
        {"checkpoint": "[" * 100_000},
        {"checkpoint": "NaN"},
        {"checkpoint": "9" * 5000},
    ],
)
def test_a_right_digest_of_something_else_is_refused(header: dict[str, str] | None) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint of this version of smidgen: "):
        decode_checkpoint(with_header(header))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain.update(news=1), "the file has no 'news'"),
        (lambda plain: plain.pop("seed"), "seed is missing"),
        (lambda plain: plain.update(epoch="1"), "epoch is '1'; it must be an integer"),
        (lambda plain: plain["experiment"]["train"].update(epochs=0), "train.epochs is 0"),
        (lambda plain: plain["data"].update(std=[0.0]), r"deviations \(0.0,\)"),
        (lambda plain: plain["epochs"].append({}), r"epochs\[1\].epoch is missing"),
    ],
)
def test_a_right_digest_of_a_wrong_content_is_refused(
    checkpoint: Checkpoint, change: Callable[[Any], object], message: str
) -> None:
    plain = json.loads(json.dumps(to_plain(checkpoint)))
    change(plain)
    with pytest.raises(CheckpointError, match=f"is not a checkpoint of .*: .*{message}"):
        decode_checkpoint(with_header({"checkpoint": json.dumps(plain)}))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=200), length=st.integers(0, 2**64 - 1) | st.integers(0, 200))
def test_garbage_with_a_right_digest_is_refused(body: bytes, length: int) -> None:
    is_refused(body)
    is_refused(dressed(body))
    is_refused(dressed(length.to_bytes(8, "little") + body))


def test_metadata_that_are_not_text_are_refused() -> None:
    header = b'{"__metadata__":{"checkpoint":null}}'
    body = len(header).to_bytes(8, "little") + header
    head = b"smidgen checkpoint 1 " + hashlib.sha256(body).hexdigest().encode() + b"\n"
    with pytest.raises(CheckpointError, match="its header is damaged"):
        decode_checkpoint(head + body)
