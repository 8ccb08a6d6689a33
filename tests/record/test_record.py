import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forging import forge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smidgen._storage.serialization import from_plain
from smidgen.budget import Budget, LimitVerdict, Verdict
from smidgen.errors import RecordError
from smidgen.record import (
    SCHEMA,
    CalibrationBin,
    DataRecord,
    Environment,
    Epoch,
    Evaluation,
    Profile,
    RunRecord,
    Score,
    Times,
    format_epoch,
    format_record,
    format_times,
    is_sealed,
    read_record,
    read_times,
    seal,
)


def sealed(body: str) -> bytes:
    """The content of a file with its digest."""
    return seal(body).encode()


finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0)
scores = st.builds(Score, loss=st.floats(0, 1e38), accuracy=finite)
epochs = st.builds(
    Epoch,
    train=scores,
    validation=st.none() | scores,
    test=st.none() | scores,
    lr=finite,
)
bins = st.builds(CalibrationBin, confidence=finite, accuracy=finite)
evaluations = st.builds(
    Evaluation,
    score=scores,
    num_images=st.just(2**64),
    num_correct=st.integers(0, 2**64),
    confusion=st.tuples(st.tuples(counts, counts), st.tuples(counts, counts)),
    calibration=st.lists(bins, max_size=2).map(tuple),
)
limits = st.builds(
    LimitVerdict,
    limit=st.sampled_from([name for name in Budget.__dataclass_fields__ if name.startswith("m")]),
    bound=finite,
    value=finite,
)
verdicts = st.builds(Verdict, limits=st.lists(limits, max_size=3).map(tuple))
data = st.builds(
    DataRecord,
    image_shape=st.tuples(st.just(2), st.integers(1), st.integers(1)),
    mean=st.tuples(finite, finite),
    std=st.just((0.5, 1e-9)),
    classes=st.tuples(st.text(), st.text()),
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.fixed_dictionaries(
        {
            "seed": st.integers(),
            "command": st.text(),
            "caveats": st.lists(st.text(), max_size=2).map(tuple),
            "data": data,
            "profile": st.from_type(Profile),
            "epochs": st.lists(epochs, min_size=1, max_size=3).map(tuple),
            "test": evaluations,
            "environment": st.from_type(Environment),
            "verdict": verdicts,
        }
    )
)
def test_a_record_survives_json(record: RunRecord, changes: dict[str, Any]) -> None:
    fields = {name: getattr(record, name) for name in RunRecord.__dataclass_fields__}
    changed = RunRecord(**fields | changes)
    text = format_record(changed)
    plain = json.loads(text)
    assert len(plain.pop("sha256")) == 64
    assert from_plain(RunRecord, plain) == changed
    assert is_sealed(text)


@given(epochs)
def test_an_epoch_is_one_line(epoch: Epoch) -> None:
    line = format_epoch(epoch)
    assert (line.count("\n"), line[-1]) == (1, "\n")
    assert from_plain(Epoch, json.loads(line)) == epoch


def test_the_record_of_a_run_reads_back_equal(finished_folder: Path, record: RunRecord) -> None:
    assert read_record(finished_folder) == record


def test_nan_and_infinity_are_never_written(record: RunRecord) -> None:
    wrong = Epoch(
        epoch=1,
        train=Score(loss=math.nan, accuracy=0.0),
        validation=None,
        test=None,
        lr=0.1,
    )
    writers: list[tuple[Callable[[Any], str], Any]] = [
        (format_epoch, wrong),
        (format_record, replace(record, epochs=(wrong,))),
        (format_times, Times(started="", total_seconds=math.inf)),
    ]
    for write, value in writers:
        with pytest.raises(ValueError, match="not JSON compliant"):
            write(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: replace(r, epochs=()), "it has no epochs"),
        (lambda r: replace(r, data=replace(r.data, classes=("a", "b"))), "of 10 classes; the data"),
        (lambda r: replace(r.test, num_images=0), "it has 0 test images"),
        (lambda r: replace(r.test, num_correct=-1), "it has -1 correct of 360 test images"),
        (lambda r: replace(r.test, num_correct=361), "it has 361 correct of 360 test images"),
        (lambda r: replace(r.test, confusion=((1, 2), (3,))), "that is not square"),
        (lambda r: replace(r.test, confusion=()), "that is not square"),
        (lambda r: replace(r.test.score, loss=3.5e38), "beyond single precision"),
        (lambda r: replace(r.verdict.limits[0], limit="max_hope"), "it has the limit 'max_hope'"),
    ],
)
def test_a_record_refuses_what_no_run_can_have(
    record: RunRecord, change: Callable[[RunRecord], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        change(record)


def test_a_record_has_a_line_for_each_value(record: RunRecord) -> None:
    for text, following in (
        (format_record(record), f' "schema": {SCHEMA},'),
        (format_times(Times(started="today", stops=2)), ' "started": "today",'),
    ):
        assert text.endswith("\n}\n")
        first, digest, second, *_ = text.splitlines()
        assert first == "{"
        assert re.fullmatch(r' "sha256": "[0-9a-f]{64}",', digest)
        assert second == following


def test_a_run_that_did_not_finish_has_no_record(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(RecordError, match=r"is not a finished run: it has no run\.json"):
            read_record(folder)


def test_a_record_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RecordError, match=r"run.json cannot be read: Is a directory"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged: Expecting value"),
        (b"\xff\xfe", "damaged: 'utf-8' codec"),
        (b"[" * 100_000, "damaged: maximum recursion"),
        (b"[]", r"damaged: the file must be a table\.$"),
        (b'{"schema": 3, "seed": NaN}', r"damaged: NaN is not a number in JSON\.$"),
        (b'{"schema": 3, "seed": -Infinity}', r"damaged: -Infinity is not a number in JSON\.$"),
        (b"{}", "was changed after it was written"),
        (sealed('{\n "seed": 1\n}\n'), f"schema None; this smidgen reads {SCHEMA}"),
        (b'{"schema": 1, "news": 1}', "schema 1; this smidgen reads 3. Repeat the run"),
        (b'{"schema": 3}', "was changed after it was written: .* Restore the original"),
        (sealed('{\n "schema": 3\n}\n'), "damaged: experiment is missing"),
    ],
)
def test_an_invalid_record_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", "3", "damaged: seed is '3'; it must be an integer"),
        ("news", 1, "damaged: the file has no 'news'"),
        ("test.score.accuracy", True, "damaged: test.score.accuracy is True"),
        ("test.score.loss", 10**400, "damaged: test.score.loss is an integer too large"),
        ("test.confusion", [[1, 0.5]], r"damaged: test.confusion\[0\]\[1\] is 0.5"),
        ("profile.layers", [[]], r"damaged: profile.layers\[0\] is \[\]"),
        ("experiment.budget.min_accuracy", 99.4, "damaged: budget.min_accuracy is 99.4"),
        ("data.image_shape", [1, 28], "damaged: data.image_shape has 2 items"),
        ("data.std", [0.0], r"damaged: data has means .* deviations \(0.0,\)"),
        ("data.mean", [0.1, 0.2], "it must have one of each for 1 channels"),
    ],
)
def test_an_invalid_edit_is_named(run_copy: Path, path: str, value: object, message: str) -> None:
    def change(table: dict[str, Any]) -> None:
        *above, name = path.split(".")
        for key in above:
            table = table[key]
        table[name] = value

    forge(run_copy, change)
    for edited in (False, True):
        with pytest.raises(RecordError, match=message):
            read_record(run_copy, edited=edited)


