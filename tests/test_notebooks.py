import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = ["custom_data", "quickstart", "three_attempts"]


def cells_of_text(name: str) -> list[tuple[str, str]]:
    """The (kind, source) of each cell of the .py, in jupytext's percent format."""
    text = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8")
    cells = []
    for cell in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        heading, _, body = cell.partition("\n")
        markdown = heading.strip() == "[markdown]"
        if markdown:
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        cells.append(("markdown" if markdown else "code", body.strip("\n")))
    return cells


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    return found


def outputs(name: str) -> list[dict[str, Any]]:
    return [output for cell in read(name)["cells"] for output in cell.get("outputs", [])]


def test_every_notebook_is_tested() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.py")) == ["build", *NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_equals_its_text(name: str) -> None:
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in read(name)["cells"]]
    assert found == cells_of_text(name), "run `make notebooks`"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_was_run_from_top_to_bottom_without_an_error(name: str) -> None:
    code = [cell for cell in read(name)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for output in outputs(name)}
    assert kinds <= {"stream", "execute_result", "display_data"}
    assert not [output for output in outputs(name) if output.get("name") == "stderr"]
    text = "".join("".join(output.get("text", ())) for output in outputs(name))
    assert "verdict: inside the budget" in text
    assert any("image/png" in output.get("data", {}) for output in outputs(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_reveals_nothing_about_the_machine(name: str) -> None:
    notebook = read(name)
    assert set(notebook["metadata"]) == {"jupytext", "kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    text = json.dumps([output for output in outputs(name) if "data" not in output])
    assert not re.search(r"/(home|root|tmp|Users|work)/|site-packages|\d \w*s took", text)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_code_cell_says_how_to_install_where_smidgen_is_missing(name: str) -> None:
    source = next(source for kind, source in cells_of_text(name) if kind == "code")
    guard = ast.parse(source).body[1]
    assert isinstance(guard, ast.If)
    assert ast.unparse(guard.test) == "importlib.util.find_spec('smidgen') is None"
    assert source.count("pip") == ast.unparse(guard).count("pip") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_as_a_program(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", NOTEBOOKS / f"{name}.py"],
        cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "verdict: " in done.stdout
    assert list(tmp_path.glob("runs/*/seed-0/report.html"))
