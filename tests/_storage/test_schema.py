import dataclasses
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen._storage.schema import Interval, all_fields, described, option, own_fields
from smidgen.errors import ConfigError


@described("box.inner")
class Inner:
    """Inside."""

    ratio: float = option("A ratio.", default=0.5, within="(0, 1)", unit="a fraction")
    words: tuple[str, ...] = option("Some words.", default=())


@described("box")
class Box:
    """Outside."""

    count: int | None = option("How many.", within="[1, 4096]")
    name: str = option("What it is called.", default="x", key="heading.name")
    inner: Inner = option("What is inside.", default_factory=lambda: Inner(ratio=0.25))

    def __post_init__(self) -> None:
        if self.name == "refused":
            raise ConfigError(f"not {self.name} with {self.inner.ratio}")


@pytest.mark.parametrize(
    ("text", "words", "inside", "outside"),
    [
        ("[0, 180]", "from 0 to 180", [0, 180], [-0.1, 180.1, nan, inf]),
        ("[0, 1)", "from 0 to below 1", [0, 0.999], [1, -0.1, nan]),
        ("(0, 1)", "above 0 and below 1", [0.001, 0.999], [0, 1, nan]),
        ("(0, 1]", "above 0 and at most 1", [0.001, 1], [0, 1.001, nan]),
        ("(0, inf)", "above 0", [1e-9, 1e300], [0, -1, inf, nan]),
        ("[1, inf)", "1 or more", [1, 10**300], [0, inf, nan]),
        ("[1, 1000000]", "from 1 to 1,000,000", [1, 10**6], [0, 10**6 + 1]),
        ("[-0.5, 1.5]", "from -0.5 to 1.5", [-0.5, 1.5], [-0.6, 1.6]),
        ("[0, 9007199254740992)", "from 0 to below 9,007,199,254,740,992", [0], [2**53]),
    ],
)
def test_intervals(text: str, words: str, inside: list[float], outside: list[float]) -> None:
    interval = Interval.parse(text)
    assert str(interval) == words
    assert all(number in interval for number in inside)
    assert not any(number in interval for number in outside)


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_values_in_range_are_unchanged(ratio: float) -> None:
    assert Inner(ratio=ratio).ratio == ratio


def test_a_described_class_is_a_frozen_dataclass_with_slots() -> None:
    box = Box(count=3)
    assert dataclasses.asdict(box)["inner"] == {"ratio": 0.25, "words": ()}
    assert not hasattr(box, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        box.count = 4  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        Box(3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, r"^box\.count is 0; it must be from 1 to 4,096\.$"),
        ({"count": 1.0}, r"^box\.count is 1\.0; it must be an integer\.$"),
        ({"name": None}, r"^heading\.name is None; it must be a string\.$"),
        (
            {"inner": {"ratio": 2}},
            r"^box\.inner\.ratio is 2\.0; it must be above 0 and below 1 \(a",
        ),
        (
            {"inner": {"ratoi": 2}},
            r"^box\.inner has no 'ratoi'; it has: ratio, words\. Did you mean box\.inner\.ratio\?$",
        ),
        ({"name": "refused", "inner": {"ratio": 0.5}}, r"^not refused with 0\.5$"),
    ],
)
def test_wrong_values_are_named_by_their_keys(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Box(**{"count": 1} | changes)


def test_none_has_no_range() -> None:
    assert Box(count=None).count is None


def test_a_list_becomes_a_tuple() -> None:
    assert Inner(words=["a", "b"]).words == ("a", "b")  # type: ignore[arg-type]


def test_docstrings_describe_the_fields() -> None:
    assert Box.__doc__ == (
        "Outside.\n\nAttributes:\n"
        "    count: How many. From 1 to 4,096. Required.\n"
        "    name: What it is called. Default: 'x'.\n"
        "    inner: What is inside. Default: Inner(ratio=0.25)."
    )
    assert Inner.__doc__ is not None
    assert "    ratio: A ratio. Above 0 and below 1 (a fraction). Default: 0.5." in Inner.__doc__


def test_fields_are_listed_with_their_keys() -> None:
    assert [field.key for field in own_fields(Box)] == ["box.count", "heading.name", "box.inner"]
    assert [(path, field.key) for path, field in all_fields(Box)] == [
        (("count",), "box.count"),
        (("name",), "heading.name"),
        (("inner", "ratio"), "box.inner.ratio"),
        (("inner", "words"), "box.inner.words"),
    ]
