"""The generated pages of the documentation, and the site that MkDocs builds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from page_blocks import ROOT, check_toml
from scripts import load_script

import smidgen
from smidgen._storage.schema import all_fields
from smidgen.cli import build_parser
from smidgen.config import Experiment

pytest.importorskip("mkdocs", reason="the documentation needs the extra 'docs'")
pytest.importorskip("mkdocstrings", reason="the documentation needs the extra 'docs'")


hook = load_script("docs/generate_reference.py")


def test_every_command_and_its_arguments_are_on_the_page() -> None:
    page = hook.commands_page()
    commands = list(hook.commands_of(build_parser()))
    assert len(commands) > 15
    for name, command, _ in commands:
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for action in command._actions:
            flags = [flag for flag in action.option_strings if flag.count(".") == 0]
            if flags and "experiment" not in (action.dest or "") and "." not in action.dest:
                assert all(f"`{flag}" in section for flag in flags if flag not in ("-h", "--help"))


def test_defaults_and_choices_are_in_their_columns() -> None:
    rows = hook.commands_page().splitlines()
    assert "| `--timeout SECONDS` | For each submission. | 300.0 |" in rows
    assert any(row.startswith("| `--track tensorboard|trackio` | Also log") for row in rows)
    assert any(re.fullmatch(r"\| `--seed N` \| Seeds .* \| 0 \|", row) for row in rows)


def test_every_field_of_an_experiment_is_on_the_page() -> None:
    page = hook.experiment_page()
    for _, field in all_fields(Experiment):
        table, _, key = field.key.rpartition(".")
        section = page.partition(f"## `[{table}]`")[2].partition("\n## ")[0]
        assert (f"| `{key}` |" in section) == field.flag
    assert "| `batch_size` | integer | `128` |" in page
    for code in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        check_toml(code)


def test_every_public_name_is_in_the_python_reference() -> None:
    text = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: smidgen\.(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(set(smidgen.__all__) - {"__version__"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_is_built_without_warnings_and_fetches_nothing(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(
            r"<(?:link|script|img|iframe)[^>]*(?:src|href)=\"?(https?:[^\" >]*)", text
        )
        assert not fetched, page
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(encoding="utf-8")


def test_classes_show_their_fields_and_functions_what_they_raise(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "Largest rotation, either way. From 0 to 180 (degrees). Default: 0.0." in text
    assert "SmidgenError" in text
    assert "Raises:" in text
    assert not re.search(r"(Raises|Args|Returns|Attributes): *\w+:", text)  # an unread section
