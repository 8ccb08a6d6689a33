import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.data.custom.splits import interleave_classes, stratified_split
from smidgen.errors import DataError

# Labels of up to five classes, with at least one class of two images, so that a split exists.
splittable = st.tuples(st.integers(0, 4), st.lists(st.integers(0, 4), max_size=60)).map(
    lambda pair: np.array([pair[0], pair[0], *pair[1]], np.int64)
)


@given(splittable, st.floats(0.01, 0.99), st.integers(0, 2**40))
def test_splits_are_stratified(labels: np.ndarray, share: float, seed: int) -> None:
    names = [str(i) for i in range(len(labels))]
    train, test = stratified_split(labels, names, share, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label, count in enumerate(np.bincount(labels)):
        num_test = int((labels[test] == label).sum())
        if count > 1:
            assert 1 <= num_test <= count - 1
            assert num_test in (1, count - 1) or abs(num_test - share * count) <= 0.5
        else:
            assert num_test == 0


def test_one_image_of_each_class_cannot_be_split() -> None:
    with pytest.raises(DataError, match="each class has only one image"):
        stratified_split(np.arange(3), ["a", "b", "c"], 0.2, 0)


def test_an_added_image_moves_few_others() -> None:
    labels, names = np.zeros(100, np.int64), [f"{i}.png" for i in range(100)]
    _, before = stratified_split(labels, names, 0.2, 0)
    _, after = stratified_split(np.zeros(101, np.int64), [*names, "new.png"], 0.2, 0)
    assert len({*before} ^ {*after}) <= 2


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 9))
def test_any_stretch_holds_the_share_of_each_class(drawn: list[int], seed: int) -> None:
    labels = np.array(drawn, np.int64)
    order = interleave_classes(labels, [str(i) for i in range(len(labels))], seed)
    assert sorted(order) == list(range(len(labels)))
    shares = np.bincount(labels, minlength=4) / len(labels)
    for end in range(1, len(labels) + 1):
        counts = np.bincount(labels[order[:end]], minlength=4)
        assert np.abs(counts - shares * end).max() <= 4
