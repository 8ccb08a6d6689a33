import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from smidgen._storage.files import append_line, remove_partial_files, write_atomic
from smidgen.errors import SmidgenError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["ä\n", "ä\n".encode()])
def test_a_file_holds_what_was_written(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "page.md"
    write_atomic(path, "old and longer")
    write_atomic(path, content)
    assert path.read_bytes() == b"\xc3\xa4\n"
    assert names(tmp_path) == ["page.md"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_the_umask_leaves(
    tmp_path: Path, umask: int, mode: int
) -> None:
    old = os.umask(umask)
    try:
        write_atomic(tmp_path / "page.md", "new")
        append_line(tmp_path / "lines", "new\n")
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "README.md"
    path.write_text("old")
    path.chmod(mode)
    write_atomic(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", mode)


def test_a_system_without_fchmod_writes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.fchmod")  # as on Windows before Python 3.13
    write_atomic(tmp_path / "page.md", "new")
    assert (tmp_path / "page.md").read_text() == "new"


def full(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["open", "write", "fsync", "chmod", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    monkeypatch.setattr(f"os.{place}", full)
    with pytest.raises(SmidgenError, match=r"run.json cannot be written: No space left on device"):
        write_atomic(path, "new")
    assert (names(tmp_path), path.read_text()) == (["run.json"], "old")


def test_an_interrupted_write_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "run.json", "new")
    assert names(tmp_path) == []


def test_a_file_without_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SmidgenError, match="cannot be written: No such file"):
        write_atomic(tmp_path / "none" / "file", "")
    with pytest.raises(SmidgenError, match="cannot be written: No such file"):
        append_line(tmp_path / "none" / "file", "line\n")


def test_the_previous_file_can_be_saved(tmp_path: Path) -> None:
    path, previous = tmp_path / "last", tmp_path / "previous"
    for content in ("one", "two", "three"):
        write_atomic(path, content, previous=previous)
        assert path.read_text() == content
    assert previous.read_text() == "two"
    assert names(tmp_path) == ["last", "previous"]


@pytest.mark.parametrize("which", [1, 2])
def test_a_failed_rename_keeps_a_complete_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    path, previous = tmp_path / "last", tmp_path / "previous"
    write_atomic(path, "one")
    rename, renames = os.replace, []

    def failing(source: str, target: Path) -> None:
        renames.append(target)
        if len(renames) == which:
            full()
        rename(source, target)

    monkeypatch.setattr("os.replace", failing)
    with pytest.raises(SmidgenError, match="last cannot be written"):
        write_atomic(path, "two", previous=previous)
    (left,) = tmp_path.iterdir()
    assert left.read_text() == "one"


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("os.write", lambda handle, data: write(handle, data[:3]))
    write_atomic(tmp_path / "page", "more than three")
    append_line(tmp_path / "lines", "one line\n")
    assert (tmp_path / "page").read_text() == "more than three"
    assert (tmp_path / "lines").read_text() == "one line\n"


def test_only_partial_files_are_removed(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for path in (tmp_path / ".run.json.x1.part", inner / ".weights.y.part"):
        path.touch()
    others = {tmp_path / "run.json", tmp_path / ".hidden", inner / "a.part"}
    for path in others:
        path.touch()
    remove_partial_files(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == others


def test_lines_are_appended_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, "one\n")
    assert path.read_text() == "one\n"
    append_line(path, "zwei ä\n")
    assert path.read_text(encoding="utf-8") == "one\nzwei ä\n"
