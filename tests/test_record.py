import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smidgen.budget import LimitVerdict, Verdict
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
    format_epoch,
    format_record,
    read_record,
)
from smidgen.schema import from_plain

finite = st.floats(allow_nan=False, allow_infinity=False)
scores = st.builds(Score, loss=finite, accuracy=finite)
epochs = st.builds(
    Epoch,
    train=scores,
    validation=st.none() | scores,
    test=st.none() | scores,
    lr=finite,
    seconds=finite,
)
bins = st.builds(CalibrationBin, confidence=finite, accuracy=finite)
evaluations = st.builds(Evaluation, score=scores, calibration=st.lists(bins, max_size=2).map(tuple))
limits = st.builds(LimitVerdict, bound=finite, figure=finite)
verdicts = st.builds(Verdict, limits=st.lists(limits, max_size=3).map(tuple))
data = st.builds(
    DataRecord,
    image_shape=st.tuples(st.just(2), st.integers(1), st.integers(1)),
    mean=st.tuples(finite, finite),
    std=st.just((0.5, 1e-9)),
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.fixed_dictionaries(
        {
            "seed": st.integers(),
            "command": st.text(),
            "train_seconds": finite,
            "data": data,
            "profile": st.from_type(Profile),
            "epochs": st.lists(epochs, max_size=3).map(tuple),
            "test": evaluations,
            "environment": st.from_type(Environment),
            "verdict": verdicts,
        }
    )
)
def test_a_record_survives_json(record: RunRecord, changes: dict[str, Any]) -> None:
    fields = {name: getattr(record, name) for name in RunRecord.__dataclass_fields__}
    changed = RunRecord(**fields | changes)
    assert from_plain(RunRecord, json.loads(format_record(changed))) == changed


@given(epochs)
def test_an_epoch_is_one_line(epoch: Epoch) -> None:
    line = format_epoch(epoch)
    assert (line.count("\n"), line[-1]) == (1, "\n")
    assert from_plain(Epoch, json.loads(line)) == epoch


def test_the_record_of_a_run_reads_back_equal(finished_folder: Path, record: RunRecord) -> None:
    assert read_record(finished_folder) == record


def test_a_figure_that_is_no_number_is_never_written(record: RunRecord) -> None:
    wrong = Epoch(
        epoch=1,
        train=Score(loss=math.nan, accuracy=0.0),
        validation=None,
        test=None,
        lr=0.1,
        seconds=1.0,
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_epoch(wrong)


def test_a_run_that_did_not_finish_has_no_record(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(RecordError, match=r"is not a finished run: it holds no run\.json"):
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
        (b"[]", r"damaged: the file is \[\]; it must be a table"),
        (b"{}", f"schema None; this smidgen reads {SCHEMA}"),
        (b'{"schema": 2, "news": 1}', "schema 2; this smidgen reads 1. Repeat the run"),
        (b'{"schema": 1}', "damaged: experiment is missing"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
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
def test_an_edit_that_makes_no_sense_is_named(
    spoilable: Path, path: str, value: object, message: str
) -> None:
    plain = json.loads((spoilable / "run.json").read_text())
    *above, name = path.split(".")
    table = plain
    for key in above:
        table = table[key]
    table[name] = value
    (spoilable / "run.json").write_text(json.dumps(plain))
    with pytest.raises(RecordError, match=message):
        read_record(spoilable)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(share=st.floats(0, 1, exclude_max=True), byte=st.none() | st.integers(0, 255))
def test_a_damaged_record_is_a_record_or_a_record_error(
    tmp_path: Path, finished_folder: Path, share: float, byte: int | None
) -> None:
    content = (finished_folder / "run.json").read_bytes()
    place = int(share * (len(content) - 2))
    changed = content[:place]  # cut short, or one byte of it another
    if byte is not None:
        changed += bytes([byte]) + content[place + 1 :]
    (tmp_path / "run.json").write_bytes(changed)
    try:
        found = read_record(tmp_path)
    except RecordError:
        return
    assert byte is not None
    assert isinstance(found, RunRecord)
