import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.stats import wilson_interval


@pytest.mark.parametrize(
    ("correct", "low", "high"),
    [(9940, 0.9923, 0.9953), (9956, 0.9941, 0.9967), (5000, 0.4902, 0.5098)],
)
def test_known_intervals_on_ten_thousand_images(correct: int, low: float, high: float) -> None:
    assert wilson_interval(correct, 10_000) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)  # the first call imports scipy
@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_equals_scipy(pair: tuple[int, int]) -> None:
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    successes, trials = pair
    oracle = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(successes, trials)
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=1e-7)


def test_bounds_stay_between_0_and_1() -> None:
    for trials in range(1, 3000):
        assert 0 <= wilson_interval(0, trials)[0] < 1e-12
        assert 1 - 1e-12 < wilson_interval(trials, trials)[1] <= 1


def test_a_larger_z_is_wider() -> None:
    narrow, wide = wilson_interval(90, 100, z=1.0), wilson_interval(90, 100, z=2.5)
    assert wide[0] < narrow[0] < 0.9 < narrow[1] < wide[1]
