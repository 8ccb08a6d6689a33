"""Experiments by file or by name: those that come with smidgen stand in its folder experiments/."""

from importlib import resources
from pathlib import Path

from smidgen.config import Experiment, parse_experiment, read_experiment
from smidgen.errors import ConfigError


def find_experiment(name: str) -> Experiment:
    """The experiment in the file `name`, or the one of that name that comes with smidgen.

    Raises:
        ConfigError: neither is there (lists the names), or the file is wrong.
    """
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return read_experiment(Path(name))
    if name not in known_experiments():
        raise ConfigError(
            f"{name!r} is neither a TOML file nor an experiment that comes with smidgen; those are "
            f"{', '.join(known_experiments())}."
        )
    return parse_experiment((_folder() / f"{name}.toml").read_text(encoding="utf-8"))


def known_experiments() -> list[str]:
    """The names of the experiments that come with smidgen, sorted."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def _folder() -> Path:
    """Inside the package where it is installed, beside its source in a checkout."""
    package = Path(str(resources.files("smidgen")))
    installed = package / "experiments"
    return installed if installed.is_dir() else package.parents[1] / "experiments"
