"""Run the notebooks from top to bottom and write each .ipynb from its .py, with its outputs.

Everything that varies with the machine or the time is left out: identifiers, times, versions.
`make notebooks` calls this; it needs the extra `notebook`.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def build(path: Path) -> None:
    """Write the notebook of `path`, a file in jupytext's percent format, next to it."""
    notebook: Any = jupytext.read(path)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
        ).execute()
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{number}"
        cell.metadata = {}
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/jpeg", None)  # the same image as the PNG, with losses
    nbformat.validate(notebook)
    nbformat.write(notebook, path.with_suffix(".ipynb"))


if __name__ == "__main__":
    named = [Path(name) for name in sys.argv[1:]]
    for source in named or sorted(set(HERE.glob("*.py")) - {Path(__file__)}):
        print(source.name, flush=True)
        build(source)
