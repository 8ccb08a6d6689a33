import pytest

from smidgen._storage.progress import progress_bar


@pytest.mark.parametrize(("in_bytes", "shown"), [(False, "300/300"), (True, "300/300 bytes")])
def test_a_bar_shows_on_a_terminal(
    in_bytes: bool, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar("reading", 300, in_bytes=in_bytes) as update:
        update(100)
        update(300)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading" in err
    assert shown in err.replace("\x1b[32m", "").replace("\x1b[0m", "")


def test_nothing_shows_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading", 300) as update:
        update(300)
    assert capsys.readouterr() == ("", "")


def test_a_few_items_get_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar("reading", 3) as update:
        update(3)
    assert capsys.readouterr() == ("", "")
