import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.seeds import derive_seed, generator, generators, seed_all, set_generators

CPU = torch.device("cpu")

part: st.SearchStrategy[str | int] = st.text(max_size=5) | st.integers(0, 5)
purposes = st.lists(part, max_size=3).map(tuple)


@given(st.integers(0, 2**63 - 1), purposes)
def test_a_derived_seed_fits_every_generator(seed: int, purpose: tuple[str | int, ...]) -> None:
    found = derive_seed(seed, *purpose)
    assert 0 <= found < 2**63
    assert found == derive_seed(seed, *purpose)


@given(st.integers(0, 3), purposes, st.integers(0, 3), purposes)
def test_another_seed_or_purpose_gives_another_seed(
    seed: int, purpose: tuple[str | int, ...], other: int, its: tuple[str | int, ...]
) -> None:
    same = (seed, *purpose) == (other, *its)
    assert (derive_seed(seed, *purpose) == derive_seed(other, *its)) is same


def test_numbers_and_strings_are_not_mistaken_for_each_other() -> None:
    near: list[tuple[str | int, ...]] = [("a", 1), ("a", "1"), ("a1",), ("a", 1, 0), (1, "a")]
    assert len({derive_seed(0, *purpose) for purpose in near}) == len(near)


def test_derived_seeds_never_change() -> None:
    # Other numbers would change the run of every recorded seed.
    assert derive_seed(0) == 5254295370254170289
    assert derive_seed(3, "order", 1) == 8763829436781372624


def test_a_generator_does_not_change_the_global_ones() -> None:
    before = torch.get_rng_state()
    one, again, other = (generator(0, name) for name in ("order", "order", "augment"))
    drawn = torch.rand(3, generator=one)
    assert torch.equal(drawn, torch.rand(3, generator=again))
    assert not torch.equal(drawn, torch.rand(3, generator=other))
    assert torch.equal(torch.get_rng_state(), before)


def draw() -> list[float]:
    """Of each generator, floats and normals: those of Python and numpy keep one back."""
    return [
        *torch.rand(3).tolist(),
        *torch.randn(3).tolist(),
        *(random.random(), random.gauss(0, 1), random.randrange(100)),
        *np.random.rand(3).tolist(),
        *np.random.randn(3).tolist(),
    ]


def test_seeding_reaches_all_global_generators() -> None:
    seed_all(2**63 - 1, "train")
    first = draw()
    seed_all(2**63 - 1, "train")
    assert draw() == first
    seed_all(2**63 - 1, "network")
    assert not set(draw()) & set(first)


@pytest.mark.parametrize(
    "before",
    [
        lambda: None,
        lambda: random.gauss(0, 1),
        lambda: np.random.randn(),
        lambda: (random.gauss(0, 1), np.random.randn(), torch.randn(1)),
        lambda: (random.random(), np.random.bytes(7), torch.rand(1000)),
    ],
)
def test_a_restored_state_continues_the_sequence(before: Callable[[], object]) -> None:
    seed_all(7)
    before()
    states = generators(CPU)
    expected = draw()
    seed_all(8)
    random.gauss(0, 1)
    np.random.randn()
    set_generators(states, CPU)
    assert draw() == expected
    assert all(tensor.device == CPU for tensor in states.values())


def test_states_of_other_devices_are_ignored() -> None:
    states = generators(CPU) | {"random.cuda": torch.zeros(16, dtype=torch.uint8)}
    set_generators(states, CPU)
    assert set(generators(CPU)) == set(states) - {"random.cuda"}
