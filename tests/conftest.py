"""What tests of several rooms share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder that holds MNIST's four files; the test is skipped where there is none."""
    if named := os.environ.get("SMIDGEN_DATA"):
        return Path(named)
    beside = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    if not beside.is_dir():
        pytest.skip("MNIST is not at hand: set SMIDGEN_DATA to the folder that holds its files")
    return beside


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the expected texts in tests/golden"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Asserts that a text is the one in the named file of tests/golden, or puts it there."""

    def check(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        assert text + "\n" == path.read_text(encoding="utf-8")

    return check
