"""Experiments by name or file; the built-in ones are the files in smidgen's folder experiments/."""

import os
import re
from importlib import resources
from pathlib import Path

from smidgen.config.experiment import Experiment, Model, read_experiment
from smidgen.errors import ConfigError, did_you_mean


def find_experiment(experiment: "str | os.PathLike[str] | Experiment") -> Experiment:
    """Return the built-in experiment of a name, the one in a TOML file, or an Experiment as it is.

    A string is a path if it ends in .toml or has a slash, otherwise a name.

    Raises:
        ConfigError: there is no such experiment (lists the names), or the file is wrong.
    """
    if isinstance(experiment, Experiment):
        return experiment
    if isinstance(experiment, os.PathLike):
        return read_experiment(experiment)
    if not isinstance(experiment, str):
        raise ConfigError(
            f"experiment is {experiment!r}; it must be a name, a TOML file's path or an Experiment."
        )
    if experiment.endswith(".toml") or "/" in experiment or "\\" in experiment:
        try:
            return read_experiment(experiment)
        except ConfigError as error:
            if os.path.lexists(experiment):
                raise
            hint = did_you_mean(Path(experiment).stem, known_experiments())
            raise ConfigError(f"{error}{hint}") from None
    if experiment not in known_experiments():
        raise ConfigError(
            f"{experiment!r} is neither a TOML file nor a built-in experiment; those are "
            f"{', '.join(known_experiments())}." + did_you_mean(experiment, known_experiments())
        )
    return read_experiment(_folder() / f"{experiment}.toml")


def find_model(text: str) -> Model | None:
    """Return the network that `text` is: FILE.py:NAME, PACKAGE.MODULE:NAME or a chain.

    What has a space or looks like a token is a chain. None for any other text.

    >>> find_model("net.py:Net").module, find_model("8 8 M G").chain, find_model("gap-6k")
    ('net.py:Net', '8 8 M G', None)
    """
    source, _, name = text.rpartition(":")
    if source and name.isidentifier():
        return Model(module=text)
    if re.search(r"\s", text.strip()) or re.fullmatch(r"\d+(,\w+)*|[MA]\d*|[GF]", text):
        return Model(chain=text)
    return None


def known_experiments() -> list[str]:
    """List the names of the built-in experiments, sorted."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def _folder() -> Path:
    """Inside the package if it is installed, next to its source in a checkout."""
    package = Path(str(resources.files("smidgen")))
    installed = package / "experiments"
    return installed if installed.is_dir() else package.parents[1] / "experiments"
