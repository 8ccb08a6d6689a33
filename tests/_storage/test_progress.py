import pytest

from smidgen._storage.progress import progress_bar, status


@pytest.mark.usefixtures("on_a_terminal")
@pytest.mark.parametrize(("in_bytes", "shown"), [(False, "300/300"), (True, "300/300 bytes")])
def test_a_bar_shows_on_a_terminal(
    in_bytes: bool, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
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


@pytest.mark.usefixtures("on_a_terminal")
def test_a_few_items_get_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading", 3) as update:
        update(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("on_a_terminal")
def test_a_status_shows_on_a_terminal_and_leaves_stdout_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with status("loading"):
        print("a result")
    out, err = capsys.readouterr()
    assert out == "a result\n"
    assert "loading" in err


@pytest.mark.usefixtures("on_a_terminal")
def test_a_bar_may_show_within_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    with status("loading"), progress_bar("reading", 300) as update:
        update(300)
    err = capsys.readouterr().err
    assert "loading" in err
    assert "reading" in err


def test_no_status_shows_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with status("loading"):
        pass
    assert capsys.readouterr() == ("", "")
