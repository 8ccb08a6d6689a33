import csv
import gzip
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smidgen.cli import main, train
from smidgen.config import Experiment
from smidgen.data import Dataset
from smidgen.record import RunRecord, read_record

Capture = pytest.CaptureFixture[str]
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the report, which takes longer than these trainings."""
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)


# ---------------------------------------------------------------------------------------- summary


def test_summary_shows_tables_and_verdict(capsys: Capture) -> None:
    assert main(["summary", "gap-6k"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Conv2d-1" in out
    assert re.search(r"Total params +6,850", out)
    assert re.search(r"parameters +at most 7,999 +6,850 +pass", out)
    assert "test accuracy" not in out  # not known before training


def test_summary_json_is_the_profile(tiny_file: Path, record: RunRecord, capsys: Capture) -> None:
    assert main(["summary", str(tiny_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"]["num_params"] == record.profile.num_params
    assert [layer["name"] for layer in found["profile"]["layers"]] == [
        layer.name for layer in record.profile.layers
    ]
    assert [limit["limit"] for limit in found["verdict"]["limits"]] == ["max_params", "max_epochs"]


def test_summary_saves_a_diagram_of_the_network(tmp_path: Path, capsys: Capture) -> None:
    drawn = tmp_path / "network.svg"
    assert main(["summary", "8 8 M 14 G", "--save", str(drawn)]) == 0
    assert "sees 10×10" in drawn.read_text(encoding="utf-8")
    assert main(["summary", "8 G", "--save", str(tmp_path / "network.pdf")]) == 2
    assert "network.pdf: save it as .svg or .png" in capsys.readouterr().err


def test_summary_over_the_budget_is_exit_1(capsys: Capture) -> None:
    assert main(["summary", "gap-6k", "--budget.max-params", "6849"]) == 1
    assert "verdict: NOT inside the budget" in capsys.readouterr().out


def test_summary_of_a_network_without_a_file(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, input_shape):\n"
        "    channels, height, width = input_shape\n"
        "    size = channels * height * width\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(size, num_classes))\n"
    )
    words = ["--input", "3x5x7", "--classes", "4", "--max-params", "424"]
    assert main(["summary", "net.py:net", *words]) == 0
    out = capsys.readouterr().out
    assert out.startswith("images: 3x5x7 (channels, height, width), 4 classes\n")
    assert re.search(r"Total params +424", out)
    assert main(["summary", "8 8 M 14 G"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("images: 1x28x28 (channels, height, width), 10 classes\n")
    assert "verdict: no limits to judge" in out


def test_a_narrow_terminal_gets_narrow_tables(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for width in ("60", "80"):
        monkeypatch.setenv("COLUMNS", width)
        assert main(["summary", "gap-6k"]) == 0
        out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert max(map(len, out.splitlines())) <= int(width)
        assert "BatchNorm2d-12" in out
        assert "RF Out" in out
        assert ("Jump In" in out) == (width == "80")


@pytest.mark.parametrize(
    ("variables", "colored"),
    [({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False), ({}, False)],
)
def test_verdicts_are_colored_on_a_terminal(
    variables: dict[str, str], colored: bool, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    assert main(["summary", "gap-6k", "--max-params", "6849"]) == 1
    out = capsys.readouterr().out
    assert ("\x1b[31mNOT inside the budget\x1b[0m" in out) == colored
    assert ("\x1b[32mpass\x1b[0m" in out) == colored
    assert ("\x1b" in out) == colored


# ------------------------------------------------------------------------------------------ train


def test_train_a_network_without_a_file(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []

    def show(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", show)
    Path("net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(49, 10))\n"
    )
    words = ["--data", "digits", "--max-params", "8000", "--epochs", "1", "--threads", "1"]
    assert main(["train", "net.py:Net", *words, "--open"]) == 0
    assert re.search(r"parameters  at most 8,000  500  pass", capsys.readouterr().out)
    folder = tmp_path / "runs" / "Net" / "seed-0"
    assert opened == [(folder / "report.html").as_uri()]
    text = (folder / "experiment.toml").read_text()
    for line in ('name = "Net"', 'module = "net.py:Net"', "max_params = 8000", "epochs = 1"):
        assert f"\n{line}\n" in text
    Path("net.py").unlink()  # the folder is complete by itself
    words = ["--out", "again", "--threads", "1", "--quiet"]
    assert main(["train", str(folder / "experiment.toml"), *words]) == 0
    again = tmp_path / "again" / "Net" / "seed-0"
    weights = "weights.safetensors"
    assert (again / weights).read_bytes() == (folder / weights).read_bytes()

    assert main(["train", "4,s2 G", *words[2:], "--data=digits", "--epochs=1"]) == 0
    assert main(["train", "4,s2 G", *words[2:], "--data=digits", "--epochs=1", "--name=x"]) == 0
    assert {path.name for path in Path("runs").iterdir()} == {"Net", "chain", "x"}
    capsys.readouterr()
    assert main(["list"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["run", "data", "parameters", "epochs"]
    assert sorted(line.split()[0] for line in lines) == [
        str(Path("runs") / name / "seed-0") for name in ("Net", "chain", "x")
    ]
    assert main(["list", "--experiment", "x", "--json"]) == 0
    [run] = json.loads(capsys.readouterr().out)
    assert (run["experiment"], run["epochs"]) == ("x", 1)


def test_train_prints_the_verdict_and_the_report_last(
    tiny_file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(tiny_file), "--seed", "3", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert not CONTROL.search(out)
    lines = out.splitlines()
    folder = Path("runs") / "tiny" / "seed-3"
    assert [line.split()[0] for line in lines if re.match(r" +\d+/2 ", line)] == ["1/2", "2/2"]
    verdict = lines.index("verdict: inside the budget")
    assert [line.split()[-1] for line in lines[verdict + 1 : verdict + 4]] == ["pass"] * 3
    assert re.match(r"\d\d\.\d\d % of 360 test images after epoch 2", lines[verdict - 1])
    name, report = lines[-1].split(": ")
    assert name == "report"
    assert Path(report).is_file()
    assert Path(report).parent == folder


@pytest.mark.usefixtures("no_report")
def test_flags_and_quiet(tiny_file: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["--train.epochs", "1", "--data.augment.no-aug-epochs=0", "--budget.min_accuracy", "1"]
    where = ["--out", str(tmp_path / "elsewhere"), "--seed", "5", "--quiet", "--threads", "1"]
    assert main(["train", str(tiny_file), *words, *where]) == 1  # 100 % is out of reach
    out, err = capsys.readouterr()
    assert err == ""
    assert not re.search(r"^ +\d+/\d+ ", out, re.MULTILINE)
    assert re.search(r"^  test accuracy +at least 100.00 % .* FAIL$", out, re.MULTILINE)
    found = read_record(tmp_path / "elsewhere" / "tiny" / "seed-5")
    assert (found.seed, found.experiment.train.epochs, len(found.epochs)) == (5, 1, 1)


def test_train_stops_before_training_if_over_budget(
    tiny_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ["--budget.max_params", "10", "--out", str(tmp_path / "runs")]
    assert main(["train", str(tiny_file), *words]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("stopped before training: ")
    assert not (tmp_path / "runs").exists()


# -------------------------------------------------------------------------------- check, predict


def test_check_of_an_untouched_run(finished_folder: Path, capsys: Capture) -> None:
    assert main(["check", str(finished_folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("verdict: inside the budget")
    assert out.endswith("record: equal to what was counted and scored again\n")


def test_check_of_an_edited_run_is_exit_1(run_copy: Path, capsys: Capture) -> None:
    path = run_copy / "run.json"
    plain = json.loads(path.read_text())
    plain["test"]["num_correct"] += 1
    path.write_text(json.dumps(plain))
    assert main(["check", str(run_copy)]) == 1
    assert "  differs from the record: correct test images: " in capsys.readouterr().out


def test_predict_prints_a_line_for_each_image(
    finished_folder: Path, digits: Dataset, tmp_path: Path, capsys: Capture
) -> None:
    paths = []
    for number in range(2):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(digits.test.images[number, 0].numpy()).save(paths[-1])
    assert main(["predict", str(finished_folder), *paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, path in zip(lines, paths, strict=True):
        assert re.fullmatch(rf"{re.escape(path)}: \d [\d.]+ %, \d [\d.]+ %, \d [\d.]+ %", line)


def test_predict_as_json_and_csv(
    finished_folder: Path, digits: Dataset, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "a, b.png"
    Image.fromarray(digits.test.images[0, 0].numpy()).save(path)
    words = ["predict", str(finished_folder), str(tmp_path / "images")]
    assert main([*words, "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["path"] == str(path)
    assert sorted(found["classes"]) == list(digits.classes)
    assert main([*words, "--csv"]) == 0
    header, row = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ["path", "predicted", *digits.classes]
    assert row[:2] == [str(path), next(iter(found["classes"]))]
    shares = [found["classes"][name] for name in digits.classes]
    assert [float(cell) for cell in row[2:]] == pytest.approx(shares, abs=1e-6)
    assert main([*words, "--csv", "--json"]) == 2


@pytest.mark.parametrize("output", [[], ["--json"], ["--csv"]])
def test_predict_classifies_the_other_images_if_one_is_bad(
    output: list[str], finished_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    for name in "ac":
        Image.new("L", (28, 28)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_text("no image")
    assert main(["predict", str(finished_folder), str(tmp_path), *output]) == 2
    out, err = capsys.readouterr()
    assert [name for name in "abc" if str(tmp_path / f"{name}.png") in out] == ["a", "c"]
    assert err.startswith(f"smidgen: {tmp_path / 'b.png'} is not an image")
    assert err.count("\n") == 1


# ----------------------------------------------------------------------------------------- report


def test_report_writes_a_page_into_out(
    finished_folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)  # which says that there is no browser
    words = ["report", str(finished_folder), "--out", str(tmp_path / "page")]
    assert main([*words, "--open"]) == main(words) == 0
    out, err = capsys.readouterr()
    page = Path(out.splitlines()[-1].removeprefix("report: "))
    assert page.parent == tmp_path / "page"
    assert page.is_file()
    assert opened == [page.as_uri()]
    assert err == "smidgen: no browser could be opened\n"


def test_report_of_two_runs_compares_them_and_lists_what_is_missing(
    finished_folder: Path, run_copy: Path, tmp_path: Path, capsys: Capture
) -> None:
    (run_copy / "weights.safetensors").unlink()
    folders = [str(finished_folder), str(run_copy)]
    assert main(["report", *folders, "--out", str(tmp_path / "both")]) == 0
    *missing, line = capsys.readouterr().out.splitlines()
    assert missing == [f"{run_copy}: The folder has no weights, so no filters are shown."]
    page = Path(line.removeprefix("report: "))
    assert page.parent == tmp_path / "both"
    assert page.is_file()


# ------------------------------------------------------------------------------------- quickstart

Started = list[tuple[Experiment, Dataset]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    """The experiments and data that would have been trained; nothing is trained."""
    monkeypatch.chdir(tmp_path)
    found: Started = []

    def note(experiment: Experiment, _: object, dataset: Dataset) -> int:
        found.append((experiment, dataset))
        return 0

    monkeypatch.setattr(train, "_run", note)
    return found


@pytest.fixture
def no_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MNIST is not on disk, and no mirror answers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SMIDGEN_DATA", raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there


@pytest.mark.usefixtures("no_mnist")
def test_quickstart_falls_back_to_digits_and_prints_that_first(
    started: Started, capsys: Capture
) -> None:
    assert main(["quickstart"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("data: NOT MNIST but the embedded digits")
    assert err.startswith("smidgen: MNIST is not available: ")
    assert len(err.splitlines()) == 1
    ((experiment, dataset),) = started
    assert (experiment.name, dataset.name) == ("quickstart-digits", "digits")


@pytest.mark.usefixtures("no_mnist")
def test_no_other_command_falls_back(tmp_path: Path, capsys: Capture) -> None:
    assert main(["train", "quickstart", "--out", str(tmp_path / "runs")]) == 2
    assert "cannot be downloaded" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_quickstart_uses_mnist_if_available(
    mnist_folder: Path, started: Started, capsys: Capture
) -> None:
    assert main(["quickstart", "--data-dir", str(mnist_folder)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"data: MNIST, the folder {mnist_folder.name}"
    ((experiment, dataset),) = started
    assert (experiment.name, len(dataset.train)) == ("quickstart", 50_000)


def damaged(folder: Path) -> Path:
    """A folder with the four files of MNIST, all of them wrong."""
    folder.mkdir()
    for kind in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{kind}-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x07"))
    return folder


@pytest.mark.parametrize("way", ["--data-dir", "SMIDGEN_DATA", "cache"])
@pytest.mark.usefixtures("no_mnist")
def test_quickstart_does_not_fall_back_from_damaged_files(
    started: Started, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    words = []
    if way == "cache":
        (tmp_path / "cache" / "smidgen").mkdir(parents=True)
        damaged(tmp_path / "cache" / "smidgen" / "mnist")
    elif way == "SMIDGEN_DATA":
        monkeypatch.setenv(way, str(damaged(tmp_path / "mine")))
    else:
        words = [way, str(damaged(tmp_path / "mine"))]
    assert main(["quickstart", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, started) == ("", [])
    assert "is damaged or not a file of MNIST" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_mnist")
def test_quickstart_on_digits_meets_its_budget(tmp_path: Path, capsys: Capture) -> None:
    assert main(["quickstart", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("data: NOT MNIST")
    assert "verdict: inside the budget" in out
    folder = tmp_path / "quickstart-digits" / "seed-0"
    assert out.splitlines()[-1] == f"to draw digits for the network: smidgen demo {folder}"
    found = read_record(folder)
    assert found.data.name == "digits"
    assert found.verdict.passed
    assert found.test.score.accuracy >= 0.95


# -------------------------------------------------------------------------------------- bad input


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("\nepochs = 2", '\nepochs = "2"'), "train.epochs is '2'; it must be an integer"),
        (replaced("\nepochs = 2", "\nepoch = 2"), "no 'epoch'; it has: epochs"),
        (replaced("\nepochs = 2", "\nepoch = 2"), "Did you mean train.epochs?"),
        (replaced("\nepochs = 2", "\nlr = 2"), "Did you mean train.optimizer.lr?"),
        (replaced('name = "digits"', 'name = "cifar"'), "'cifar'; it must be one of mnist, digits"),
        (replaced("lr = 0.1", "lr = 1e30"), "the loss became nan in epoch 1"),
        (replaced("validation", "validations"), "data has no 'validations'"),
        (
            replaced("[data]\n", "[data]\nvalidation = 1437\n"),
            "validation is 1437; digits has 1437",
        ),
        (lambda text: text[: len(text) // 2], "tiny.toml: "),
        (lambda _: "x = " + "[" * 5000, "nests too deeply"),
        (lambda _: "", "experiment is missing"),
    ],
)
def test_an_invalid_file_is_one_line(
    tiny: Experiment,
    tmp_path: Path,
    capsys: Capture,
    change: Callable[[str], str],
    message: str,
) -> None:
    split_validation = replace(tiny, data=replace(tiny.data, validation=300))
    text = (tiny if "1437" in message else split_validation).to_toml()
    path = tmp_path / "tiny.toml"
    path.write_text(change(text))
    where = ["--out", str(tmp_path / "runs"), "--quiet", "--threads", "1"]
    assert main(["train", str(path), *where]) == 2
    check_one_line(capsys, message)
    assert not list(tmp_path.glob("runs/**/run.json"))


def check_one_line(capsys: Capture, message: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("smidgen: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "net.py:Net"], "data to train on: net.py:Net --data NAME|PATH"),
        (["train", "8 G", "--data", "."], ". has no class; a data set must have a folder"),
        (["train", "8 G", "--data", "none"], "'none' is neither a data set nor a path"),
        (["train", "net.py"], "name the network in it: net.py:NAME"),
        (["summary", "net.py:Net"], "model.module: there is no file"),
        (["summary", "8 G", "--input", "28"], "'28' must be CHANNELSxHEIGHTxWIDTH"),
        (["summary", "8 G", "--input", "0x9x9"], "'0x9x9' must be CHANNELSxHEIGHTxWIDTH"),
        (["summary", "8 G", "--classes", "1"], "--classes is 1; it must be 2 or more"),
        (["list", "none"], "there is no folder none"),
        (["list"], "there is no folder runs"),
        ([], "the following arguments are required: COMMAND; see smidgen --help"),
        (["trian"], ". Did you mean train? See smidgen --help"),
        (["qqq"], "invalid choice: 'qqq'"),
        (["train"], "train needs an experiment or a network, or --resume and a run's folder"),
        (["train", "--resume", "none"], "none is not a folder"),
        (["train", "x", "--resume", "."], "as it began, so experiment cannot be given with it"),
        (["train", "--resume", ".", "--seed", "1"], "so seed cannot be given with it"),
        (["train", "--resume", ".", "--out", "x"], "so out cannot be given with it"),
        (["train", "--resume", ".", "--skip-bad"], "so skip-bad cannot be given with it"),
        (["train", "--resume", ".", "--train.epochs", "3"], "cannot be given with it"),
        (
            ["train", "gap-6k", "--checkpoint-seconds", "-1"],
            "--checkpoint-seconds is -1.0; it must",
        ),
        (["train", "gap-6k", "--checkpoint-seconds", "nan"], "--checkpoint-seconds is nan; it m"),
        (["train", "gap-7k"], "'gap-7k' is neither a TOML file nor a built-in experiment"),
        (["train", "none.toml"], "none.toml cannot be read: No such file or directory"),
        (["train", "gap-6k.toml"], "No such file or directory. Did you mean gap-6k?"),
        (["train", "."], "'.' is neither a TOML file"),
        (["train", "./"], "cannot be read: Is a directory"),
        (
            ["train", "gap-6k", "--model.net", "gap-7k"],
            "flatten-18k, linear-19k, gap-11k. Did you mean gap-6k?",
        ),
        (["train", "gap-6k", "--model.args", "{x = 1}"], "model.args does not fit gap-6k"),
        (["train", "gap-6k", "--data.name", "x"], "data.name is 'x'; it must be one of mnist"),
        (["train", "gap-6k", "--train.epochs", "x"], "--train.epochs is 'x'; it must be an int"),
        (["train", "gap-6k", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["train", "gap-6k", "--seed", "-1"], "--seed is -1; it must be from 0"),
        (["train", "gap-6k", "--threads", "0"], "--threads is 0; it must be from 1"),
        (["train", "gap-6k", "--device", "tpu"], "--device is 'tpu'; it must be one of auto, cuda"),
        (["train", "gap-6k", "--data-dir", "none"], "--data-dir is none, which is not a folder"),
        (["summary", "gap-7k"], "Did you mean gap-6k?"),
        (["summary", "gap-6k", "--lrr", "3"], "Did you mean --lr? See smidgen summary --help"),
        (["check", "none"], "none is not a finished run: it has no run.json"),
        (["predict", "none", "x.png"], "none is not a finished run: it has no run.json"),
        (["predict", "none"], "the following arguments are required: IMAGE"),
        (["report", "none"], "there is no folder none"),
        (["quickstart", "--data-dir", "none"], "--data-dir is none, which is not a folder"),
    ],
)
def test_invalid_arguments_are_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    check_one_line(capsys, message)
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_chain_is_marked(capsys: Capture) -> None:
    assert main(["summary", "gap-6k", "--model.chain", "8 8,q1 G"]) == 2
    first, chain, mark = capsys.readouterr().err.splitlines()
    assert first.startswith("smidgen: model.chain, token 2, '8,q1': unknown suffix")
    assert chain[mark.index("^") : mark.rindex("^") + 1] == "8,q1"


def test_a_network_whose_output_does_not_fit_is_one_line(
    tiny_file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    for network in (nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(784, 9))):
        monkeypatch.setattr("smidgen.runs.network.build", lambda *_, net=network: net)
        assert main(["train", str(tiny_file), "--out", str(tmp_path / "runs")]) == 2
        check_one_line(capsys, "it must return (batch, 10), one score for each class")
        assert not (tmp_path / "runs").exists()


def spoil(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-100], "is damaged or not a file of MNIST"),
        (spoil, "is damaged or not a file of MNIST"),
        (lambda content: gzip.decompress(content)[:-1], "is damaged or not a file of MNIST"),
        (lambda _: b"", "is damaged or not a file of MNIST"),
    ],
)
def test_an_altered_idx_file_is_one_line(
    mnist_folder: Path,
    tmp_path: Path,
    capsys: Capture,
    change: Callable[[bytes], bytes],
    message: str,
) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for path in mnist_folder.iterdir():
        (folder / path.name).symlink_to(path)
    name = "train-labels-idx1-ubyte.gz"  # read before the images of the test split
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    (folder / name).write_bytes(change(content))
    words = ["--data-dir", str(folder), "--out", str(tmp_path / "runs")]
    assert main(["train", "gap-6k", *words]) == 2
    check_one_line(capsys, message)
    assert not (tmp_path / "runs").exists()


def test_no_space_left_is_one_line(
    tiny_file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["train", str(tiny_file), "--out", str(tmp_path), "--quiet"]) == 2
    check_one_line(capsys, "experiment.toml cannot be written: No space left on device")
    assert list((tmp_path / "tiny").iterdir()) == []


def test_an_invalid_image_is_one_line(
    finished_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "no.png").write_text("not an image")
    assert main(["predict", str(finished_folder), str(tmp_path / "no.png")]) == 2
    check_one_line(capsys, "no.png is not an image that can be read")
    big = tmp_path / "big.png"
    Image.new("1", (8000, 8000)).save(big)
    assert main(["predict", str(finished_folder), str(big)]) == 2
    check_one_line(capsys, "has 8000x8000 pixels; at most 50,000,000 are read")


def test_an_interruption_is_exit_130(
    tiny_file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("smidgen.runs.run.train", interrupt)
    assert main(["train", str(tiny_file), "--out", str(tmp_path / "runs"), "--quiet"]) == 130
    folder = tmp_path / "runs" / "tiny" / "seed-0"
    way = f"smidgen train --resume {folder}"
    assert capsys.readouterr() == ("", f"smidgen: interrupted; to resume: {way}\n")
    left = {path.name for path in folder.iterdir()}
    assert left == {"experiment.toml", "last.checkpoint", "metrics.jsonl"}


def test_a_bug_keeps_its_traceback_and_exits_with_70(
    tiny_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("smidgen.runs.run.train", fail)
    out = str(tiny_file.parent / "runs")
    assert main(["train", str(tiny_file), "--out", out, "--quiet"]) == 70
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert error.endswith("ZeroDivisionError\n")


@pytest.mark.slow
def test_a_real_interruption_keeps_finished_epochs(tiny_file: Path, tmp_path: Path) -> None:
    words = ["train", str(tiny_file), "--train.epochs", "5000", "--budget.max-epochs", "5000"]
    program = "import sys; from smidgen.cli import main; sys.exit(main())"
    command = [sys.executable, "-u", "-c", program, *words, "--out", str(tmp_path / "runs")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("2/5000" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    folder = tmp_path / "runs" / "tiny" / "seed-0"
    way = f"smidgen train --resume {folder}"
    assert (process.returncode, err) == (130, f"smidgen: interrupted; to resume: {way}\n")
    checkpoints = {"last.checkpoint", "previous.checkpoint"}
    left = {path.name for path in folder.iterdir()}
    assert left == {"experiment.toml", "metrics.jsonl", *checkpoints}
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) >= 2
