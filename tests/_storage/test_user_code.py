import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen._storage.user_code import call_user_code, source_files, user_object
from smidgen.errors import ConfigError, DataError, ModelError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "user/code.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


def call(path: Path | str, name: str = "make") -> Any:
    """Import NAME of `path` and call it, as a network or a transform is made."""
    with user_object(f"{path}:{name}", "model.module", ModelError) as function:
        return call_user_code(f"{path}:{name}", function, ModelError)


def test_files_next_to_the_file_can_be_imported(write: Write) -> None:
    path = write("""
        import units
        from blocks.wide import WIDTH

        def make():
            from late import double
            return double(WIDTH) * units.ONE
    """)
    write("ONE = 1", "user/units.py")
    write("from .deep import *\nWIDTH = TWICE", "user/blocks/wide.py")
    write("TWICE = 8", "user/blocks/deep.py")
    write("", "user/blocks/__init__.py")
    write("def double(width): return 2 * width", "user/late.py")
    before, path_before = set(sys.modules), list(sys.path)
    assert call(path) == 16
    assert set(sys.modules) - before == {"smidgen_user_code"}
    assert sys.path == path_before
    assert not list(path.parent.rglob("__pycache__"))
    assert {str(source) for source in source_files(path)} == {
        *("code.py", "units.py", "late.py"),
        *("blocks/__init__.py", "blocks/wide.py", "blocks/deep.py"),
    }


def test_two_folders_can_have_files_with_the_same_name(write: Write) -> None:
    text = "from width import WIDTH\n\ndef make(): return WIDTH"
    for folder, width in (("one", 2), ("two", 3), ("one", 4)):  # the last time edited
        path = write(text, f"{folder}/code.py")
        write(f"WIDTH = {width}", f"{folder}/width.py")
        assert call(path) == width


def test_modules_that_were_loaded_before_stay_loaded(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: Any = type(sys)("width")
    before.WIDTH = 100
    monkeypatch.setitem(sys.modules, "width", before)
    path = write("import width\n\ndef make(): return width.WIDTH")
    write("WIDTH = 5", "user/width.py")
    assert call(path) == 5
    assert sys.modules["width"] is before


def test_sources_leave_out_what_cannot_be_read_or_lies_above(write: Write) -> None:
    path = write("import broken, code, json, gone\nfrom ... import above")
    write("not python", "user/broken.py")
    write("", "above.py")
    assert {str(source) for source in source_files(path)} == {"code.py", "broken.py"}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("Net", r"^model.module is 'Net'; write FILE.py:NAME or PACKAGE.MODULE:NAME"),
        ("own.py:", r"write FILE.py:NAME"),
        (":Net", r"write FILE.py:NAME"),
        ("none.py:Net", r"model.module: there is no file none.py"),
        ("n" * 300 + ".py:Net", r"there is no file nnn"),
        ("no_such_package:Net", r"no package or module no_such_package to import[.].*PYTHONPATH"),
        ("json.no_such_part:Net", r"no package or module json.no_such_part to import"),
        ("json:no_name", r"model.module: json has no no_name"),
    ],
)
def test_a_reference_to_something_missing(reference: str, message: str) -> None:
    with (
        pytest.raises(ConfigError, match=message),
        user_object(reference, "model.module", ModelError),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = {}['key']", r"code.py fails: code.py, line 2: KeyError: 'key'$"),
        ("def make():\n    x = 1\n    return x.y", r":make fails: code.py, line 3: AttributeErr"),
        ("import json\njson.loads('{')", r"fails: code.py, line 2: JSONDecodeError"),
        ("import parts", r"fails: parts.py, line 2: ZeroDivisionError"),
        ("import no_such_part", r"fails: code.py, line 1: ModuleNotFoundError: No module named"),
        ("def make(:", r"fails: SyntaxError: invalid syntax \(code.py, line 1\)"),
        ("import sys\nsys.exit(3)", r"fails: code.py, line 2: SystemExit: 3"),
        (
            "import argparse\nargparse.ArgumentParser().parse_args(['3'])",
            r"fails: code.py, line 2: SystemExit: 2",
        ),
    ],
)
def test_an_error_in_user_code_names_the_line(write: Write, text: str, message: str) -> None:
    path = write(text)
    write("\n1 / 0", "user/parts.py")
    with pytest.raises(ModelError, match=message):
        call(path)
    assert str(path.parent) not in sys.path


def test_the_caller_chooses_the_error(write: Write) -> None:
    path = write("1 / 0")
    with (
        pytest.raises(DataError, match=r"^data.transforms: .*ZeroDivisionError"),
        user_object(f"{path}:x", "data.transforms", DataError),
    ):
        pass


def test_an_error_in_a_package_names_the_line(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("\nimport needs_something_else", "place/bad_nets/__init__.py")
    write("def make(): pass", "place/bad_nets/small.py")
    monkeypatch.syspath_prepend(path.parents[1])
    with pytest.raises(ModelError, match=r"__init__.py, line 2: .*needs_something_else"):
        call("bad_nets.small")
    path.write_text("\n\n{}['key']")
    os.utime(path, (1, 1))
    with pytest.raises(ModelError, match=r"fails: __init__.py, line 3: KeyError"):
        call("bad_nets.small")
