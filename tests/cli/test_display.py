import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smidgen.callbacks import Progress, RunInfo
from smidgen.cli.display import Display
from smidgen.record import Epoch, RunRecord, Score

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def epoch(number: int, validation: float | None, test: Score | None = None) -> Epoch:
    return Epoch(
        epoch=number,
        train=Score(loss=12.3456, accuracy=0.5),
        validation=None if validation is None else Score(loss=0.25, accuracy=validation),
        test=test,
        lr=0.0125,
    )


STEP = Progress(
    epoch=2,
    batch=3,
    num_batches=5,
    loss=0.4321,
    accuracy=0.8765,
    images_per_second=1234.5,
)


def show(record: RunRecord, num_epochs: int, *epochs: Epoch, quiet: bool = False) -> None:
    train = replace(record.experiment.train, epochs=num_epochs)
    display = Display(quiet=quiet)
    display.on_train_start(
        RunInfo(
            folder=Path("runs/tiny/seed-0"),
            experiment=replace(record.experiment, train=train),
            seed=0,
            data=record.data,
            profile=record.profile,
            environment=record.environment,
        )
    )
    for one in epochs:
        display.on_progress(STEP)
        display.on_epoch_end(one, 3.21, unused)
    display.on_train_end(record)


def unused() -> Any:
    raise AssertionError


def test_without_a_terminal_lines_are_plain(
    record: RunRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = [epoch(1, 0.5), epoch(2, 0.4), epoch(3, 0.61)]
    show(record, 3, *epochs)
    out, err = capsys.readouterr()
    assert err == ""
    assert not CONTROL.search(out)
    first, second, splits, header, *lines = out.splitlines()
    assert first == ("digits, embedded in scikit-learn: 1,137 training and 300 validation images")
    assert second.startswith(f"network: {record.profile.num_params:,} parameters, ")
    assert second.endswith("; run: runs/tiny/seed-0")
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    # A star where the validation accuracy is the best so far.
    assert ["*" in line for line in lines] == [True, False, True]
    assert lines[0].split() == [
        *("1/3", "12.3456", "50.00", "%", "0.2500", "50.00", "%", "*", "0.012500", "3.2"),
    ]
    assert splits.split() == ["training", "validation", *["*", "best", "so", "far"]]
    assert max(map(len, (splits, header, *lines))) <= 60
    ends = [match.end() for match in re.finditer(r"loss|accuracy|lr|s$", header)]
    assert len(ends) == 6
    for line in lines:  # every number ends below its heading
        assert [line[end - 1] != " " and line[end : end + 1] in (" ", "") for end in ends] == (
            [True] * len(ends)
        )


def test_without_validation_nothing_is_marked(
    record: RunRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = replace(record, data=replace(record.data, num_validation=0))
    show(alone, 2, epoch(1, None), epoch(2, None))
    *_, splits, header, first, second = capsys.readouterr().out.splitlines()
    assert (splits.strip(), header.split()) == (
        "training",
        ["epoch", "loss", "accuracy", "lr", "s"],
    )
    assert [len(line.split()) for line in (first, second)] == [6, 6]
    assert "*" not in splits + first + second


def test_one_image_is_one_image(record: RunRecord, capsys: pytest.CaptureFixture[str]) -> None:
    data = replace(record.data, name="pets", source="the folder pets", num_validation=1)
    show(replace(record, data=data), 1, epoch(1, 0.5))
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "pets: 1,137 training and 1 validation image"


def test_a_look_at_the_test_set_is_shown(
    record: RunRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    train = replace(record.experiment.train, test_each_epoch=True)
    record = replace(record, experiment=replace(record.experiment, train=train))
    show(record, 1, epoch(1, 0.5, Score(loss=0.1, accuracy=0.91)))
    splits, header, line = capsys.readouterr().out.splitlines()[-3:]
    assert splits.index("test") + 4 == header.rindex("accuracy") + 8 == line.index(" % 0.01") + 2
    assert re.search(r"50\.00 % \*  0\.1000  91\.00 % ", line)


def test_quiet_is_silent(
    record: RunRecord,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    show(record, 1, epoch(1, 0.5), quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_narrow_bar_still_shows_the_time_left(
    record: RunRecord, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    show(record, 4, epoch(1, 0.5))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    assert re.search(r"epoch 2/4  accuracy 87.65 %  1,234 images/s (-:--:--|\d:\d\d:\d\d)", text)


def test_a_live_bar_on_a_terminal(
    record: RunRecord,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    show(record, 4, epoch(1, 0.5))
    out = capsys.readouterr().out
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out)
    assert "epoch 2/4  batch 3/5  loss 0.4321  accuracy 87.65 %  1,234 images/s" in text
    assert "1/4" in text
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1  # the cursor comes back
    assert out.endswith("\x1b[2K")  # and the bar goes away
