"""docs/architecture.md and its diagram describe the code as it is."""

import re

import pytest
from scripts import ROOT, load_script

script = load_script("docs/draw_architecture.py")


def test_the_diagram_is_the_one_that_the_script_draws_today() -> None:
    assert script.DIAGRAM.read_text(encoding="utf-8") == script.drawing(), (
        "run `python docs/draw_architecture.py`"
    )


def test_every_entry_of_the_package_is_in_the_diagram() -> None:
    entries = {
        path.stem
        for path in (ROOT / "src" / "smidgen").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert entries - {"__init__"} == {*script.rooms_in_order(), *script.NOT_ROOMS}


def test_imports_that_follow_from_others_are_not_drawn() -> None:
    imported = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert script.reduced(imported) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}


def test_an_import_that_goes_up_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="b imports a, which is not below it"):
        script.reduced({"a": set(), "b": {"a"}})


def test_every_path_in_the_page_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:src|tests|docs|experiments|benchmarks)/[\w./-]+)`", text)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
