"""The files of a new project, from the templates next to this module."""

import string
from importlib import resources
from pathlib import Path

from smidgen._storage.files import make_folder, write_atomic
from smidgen.config import Experiment
from smidgen.errors import ConfigError

ACTION = "OWNER/smidgen@v0.1.0"
"""A placeholder for the repository of smidgen's action, for the workflow."""

_FILES = {
    "experiment.toml": "experiment.toml",
    "model.py": "model.py",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".github/workflows/smidgen.yml": "smidgen.yml",
}


def write_project(folder: Path, name: str, action: str = ACTION) -> tuple[Path, ...]:
    """Write a project with the experiment `name` into `folder`; return the paths of its files.

    It passes its own CI gate from the first push: the network is inside the budget, no run is
    committed yet, and the README says so. `action` is how the workflow refers to smidgen's action,
    OWNER/REPOSITORY@VERSION. If one of the files exists, nothing is written.

    Raises:
        ConfigError: a file exists, or the name is not valid for an experiment.
        SmidgenError: a file cannot be written.
    """
    templates = resources.files("smidgen.cli.project") / "templates"
    contents = {}
    for file, template in _FILES.items():
        text = (templates / template).read_text(encoding="utf-8")
        contents[folder / file] = string.Template(text).substitute(name=name, action=action)
    _require_valid_name(name, contents[folder / "experiment.toml"])
    for path in contents:
        if path.exists():
            raise ConfigError(
                f"{path} exists and is not overwritten; move it away, or choose another folder."
            )
    for path, text in contents.items():
        make_folder(path.parent)
        write_atomic(path, text)
    return tuple(contents)


def _require_valid_name(name: str, experiment: str) -> None:
    try:
        read = Experiment.from_toml(experiment).name
    except ConfigError as error:
        raise ConfigError(f"{name!r} cannot name an experiment: {error}") from None
    if read != name:  # TOML reads a backslash as an escape
        raise ConfigError(f"{name!r} cannot name an experiment; use letters, digits and dashes.")
