from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from smidgen.budget import Budget, LimitVerdict, Verdict
from smidgen.errors import ConfigError
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
ATTRIBUTES = {
    "max_params": "num_params",
    "max_macs": "macs",
    "max_weight_bytes": "weight_bytes",
    "max_activation_bytes": "peak_activation_bytes",
}


LIMITS = [name for name in Budget.__dataclass_fields__ if name.startswith(("max_", "min_"))]


@pytest.mark.parametrize(("limit", "attribute"), ATTRIBUTES.items())
@pytest.mark.parametrize(("over", "passed"), [(-1, True), (0, True), (1, False)])
def test_a_value_equal_to_its_limit_passes(
    limit: str, attribute: str, over: int, passed: bool
) -> None:
    changes: dict[str, Any] = {attribute: 12_345 + over}
    profile = replace(PROFILE, **changes)
    limits: dict[str, Any] = {limit: 12_345}
    verdict = Budget(**limits).check(profile)
    line = LimitVerdict(limit=limit, bound=12_345, value=12_345 + over, passed=passed)
    assert verdict.limits == (line,)
    assert verdict.passed is passed


@pytest.mark.parametrize(("epochs", "passed"), [(13, True), (14, True), (15, False)])
def test_epochs_may_be_their_limit(epochs: int, passed: bool) -> None:
    verdict = Budget(max_epochs=14).check(PROFILE, epochs=epochs)
    line = LimitVerdict(limit="max_epochs", bound=14, value=epochs, passed=passed)
    assert verdict.limits == (line,)


@pytest.mark.parametrize("num_images", [360, 10_000])
def test_accuracy_at_the_limit_passes_and_one_image_less_does_not(num_images: int) -> None:
    budget = Budget(min_accuracy=0.95)
    for correct, passed in ((0.95 * num_images, True), (0.95 * num_images - 1, False)):
        accuracy = round(correct) / num_images
        (line,) = budget.check(PROFILE, accuracy=accuracy).limits
        assert (line.value, line.passed) == (accuracy, passed)


def test_an_accuracy_of_nothing_is_a_limit_that_is_judged() -> None:
    assert Budget(min_accuracy=0.0).check(PROFILE, accuracy=0.0).limits[0].passed
    assert not Budget(min_accuracy=1.0).check(PROFILE, accuracy=0.0).limits[0].passed


def test_missing_limits_do_not_bind() -> None:
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
    limits: dict[str, Any] = dict.fromkeys(LIMITS, 1)
    budget = Budget(target="rv32i", **limits)
    verdict = budget.check(PROFILE, epochs=1, accuracy=1.0, flash_bytes=1, ram_bytes=1)
    assert {line.limit for line in verdict.limits} == set(LIMITS)


# ------------------------------------------------------------------------- a network for a profile


def shared() -> nn.Module:
    """20 parameters: the weight of both layers is one."""
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    return network


@pytest.mark.parametrize(("limit", "passed"), [(19, False), (20, True), (21, True)])
def test_a_network_serves_where_only_its_parameters_are_limited(limit: int, passed: bool) -> None:
    verdict = Budget(max_params=limit, max_epochs=3).check(shared(), epochs=2)
    params = LimitVerdict(limit="max_params", bound=limit, value=20, passed=passed)
    epochs = LimitVerdict(limit="max_epochs", bound=3, value=2, passed=True)
    assert verdict.limits == (params, epochs)


@pytest.mark.parametrize("limit", ["max_macs", "max_weight_bytes", "max_activation_bytes"])
def test_unknown_values_are_not_judged(limit: str) -> None:
    limits: dict[str, Any] = {limit: 10**9}
    budget = Budget(max_params=100, **limits)
    with pytest.raises(
        ConfigError,
        match=rf"^budget\.{limit} needs a profile: pass smidgen\.profile\(network, input_shape\) "
        r"instead of the network\.$",
    ):
        budget.check(shared())


def test_uninitialized_lazy_layers_are_not_counted() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3))
    with pytest.raises(
        ConfigError,
        match=r"^the network has lazy layers, whose parameters are not known yet; call it once on "
        r"an image, then check it\.$",
    ):
        Budget(max_params=100).check(network)
    network(torch.zeros(1, 4))
    assert Budget(max_params=100).check(network).limits[0].value == 35


@pytest.mark.parametrize(("network", "kind"), [(None, "NoneType"), ([], "list"), (7999, "int")])
def test_anything_but_a_profile_or_network_is_refused(network: object, kind: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^a budget checks a profile or a torch module, not a {kind}[.]$"
    ):
        Budget().check(network)


