"""The targets of benchmarks/fuzz.py, briefly and without coverage guidance."""

import contextlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import load_script

from smidgen.errors import SmidgenError

targets = load_script("benchmarks/fuzz_targets.py")
names = pytest.mark.parametrize("name", targets.TARGETS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


@names
def test_valid_inputs_are_read(name: str, folder: Path) -> None:
    for sample in targets.TARGETS[name].samples():
        targets.TARGETS[name].read(sample, folder)


@names
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0))
def test_damaged_inputs_are_read_or_refused(name: str, folder: Path, seed: int) -> None:
    random, target = Random(seed), targets.TARGETS[name]
    content = random.choice(target.samples())
    for change in random.choices([target.change, targets.spoil], k=3):
        with contextlib.suppress(Exception):  # it has lost the syntax
            content = change(content, random)
    with contextlib.suppress(SmidgenError):
        target.read(content, folder)


@names
@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300))
def test_garbage_is_read_or_refused(name: str, folder: Path, content: bytes) -> None:
    with contextlib.suppress(SmidgenError):
        targets.TARGETS[name].read(content, folder)
