"""What pip installs works without the checkout: kernels, templates, pages and experiments."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index"]


def call(words: list[str], folder: Path, status: int = 0, **environment: str) -> str:
    """Run a command in another folder than the checkout; what it prints."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        words, cwd=folder, env=clean | environment, capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(find_spec, ("pip", "hatchling"))), reason="building needs pip and hatchling"
)
@pytest.mark.parametrize("kind", ["wheel", "sdist", "checkout"])
def test_the_installed_package_works_from_another_folder(kind: str, tmp_path: Path) -> None:
    source = REPOSITORY
    if kind == "sdist":
        build = [sys.executable, "-m", "hatchling", "build", "--target", "sdist"]
        call([*build, "--directory", str(tmp_path)], REPOSITORY)
        (source,) = tmp_path.glob("*.tar.gz")
    elif kind == "wheel":
        call([*PIP, "wheel", *OFFLINE, "-w", str(tmp_path), str(REPOSITORY)], tmp_path)
        (source,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    call([*PIP, "install", *OFFLINE, "--target", str(site), str(source)], tmp_path)

    def python(*words: str, status: int = 0) -> str:
        return call([sys.executable, *words], tmp_path, status, PYTHONPATH=str(site))

    where = python("-c", "import smidgen; print(smidgen.__file__)").strip()
    assert Path(where).is_relative_to(site)
    assert "6,850" in python("-m", "smidgen", "summary", "gap-6k")
    train = ["train", "quickstart-digits", "--epochs", "1", "--backend", "native", "--threads", "1"]
    python("-m", "smidgen", *train, status=1)  # one epoch misses the target
    (run,) = (tmp_path / "runs").glob("*/seed-0")
    assert '"backend": "native"' in (run / "run.json").read_text()
    python("-m", "smidgen", "report", str(run), "--out", "page")
    assert (tmp_path / "page" / "report.html").exists()
    python("-m", "smidgen", "init", "project")
    assert (tmp_path / "project" / "experiment.toml").exists()
    python("-c", "from smidgen.report.live import LivePage; page = LivePage('x'); page.start()")