@pytest.mark.parametrize("name", sorted(ATTRIBUTES | {"max_epochs": ""}))
def test_a_limit_below_one_is_refused(name: str) -> None:
    limits: dict[str, Any] = {name: 1}
    assert getattr(Budget(**limits), name) == 1
    limits[name] = 0
    with pytest.raises(
        ConfigError, match=rf"^budget\.{name} is 0; it must be 1 or more( \(bytes\))?\.$"
    ):
        Budget(**limits)


@pytest.mark.parametrize("accuracy", [-0.001, 1.001, 99.4, float("nan")])
def test_an_accuracy_outside_0_to_1_is_refused(accuracy: float) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"^budget\.min_accuracy is {accuracy}; it must be from 0 to 1 "
        r"\(a fraction; 99\.4 % is 0\.994\)\.$",
    ):
        Budget(min_accuracy=accuracy)


# ------------------------------------------------------------------------------- verdicts as text


@pytest.mark.parametrize("limit", LIMITS)
def test_every_limit_has_a_name_and_a_side(limit: str) -> None:
    name, allowed, measured, passed = LimitVerdict(limit=limit, bound=1, value=1, passed=True).cells
    assert name.isascii()
    assert "_" not in name
    if limit == "min_accuracy":
        assert (allowed, measured) == ("at least 100.00 %", "100.00 %")
    else:
        assert (allowed, measured) == ("at most 1", "1")
    assert passed == "pass"


def test_a_verdict_has_an_aligned_line_for_each_limit() -> None:
    verdict = Verdict(
        limits=(
            LimitVerdict(limit="max_params", bound=7999, value=850, passed=True),
            LimitVerdict(limit="min_accuracy", bound=0.994, value=0.9931, passed=False),
        )
    )
    assert str(verdict).splitlines() == [
        "verdict: NOT inside the budget",
        "  parameters     at most 7,999         850  pass",
        "  test accuracy  at least 99.40 %  99.31 %  FAIL",
    ]
    passed = Verdict(limits=verdict.limits[:1])
    assert str(passed).splitlines()[0] == "verdict: inside the budget"
    assert str(Verdict(limits=())) == "verdict: no limits to judge"


def test_a_notebook_shows_a_verdict_as_a_table() -> None:
    limit = LimitVerdict(limit="max_params", bound=7999, value=8012, passed=False)
    html = Verdict(limits=(limit,))._repr_html_()
    assert "<strong>NOT inside the budget</strong>" in html
    assert "<tr><td>parameters</td><td>at most 7,999</td><td>8,012</td><td>FAIL</td></tr>" in html
    empty = Verdict(limits=())._repr_html_()
    assert empty == "<p>verdict: <strong>no limits to judge</strong></p>"


def test_a_verdict_has_only_limits_that_exist() -> None:
    names = (
        "max_params, max_epochs, min_accuracy, max_macs, max_weight_bytes, max_activation_bytes, "
        "max_flash_bytes, max_ram_bytes"
    )
    with pytest.raises(ValueError, match=rf"^it has the limit 'max_parms'; there are {names}\.$"):
        LimitVerdict(limit="max_parms", bound=1, value=1, passed=True)


@pytest.mark.parametrize(("over", "passed"), [(-1, True), (0, True), (1, False)])
@pytest.mark.parametrize("what", ["flash_bytes", "ram_bytes"])
def test_flash_and_ram_of_a_target_are_judged(what: str, over: int, passed: bool) -> None:
    values: dict[str, Any] = {what: 2000 + over}
    limits: dict[str, Any] = {f"max_{what}": 2000}
    verdict = Budget(target="cortex-m0", **limits).check(PROFILE, **values)
    assert [(limit.value, limit.passed) for limit in verdict.limits] == [(2000 + over, passed)]
    name, allowed, _, _ = verdict.rows[0]
    assert name in ("flash bytes, estimated", "RAM bytes, estimated")
    assert allowed == "at most 2,000"


@pytest.mark.parametrize("limit", ["max_flash_bytes", "max_ram_bytes"])
def test_a_limit_on_a_target_needs_its_name(limit: str) -> None:
    limits: dict[str, Any] = {limit: 2000}
    with pytest.raises(ConfigError, match=r"need budget\.target: cortex-m0, atmega328p or rv32i"):
        Budget(**limits)


def test_weights_have_bits_that_can_be_exported() -> None:
    with pytest.raises(ConfigError, match=r"^budget\.weight_bits is 3; it must be 8, 4 or 2\.$"):
        Budget(weight_bits=3)
