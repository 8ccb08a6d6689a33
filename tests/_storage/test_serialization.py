import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen._storage.serialization import from_plain, to_plain
from smidgen.config import Optimizer, Schedule

SCHEDULE = Schedule()


@dataclass(frozen=True, kw_only=True)
class Sample:
    number: int
    share: float
    word: str
    maybe: int | None
    pair: tuple[int, int]
    many: tuple[float, ...] = ()
    table: dict[str, bool | int | str] | None = None
    inner: Schedule = SCHEDULE


samples = st.builds(
    Sample,
    number=st.integers(),
    share=st.floats(allow_nan=False),
    word=st.text(),
    maybe=st.none() | st.integers(),
    pair=st.tuples(st.integers(), st.integers()),
    many=st.lists(st.floats(allow_nan=False)).map(tuple),
    table=st.none() | st.dictionaries(st.text(), st.booleans() | st.integers() | st.text()),
    inner=st.sampled_from([Schedule(), Schedule(name="step", step_size=2)]),
)


@given(samples)
def test_what_is_written_reads_back_equal(sample: Sample) -> None:
    assert from_plain(Sample, json.loads(json.dumps(to_plain(sample)))) == sample


GOOD = {"number": 1, "share": 2, "word": "x", "pair": [1, 2]}


def test_an_integer_becomes_a_float_where_a_float_is_declared() -> None:
    share = from_plain(Sample, GOOD).share
    assert (share, type(share)) == (2.0, float)


@dataclass(frozen=True)
class Place:
    path: str | os.PathLike[str] | None = None
    word: str = ""


def test_a_path_becomes_a_string_where_a_string_is_declared() -> None:
    assert from_plain(Place, {"word": Path("a/b")}) == Place(word="a/b")
    assert from_plain(Place, {"path": "a/b"}) == Place(path="a/b")
    with pytest.raises(ValueError, match=r"^number is PosixPath\('a'\); it must be an integer\.$"):
        from_plain(Sample, GOOD | {"number": Path("a")})
    with pytest.raises(ValueError, match=r"^path is 3; it must be a string or a path\.$"):
        from_plain(Place, {"path": 3})


def test_an_instance_is_left_as_it_is() -> None:
    schedule = Schedule(name="step")
    assert from_plain(Sample, GOOD | {"inner": schedule}).inner is schedule


def test_none_is_a_value_where_it_is_allowed() -> None:
    assert from_plain(Sample, GOOD | {"maybe": None, "table": None}) == from_plain(Sample, GOOD)
    assert from_plain(Sample, GOOD | {"maybe": 1 << 1023}).maybe == 1 << 1023


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": 3}, r"^table is 3; it must be a table\.$"),
        (
            {"table": {"x": None}},
            r"^table\.x is None; it must be true or false or an integer or a string\.$",
        ),
        ({"inner": {"step_size": "x"}}, r"^inner\.step_size is 'x'; it must be an integer\.$"),
        ({"numbre": 1}, "the file has no 'numbre'; it has: number, share, word"),
        ({"number": 1.0}, "number is 1.0; it must be an integer"),
        ({"number": True}, "number is True; it must be an integer"),
        ({"number": None}, "number is None"),
        ({"word": 3}, "word is 3; it must be a string"),
        ({"pair": [1]}, "pair has 1 items; it must have 2"),
        ({"pair": "ab"}, "pair is 'ab'; it must be a list"),
        ({"many": [1, "x"]}, r"many\[1\] is 'x'; it must be a number"),
        ({"table": {"x": []}}, r"table.x is \[\]"),
        ({"inner": {"name": "fast"}}, "inner.name is 'fast'; it must be one of 'constant', 'step'"),
        ({"inner": {"nam": "step"}}, "inner has no 'nam'; it has: name, warmup, step_size, gamma"),
        ({"inner": 3}, "inner is 3; it must be a table"),
    ],
)
def test_a_wrong_value_is_named_by_its_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_plain(Sample, GOOD | change)


def test_only_the_beginning_of_a_deep_or_huge_value_is_shown() -> None:
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    for wrong in (deep, ["x" * 10_000] * 10_000, {str(i): i for i in range(10_000)}):
        with pytest.raises(ValueError, match=r"^word is [\[{].*; it must be a string\.$") as caught:
            from_plain(Sample, GOOD | {"word": wrong})
        assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("field", ["number", "share", "word", "maybe"])
def test_an_integer_too_large_for_a_float_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} is an integer too large for a number"):
        from_plain(Sample, GOOD | {field: 1 << 20_000})


def test_the_largest_integers_are_too_large_for_a_number() -> None:
    most = (1 << 1024) - 1  # of the 1,024 bits that are allowed, but rounded up it is infinite
    assert from_plain(Sample, GOOD | {"number": most}).number == most
    with pytest.raises(ValueError, match=r"^share is an integer too large for a number\.$"):
        from_plain(Sample, GOOD | {"share": most})


@pytest.mark.parametrize("plain", [None, 3, [], "x"])
def test_anything_but_a_table_is_refused(plain: object) -> None:
    with pytest.raises(ValueError, match=r"^the file is .*; it must be a table\.$"):
        from_plain(Sample, plain)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ValueError, match=r"^train.optimizer.lr is missing\.$"):
        from_plain(Optimizer, {"name": "sgd"}, "train.optimizer")


json_like: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*GOOD, "inner", "table", "name"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(json_like)
def test_other_data_is_never_another_exception(plain: object) -> None:
    with contextlib.suppress(ValueError):
        from_plain(Sample, plain)


fields = {
    "number": st.integers(),
    "share": st.integers(-(2**60), 2**60) | st.floats(),
    "word": st.text(),
    "maybe": st.none() | st.integers(),
    "pair": st.lists(st.integers(), min_size=2, max_size=2),
    "many": st.lists(st.floats() | st.integers(-(2**60), 2**60)),
}
wrong = {
    "number": st.floats() | st.text() | st.booleans() | st.none(),
    "share": st.text() | st.booleans() | st.none() | st.lists(st.floats()),
    "word": st.integers() | st.booleans() | st.none(),
    "maybe": st.floats() | st.booleans() | st.text(),
    "pair": st.lists(st.integers(), max_size=1) | st.lists(st.integers(), min_size=3),
    "many": st.lists(st.text(), min_size=1) | st.floats() | st.text(),
}


@given(st.fixed_dictionaries(fields))
def test_plain_data_of_the_right_types_is_read(plain: dict[str, Any]) -> None:
    assert from_plain(Sample, plain).number == plain["number"]


@given(st.fixed_dictionaries(fields), st.sampled_from(sorted(wrong)), st.data())
def test_one_wrong_value_is_named(plain: dict[str, Any], name: str, data: st.DataObject) -> None:
    value = data.draw(wrong[name])
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        from_plain(Sample, plain | {name: value})
