from dataclasses import replace

import pytest

from smidgen.budget import Budget, LimitVerdict, Verdict
from smidgen.record import RunRecord, Score, Times
from smidgen.report import percent, result_text, seconds, verdict_text
from smidgen.report.formatting import limit_cells


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10.0, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3725, "62 min 5 s"),
    ],
)
def test_durations(value: float, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0.00 %"), (0.9946, "99.46 %"), (1 / 3, "33.33 %"), (1, "100.00 %")]
)
def test_percentages(share: float, shown: str) -> None:
    assert percent(share) == shown


@pytest.mark.parametrize("limit", Budget.__dataclass_fields__)
def test_every_limit_has_a_name_and_a_side(limit: str) -> None:
    name, bound, figure, passed = limit_cells(
        LimitVerdict(limit=limit, bound=1, figure=1, passed=True)
    )
    assert name.isascii()
    assert "_" not in name
    if limit == "min_accuracy":
        assert (bound, figure) == ("at least 100.00 %", "100.00 %")
    else:
        assert (bound, figure) == ("at most 1", "1")
    assert passed == "pass"


def test_a_verdict_has_an_aligned_line_for_each_limit() -> None:
    verdict = Verdict(
        limits=(
            LimitVerdict(limit="max_params", bound=7999, figure=850, passed=True),
            LimitVerdict(limit="min_accuracy", bound=0.994, figure=0.9931, passed=False),
        )
    )
    assert verdict_text(verdict).splitlines() == [
        "verdict: NOT inside the budget",
        "  parameters     at most 7,999         850  pass",
        "  test accuracy  at least 99.40 %  99.31 %  FAIL",
    ]
    kept = Verdict(limits=verdict.limits[:1])
    assert verdict_text(kept).splitlines()[0] == "verdict: inside the budget"
    assert verdict_text(Verdict(limits=())) == "verdict: no limits to judge"


def test_a_result_has_its_interval_and_its_looks(record: RunRecord) -> None:
    test = replace(
        record.test,
        score=Score(loss=0.02, accuracy=0.994),
        num_images=10_000,
        num_correct=9940,
    )
    text = result_text(replace(record, test=test), Times(started="", train_seconds=83.4))
    assert text.startswith("99.40 % of 10,000 test images after epoch 2, the last one (99.23 to")
    assert "99.23 to 99.53 % with 95 % confidence" in text
    assert "the test set was scored once. Training took 1 min 23 s." in text
    assert "Training" not in result_text(record)
    assert "scored 15 times." in result_text(replace(record, test_looks=15))
