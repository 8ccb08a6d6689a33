"""A starter repository: experiment, network, a workflow that gates it, a README that fills itself.

It passes its own gate from the first push: the network is inside the budget before any training, no
run is committed yet, and the README's section of results says so and is up to date.
"""

import string
from importlib import resources
from pathlib import Path

from smidgen._storage.files import make_folder, write_atomic
from smidgen.config import Experiment
from smidgen.errors import ConfigError

ACTION = "OWNER/smidgen@v0.1.0"
"""Stands in the workflow until the repository that holds the action is named."""

_FILES = {
    "experiment.toml": "experiment.toml",
    "model.py": "model.py",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".github/workflows/smidgen.yml": "smidgen.yml",
}


def write_project(folder: Path, name: str, action: str = ACTION) -> tuple[Path, ...]:
    """Write the starter repository of the experiment `name` into `folder`; the files' paths.

    `action` is the workflow's reference to smidgen's action, OWNER/REPOSITORY@VERSION. Nothing that
    is there is overwritten; where one file is, none is written.

    Raises:
        ConfigError: a file is there already, or the name is none for an experiment.
        SmidgenError: a file cannot be written.
    """
    templates = resources.files(__name__) / "templates"
    contents = {}
    for place, template in _FILES.items():
        text = (templates / template).read_text(encoding="utf-8")
        contents[folder / place] = string.Template(text).substitute(name=name, action=action)
    _check_name(name, contents[folder / "experiment.toml"])
    for path in contents:
        if path.exists():
            raise ConfigError(
                f"{path} is there already and is not overwritten; move it away, or choose another "
                "folder."
            )
    for path, text in contents.items():
        make_folder(path.parent)
        write_atomic(path, text)
    return tuple(contents)


def _check_name(name: str, text: str) -> None:
    try:
        read = Experiment.from_toml(text).name
    except ConfigError as error:
        raise ConfigError(f"{name!r} cannot name an experiment: {error}") from None
    if read != name:  # a backslash
        raise ConfigError(f"{name!r} cannot name an experiment; take letters, digits and dashes.")
