"""The C exporter refuses code that is not equal, or that it cannot check."""

from pathlib import Path

import pytest

from smidgen.errors import ConfigError, ExportError
from smidgen.exporters import c_export
from smidgen.exporters.c import SOURCE


def test_code_that_does_not_compile_is_refused(tmp_path: Path) -> None:
    source = tmp_path / SOURCE
    source.write_text("int main(void) { return undefined; }")
    with pytest.raises(ExportError, match="undefined"):
        c_export._compile([str(source), "-o", str(tmp_path / "program")])


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no C compiler"):
        c_export._compile([])


def test_a_program_that_crashes_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    (tmp_path / "0.bin").write_bytes(b"")
    with pytest.raises(ExportError, match="crashes"):
        c_export._run_all(program, [tmp_path / "0.bin"])
