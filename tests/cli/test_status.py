"""What a terminal shows while a command works: it is never silent for long."""

from pathlib import Path

import pytest
from PIL import Image

from smidgen.cli import main

Capture = pytest.CaptureFixture[str]

EXPECTED = {
    "summary tiny.toml": ["loading torch"],
    "train tiny.toml --epochs 1": [
        "loading torch",
        "loading digits",
        "choosing the backend",
        "scoring the test set",
        "writing the report",
    ],
    "check RUN": ["loading torch", "loading digits", "scoring the test set"],
    "predict RUN image.png": ["loading torch", "classifying"],
    "evaluate tiny.toml --weights RUN/weights.safetensors": ["loading torch", "evaluating tiny"],
    "bench tiny.toml --seconds 0.01 --threads 1 --batch-sizes 8": [
        "loading torch",
        "loading the data",
        "timing training steps",
    ],
    "report RUN --out page": ["drawing the report"],
    "data list": ["loading torch"],
    "data show digits": ["loading torch", "loading digits", "drawing the samples"],
}


@pytest.mark.usefixtures("on_a_terminal")
@pytest.mark.parametrize("command", EXPECTED)
def test_a_terminal_says_what_is_being_done(
    command: str,
    tiny_file: Path,
    finished_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (28, 28), 128).save("image.png")
    assert main(command.replace("RUN", str(finished_folder)).split()) in (0, 1)
    out, err = capsys.readouterr()
    shown = out + err  # after its first line, a training bar on stdout shows what comes next
    places = [shown.find(text) for text in EXPECTED[command]]
    assert -1 not in places, dict(zip(EXPECTED[command], places, strict=True))


def test_nothing_of_it_goes_elsewhere(tiny_file: Path, capsys: Capture) -> None:
    assert main(["summary", str(tiny_file)]) == 0
    assert capsys.readouterr().err == ""
