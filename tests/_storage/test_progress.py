import pytest

from smidgen._storage.progress import progress_bar


@pytest.mark.parametrize(
    ("in_bytes", "shown"), [(False, "3,000/6000"), (True, "3.0/6.0 kB")], ids=["items", "bytes"]
)
def test_a_bar_shows_on_a_terminal(
    in_bytes: bool, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("working", 6000, in_bytes=in_bytes) as update:
        update(3000)
    output = capsys.readouterr()
    assert "working" in output.err
    assert shown.replace(",", "") in output.err
    assert output.out == ""


def test_nothing_shows_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("working", 6) as update:
        update(6)
    assert capsys.readouterr() == ("", "")
