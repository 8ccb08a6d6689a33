import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from smidgen.errors import SmidgenError
from smidgen.files import append_line, new_folder, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["ä\n", "ä\n".encode()])
def test_a_file_holds_what_was_written(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "page.md"
    write_whole(path, "old and longer")
    write_whole(path, content)
    assert path.read_bytes() == b"\xc3\xa4\n"
    assert names(tmp_path) == ["page.md"]
    assert path.stat().st_mode & 0o777 == 0o644


def full(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["mkstemp", "fdopen", "fsync", "chmod", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    module = "tempfile" if place == "mkstemp" else "os"
    monkeypatch.setattr(f"{module}.{place}", full)
    with pytest.raises(SmidgenError, match=r"run.json cannot be written: No space left on device"):
        write_whole(path, "new")
    assert (names(tmp_path), path.read_text()) == (["run.json"], "old")


def test_an_interrupted_write_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "run.json", "new")
    assert names(tmp_path) == []


def test_a_file_without_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SmidgenError, match="cannot be written: No such file"):
        write_whole(tmp_path / "none" / "file", "")
    with pytest.raises(SmidgenError, match="cannot be written: No such file"):
        append_line(tmp_path / "none" / "file", "line\n")


def test_folders_are_numbered_from_the_second_on(tmp_path: Path) -> None:
    parent = tmp_path / "runs" / "net"
    made = [new_folder(parent, "seed-0").name for _ in range(3)]
    assert made == ["seed-0", "seed-0-2", "seed-0-3"]
    (parent / "seed-0-2").rmdir()
    assert new_folder(parent, "seed-0") == parent / "seed-0-2"
    (parent / "seed-1").touch()  # a file is in the way, too
    assert new_folder(parent, "seed-1").name == "seed-1-2"


def test_a_folder_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "unplugged")
    for parent in ("file", "file/inner", "link"):
        with pytest.raises(SmidgenError, match="cannot be made: "):
            new_folder(tmp_path / parent, "seed-0")
    monkeypatch.setattr("os.mkdir", full)
    with pytest.raises(SmidgenError, match="seed-0 cannot be made: No space left on device"):
        new_folder(tmp_path, "seed-0")


def test_lines_are_there_as_soon_as_they_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, "one\n")
    assert path.read_text() == "one\n"
    append_line(path, "zwei ä\n")
    assert path.read_text(encoding="utf-8") == "one\nzwei ä\n"
