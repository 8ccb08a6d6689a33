from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from smidgen.config import Budget
from smidgen.record import Epoch, RunRecord, Score
from smidgen.report.observations import facts


def crafted(
    record: RunRecord,
    validation: Sequence[float | None],
    *,
    train: float = 0.9,
    target: float | None = 0.95,
    **changes: Any,
) -> RunRecord:
    """The record with epochs of these accuracies and this target."""
    epochs = tuple(
        Epoch(
            epoch=number,
            train=Score(loss=0.5, accuracy=train),
            validation=None if accuracy is None else Score(loss=0.4, accuracy=accuracy),
            test=None,
            lr=0.1,
        )
        for number, accuracy in enumerate(validation, start=1)
    )
    experiment = replace(record.experiment, budget=Budget(min_accuracy=target))
    return replace(record, epochs=epochs, experiment=experiment, **changes)


def test_without_validation_that_is_said(record: RunRecord) -> None:
    found = facts(crafted(record, [None, None]))
    assert found[0].startswith("No images were set aside for validation")
    assert not [fact for fact in found if "alidation accuracy" in fact]


@pytest.mark.parametrize(
    ("train", "gap", "reading"),
    [
        (0.99, "+2.00", "knows its training images better than new ones"),
        (0.97, "+0.00", "does not overfit"),
        (0.90, "-7.00", "does not overfit"),
    ],
)
def test_the_gap_is_read(record: RunRecord, train: float, gap: str, reading: str) -> None:
    sentence = facts(crafted(record, [0.5, 0.97], train=train))[0]
    assert f"accuracy is {100 * train:.2f} % in training and 97.00 % in validation" in sentence
    assert f"a gap of {gap} points" in sentence
    assert reading in sentence


@pytest.mark.parametrize(
    ("validation", "sentence"),
    [
        ((0.9, 0.95, 0.96), "Validation accuracy first reached 95.00 % after epoch 2."),
        ((0.96, 0.5, 0.5), "Validation accuracy first reached 95.00 % after epoch 1."),
        ((0.9, 0.94, 0.93), "Validation accuracy never reached 95.00 %; its best was 94.00 %."),
    ],
)
def test_the_first_epoch_at_the_target(
    record: RunRecord, validation: Sequence[float], sentence: str
) -> None:
    assert sentence in facts(crafted(record, validation))
    without = facts(crafted(record, validation, target=None))
    assert not [fact for fact in without if "reached" in fact]


def test_where_the_parameters_are(record: RunRecord) -> None:
    profile = record.profile
    (sentence,) = [fact for fact in facts(record) if "parameters" in fact]
    ordered = sorted(profile.layers, key=lambda layer: -layer.params)
    assert sentence.startswith(f"Of {profile.num_params:,} parameters, the most are in ")
    names = [sentence.index(f"{layer.name} {layer.params:,} (") for layer in ordered[:3]]
    assert names == sorted(names)
    none = replace(profile, layers=tuple(replace(layer, params=0) for layer in profile.layers))
    assert not [fact for fact in facts(replace(record, profile=none)) if "parameters" in fact]


def test_the_most_confused_pairs(record: RunRecord) -> None:
    confusion = [[10 if i == j else 0 for j in range(10)] for i in range(10)]
    confusion[4][9], confusion[9][4], confusion[3][5] = 2, 7, 5
    test = replace(
        record.test,
        confusion=tuple(tuple(row) for row in confusion),
        num_images=114,
        num_correct=100,
    )
    sentence = facts(replace(record, test=test))[-1]
    assert sentence == (
        "Of 14 wrong test images, the most frequent: 9 taken for 4 (7), 3 taken for 5 (5), "
        "4 taken for 9 (2)."
    )


def test_a_network_without_errors_has_no_confused_pairs(record: RunRecord) -> None:
    confusion = tuple(tuple(36 if i == j else 0 for j in range(10)) for i in range(10))
    test = replace(record.test, confusion=confusion, num_correct=360)
    assert facts(replace(record, test=test))[-1] == "Every test image was classified rightly."
