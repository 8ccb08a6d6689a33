from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from smidgen.config import Budget
from smidgen.record import Epoch, RunRecord, Score, Times
from smidgen.report.observations import observations, result_sentence


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


def test_a_run_without_validation_says_so(record: RunRecord) -> None:
    found = observations(crafted(record, [None, None]))
    assert found[0].startswith("There is no validation split")
    assert not [sentence for sentence in found if "alidation accuracy" in sentence]


@pytest.mark.parametrize(
    ("train", "gap", "reading"),
    [
        (0.99, "+2.00", "does better on its training images than on new ones"),
        (0.97, "+0.00", "does not overfit"),
        (0.90, "-7.00", "does not overfit"),
    ],
)
def test_the_gap_says_whether_the_network_overfits(
    record: RunRecord, train: float, gap: str, reading: str
) -> None:
    sentence = observations(crafted(record, [0.5, 0.97], train=train))[0]
    assert f"accuracy is {100 * train:.2f} % in training and 97.00 % in validation" in sentence
    assert f"a gap of {gap} points" in sentence
    assert reading in sentence


@pytest.mark.parametrize(
    ("validation", "sentence"),
    [
        ((0.9, 0.95, 0.96), "Validation accuracy first reached 95.00 % after epoch 2."),
        ((0.96, 0.5, 0.5), "Validation accuracy first reached 95.00 % after epoch 1."),
        ((0.9, 0.94, 0.93), "Validation accuracy never reached 95.00 %; the best was 94.00 %."),
    ],
)
def test_the_first_epoch_at_the_target_accuracy(
    record: RunRecord, validation: Sequence[float], sentence: str
) -> None:
    assert sentence in observations(crafted(record, validation))
    without = observations(crafted(record, validation, target=None))
    assert not [sentence for sentence in without if "reached" in sentence]


def test_where_the_parameters_are(record: RunRecord) -> None:
    profile = record.profile
    (sentence,) = [sentence for sentence in observations(record) if "parameters" in sentence]
    ordered = sorted(profile.layers, key=lambda layer: -layer.params)
    assert sentence.startswith(f"Most of the {profile.num_params:,} parameters are in ")
    names = [sentence.index(f"{layer.name} with {layer.params:,} (") for layer in ordered[:3]]
    assert names == sorted(names)
    none = replace(profile, layers=tuple(replace(layer, params=0) for layer in profile.layers))
    assert not [
        sentence
        for sentence in observations(replace(record, profile=none))
        if "parameters" in sentence
    ]


def test_the_most_confused_pairs(record: RunRecord) -> None:
    confusion = [[10 if i == j else 0 for j in range(10)] for i in range(10)]
    confusion[4][9], confusion[9][4], confusion[3][5] = 2, 7, 5
    test = replace(
        record.test,
        confusion=tuple(tuple(row) for row in confusion),
        num_images=114,
        num_correct=100,
    )
    sentence = observations(replace(record, test=test))[-1]
    assert sentence == (
        "Of 14 misclassified test images, the most frequent: 9 predicted as 4 (7), "
        "3 predicted as 5 (5), 4 predicted as 9 (2)."
    )


def test_a_single_mistake_is_counted_in_the_singular(record: RunRecord) -> None:
    confusion = [[36 if i == j else 0 for j in range(10)] for i in range(10)]
    confusion[3][5] = 1
    table = tuple(map(tuple, confusion))
    test = replace(record.test, confusion=table, num_images=361, num_correct=360)
    assert observations(replace(record, test=test))[-1] == (
        "Of 1 misclassified test image, the most frequent: 3 predicted as 5 (1)."
    )


def test_a_network_without_errors_has_no_confused_pairs(record: RunRecord) -> None:
    confusion = tuple(tuple(36 if i == j else 0 for j in range(10)) for i in range(10))
    test = replace(record.test, confusion=confusion, num_correct=360)
    assert (
        observations(replace(record, test=test))[-1] == "Every test image was classified correctly."
    )


def test_the_result_names_its_interval_and_the_looks_at_the_test_set(record: RunRecord) -> None:
    test = replace(
        record.test,
        score=Score(loss=0.02, accuracy=0.994),
        num_images=10_000,
        num_correct=9940,
    )
    text = result_sentence(replace(record, test=test), Times(started="", train_seconds=83.4))
    assert text.startswith("99.40 % of 10,000 test images after epoch 2, the last one (99.23 to")
    assert "99.23 to 99.53 % with 95 % confidence" in text
    assert "the test set was scored once. Training took 1 min 23 s." in text
    assert "Training" not in result_sentence(record)
    assert "scored 15 times." in result_sentence(replace(record, test_looks=15))
