from dataclasses import replace
from typing import Any

import pytest

from smidgen.budget import Budget, LimitVerdict
from smidgen.record import Profile

PROFILE = Profile(
    input_shape=(1, 28, 28),
    output_shape=(10,),
    layers=(),
    num_params=7999,
    num_trainable_params=7000,
    macs=500_000,
    weight_bytes=31_996,
    peak_activation_bytes=40_000,
    largest_buffer_bytes=20_000,
    notes=(),
)
FIGURES = {
    "max_params": "num_params",
    "max_macs": "macs",
    "max_weight_bytes": "weight_bytes",
    "max_activation_bytes": "peak_activation_bytes",
}


@pytest.mark.parametrize(("limit", "figure"), FIGURES.items())
@pytest.mark.parametrize(("over", "passed"), [(-1, True), (0, True), (1, False)])
def test_a_figure_of_the_network_may_be_its_limit(
    limit: str, figure: str, over: int, passed: bool
) -> None:
    changes: dict[str, Any] = {figure: 12_345 + over}
    profile = replace(PROFILE, **changes)
    verdict = Budget(**{limit: 12_345}).check(profile)
    line = LimitVerdict(limit=limit, bound=12_345, figure=12_345 + over, passed=passed)
    assert verdict.limits == (line,)
    assert verdict.passed is passed


@pytest.mark.parametrize(("epochs", "passed"), [(13, True), (14, True), (15, False)])
def test_epochs_may_be_their_limit(epochs: int, passed: bool) -> None:
    verdict = Budget(max_epochs=14).check(PROFILE, epochs=epochs)
    line = LimitVerdict(limit="max_epochs", bound=14, figure=epochs, passed=passed)
    assert verdict.limits == (line,)


@pytest.mark.parametrize("num_images", [360, 10_000])
def test_accuracy_at_the_limit_passes_and_one_image_less_does_not(num_images: int) -> None:
    budget = Budget(min_accuracy=0.95)
    for correct, passed in ((0.95 * num_images, True), (0.95 * num_images - 1, False)):
        accuracy = round(correct) / num_images
        (line,) = budget.check(PROFILE, accuracy=accuracy).limits
        assert (line.figure, line.passed) == (accuracy, passed)


def test_an_accuracy_of_nothing_is_a_limit_that_is_judged() -> None:
    assert Budget(min_accuracy=0.0).check(PROFILE, accuracy=0.0).limits[0].passed
    assert not Budget(min_accuracy=1.0).check(PROFILE, accuracy=0.0).limits[0].passed


def test_what_is_left_out_does_not_bind() -> None:
    assert Budget().check(PROFILE, epochs=10**6, accuracy=0.0).limits == ()
    assert Budget().check(PROFILE).passed
    assert Budget(max_epochs=1, min_accuracy=1.0).check(PROFILE).limits == ()  # not known yet


def test_one_limit_that_is_missed_is_a_budget_that_is_missed() -> None:
    budget = Budget(max_params=7999, max_macs=499_999, max_epochs=14, min_accuracy=0.994)
    verdict = budget.check(PROFILE, epochs=14, accuracy=0.995)
    assert [line.limit for line in verdict.limits if not line.passed] == ["max_macs"]
    assert len(verdict.limits) == 4
    assert not verdict.passed


def test_every_limit_of_a_budget_is_judged() -> None:
    limits = dict.fromkeys(Budget.__dataclass_fields__, 1)
    verdict = Budget(**limits).check(PROFILE, epochs=1, accuracy=1.0)
    assert {line.limit for line in verdict.limits} == set(limits)