# ------------------------------------------------------------------------------------ the digest


def test_every_change_of_a_character_is_found() -> None:
    text = format_times(Times(started="2026-01-01", epoch_seconds=(1.5, 2.0), stops=1))
    assert is_sealed(text)
    for place in range(len(text)):
        for character in {"0", "a", " ", "\n", "ä", '"', "}"} - {text[place]}:
            assert not is_sealed(text[:place] + character + text[place + 1 :])
        assert not is_sealed(text[:place])
        assert not is_sealed(text[:place] + text[place + 1 :])
        assert not is_sealed(text[:place] + " " + text[place:])
    assert not is_sealed(text + "\n")
    assert not is_sealed(text.replace("\n", "\r\n"))


def test_a_digest_of_other_content_is_found() -> None:
    one, other = (format_times(Times(started=day)) for day in ("2026-01-01", "2026-01-02"))
    first, second = (text.splitlines(keepends=True) for text in (one, other))
    assert first[1] != second[1]
    assert not is_sealed("".join([*first[:1], second[1], *first[2:]]))


def test_an_edited_record_is_refused_unless_edited_ones_are_allowed(
    run_copy: Path, record: RunRecord
) -> None:
    path = run_copy / "run.json"
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(RecordError, match=r"run.json was changed after it was written"):
        read_record(run_copy)
    assert read_record(run_copy, edited=True).seed == record.seed + 1


def test_times_are_read_from_times_json(finished_folder: Path, record: RunRecord) -> None:
    times = read_times(finished_folder)
    assert times is not None
    assert len(times.epoch_seconds) == len(record.epochs)
    assert 0 < sum(times.epoch_seconds) < times.train_seconds < times.total_seconds
    assert (times.stops, len(times.started)) == (0, len("2026-01-01T00:00:00+00:00"))


def test_times_may_be_missing_but_not_edited(run_copy: Path) -> None:
    path = run_copy / "times.json"
    path.write_text(path.read_text().replace('"stops": 0', '"stops": 1'))
    with pytest.raises(RecordError, match=r"times.json was changed after it was written"):
        read_times(run_copy)
    path.write_bytes(sealed('{\n "started": 1\n}\n'))
    with pytest.raises(RecordError, match=r"times.json is damaged: started is 1"):
        read_times(run_copy)
    path.unlink()
    assert read_times(run_copy) is None


def refuses(folder: Path, content: bytes) -> None:
    (folder / "run.json").write_bytes(content)
    with pytest.raises(RecordError):
        read_record(folder)


def test_a_record_cut_anywhere_is_refused(tmp_path: Path, finished_folder: Path) -> None:
    content = (finished_folder / "run.json").read_bytes()
    ends = {*range(100), *range(len(content) - 100, len(content))}
    for length in ends | set(random.Random(0).sample(range(len(content)), 800)):
        refuses(tmp_path, content[:length])


def test_a_record_with_one_wrong_bit_is_refused(tmp_path: Path, finished_folder: Path) -> None:
    content = (finished_folder / "run.json").read_bytes()
    draw = random.Random(0)
    for _ in range(1000):
        bit = draw.randrange(8 * len(content))
        spoilt = bytearray(content)
        spoilt[bit // 8] ^= 1 << bit % 8
        refuses(tmp_path, bytes(spoilt))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), put=st.binary(max_size=20), cut=st.integers(0, 20))
def test_a_record_with_other_bytes_is_refused(
    tmp_path: Path, finished_folder: Path, place: float, put: bytes, cut: int
) -> None:
    content = (finished_folder / "run.json").read_bytes()
    start = int(place * len(content))
    changed = content[:start] + put + content[start + cut :]
    if changed != content:
        refuses(tmp_path, changed)
