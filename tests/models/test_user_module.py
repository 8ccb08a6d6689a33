import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from smidgen._storage.user_code import source_files
from smidgen.config import Argument, Data, Experiment, Model, Optimizer, Train, read_experiment
from smidgen.data import DatasetInfo, open_dataset
from smidgen.errors import ConfigError, ModelError
from smidgen.models import build
from smidgen.record import read_record
from smidgen.report import read_run, write_report
from smidgen.runs.check import check
from smidgen.runs.network import prepare_network
from smidgen.runs.options import RunOptions
from smidgen.runs.predict import predict
from smidgen.runs.result import RunResult
from smidgen.runs.run import run

IMAGE = (3, 12, 10)
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_channels=1, width=4):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, stride=3)
        self.scores = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.scores(torch.relu(self.conv(x)).mean((2, 3)))

def make(num_classes, in_channels):
    return Net(num_classes, in_channels, width=2)

def flat(input_shape, **rest):
    assert not rest
    size = input_shape[0] * input_shape[1] * input_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 10))
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "user/my_model.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


def built(reference: str, **args: Argument) -> nn.Module:
    return build(Model(module=reference, args=args), IMAGE, 7)


def shapes(network: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in network.parameters() if p.ndim > 1]


def experiment(module: str, **args: Argument) -> Experiment:
    return Experiment(
        name="user",
        model=Model(module=module, args=args),
        data=Data(name="digits"),
        train=Train(epochs=1, batch_size=64, optimizer=Optimizer(name="adam", lr=0.01)),
    )


@pytest.fixture
def trained(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Trains a module for an epoch, without a report; the run's folder."""
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)

    def train(module: Path | str, **args: Argument) -> Path:
        outcome: RunResult = run(
            experiment(f"{module}:Net", **args), RunOptions(out=tmp_path / "runs", threads=1)
        )
        assert outcome.folder is not None
        return outcome.folder

    return train


# -------------------------------------------------------------------------------- building


def test_a_class_or_a_function_gets_the_arguments_that_it_has_parameters_for(write: Write) -> None:
    path = write(NET)
    assert shapes(built(f"{path}:Net")) == [(4, 3, 3, 3), (7, 4)]
    assert shapes(built(f"{path}:Net", width=6)) == [(6, 3, 3, 3), (7, 6)]
    assert shapes(built(f"{path}:Net", in_channels=2)) == [(4, 2, 3, 3), (7, 4)]  # args win
    assert shapes(built(f"{path}:make")) == [(2, 3, 3, 3), (7, 2)]
    assert shapes(built(f"{path}:flat")) == [(10, 360)]


def test_a_package_needs_no_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(NET, "place/nets_of_mine/small.py")
    root = write("", "place/nets_of_mine/__init__.py").parents[1]
    monkeypatch.syspath_prepend(root)
    try:
        assert shapes(built("nets_of_mine.small:Net", width=1)) == [(1, 3, 3, 3), (7, 1)]
    finally:
        for name in ("nets_of_mine", "nets_of_mine.small"):
            sys.modules.pop(name, None)


def test_a_class_of_torch_can_be_named() -> None:
    assert isinstance(built("torch.nn:Linear", in_features=10, out_features=7), nn.Linear)


def test_a_relative_file_is_relative_to_the_experiment(write: Write, tmp_path: Path) -> None:
    write(NET)
    text = """
        [experiment]
        name = "user"
        [model]
        module = "my_model.py:Net"
        args = { width = 3 }
        [data]
        name = "digits"
        [train]
        epochs = 1
        batch_size = 32
        optimizer = { name = "sgd", lr = 0.1 }
    """
    read = read_experiment(write(text, "user/user.toml"))
    assert read.model.module == f"{tmp_path / 'user' / 'my_model.py'}:Net"
    network, found = prepare_network(read, open_dataset(read.data).info)
    assert shapes(network) == [(3, 1, 3, 3), (10, 3)]
    assert found.num_params == 30 + 40


def test_the_same_seed_gives_the_same_weights(write: Write) -> None:
    path = write(NET)
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        weights.append(next(iter(built(f"{path}:Net").parameters())))
    assert torch.equal(*weights)


# --------------------------------------------------------------------- the copy in the run folder


def test_a_run_folder_has_a_copy_of_the_code(
    write: Write, trained: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(NET.replace("import torch\n", "import torch\nimport parts\n", 1))
    write("SAME = 1", "user/parts.py")
    folder = trained(path, width=3)
    saved = read_record(folder).experiment.model
    assert saved.module == f"{folder / 'my_model.py'}:Net"
    assert (folder / "parts.py").read_text() == "SAME = 1"
    path.write_text("raise RuntimeError('edited since')")
    (path.parent / "parts.py").unlink()
    assert check(folder).passed
    moved = folder.rename(tmp_path / "elsewhere")
    assert check(moved).passed
    Image.new("L", (30, 30)).save(tmp_path / "black.png")
    [found] = predict(moved, [tmp_path / "black.png"])
    assert len(found.classes) == 10
    moved_experiment = read_experiment(moved / "experiment.toml")
    again, _ = prepare_network(moved_experiment, open_dataset(moved_experiment.data).info)
    assert shapes(again) == [(3, 1, 3, 3), (10, 3)]
    assert not list(moved.rglob("__pycache__"))


def test_a_module_with_lazy_layers_is_trained_and_checked(
    write: Write, trained: Callable[..., Path]
) -> None:
    folder = trained(write(NET.replace("nn.Conv2d(in_channels, ", "nn.LazyConv2d(")))
    assert read_record(folder).profile.layers[0].params == 4 * 9 + 4
    assert check(folder).passed


def test_check_finds_an_edited_copy(write: Write, trained: Callable[..., Path]) -> None:
    folder = trained(write(NET))
    copy = folder / "my_model.py"
    copy.write_text(copy.read_text().replace("torch.relu", "torch.tanh"))
    assert not check(folder).passed


def test_a_package_is_not_copied(
    write: Write, trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(write(NET, "place/lone_net.py").parent)
    try:
        folder = trained("lone_net")
        assert read_record(folder).experiment.model.module == "lone_net:Net"
        assert not list(folder.glob("*.py"))
        assert check(folder).passed
    finally:
        sys.modules.pop("lone_net", None)


def test_reading_and_reporting_run_no_code(
    write: Write, trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])  # plots take seconds
    path = write(NET)
    folder = trained(path)
    trap = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
    for file in (path, folder / "my_model.py"):
        file.write_text(trap + file.read_text())
    record = read_record(folder)
    read = read_experiment(folder / "experiment.toml")
    assert record.experiment.model == read.model
    assert source_files(path) == (Path("my_model.py"),)
    write_report(read_run(folder), folder)
    assert not (path.parent / "ran").exists()
    assert not (folder / "ran").exists()
    check(folder)
    assert (folder / "ran").exists()  # the trap works, and only the copy ran
    assert not (path.parent / "ran").exists()


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("none.py:Net", r"model.module: there is no file none.py"),
        ("torch.nn:NoNet", r"torch.nn has no NoNet"),
        ("torch:__version__", r"torch:__version__ is not a class or function"),
        ("torch.nn:Linear", r"model.args does not fit torch.nn:Linear\(in_features.*: missing"),
    ],
)
def test_a_reference_or_arguments_that_do_not_fit(reference: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(reference)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("Other", {}, r"my_model.py has no Other\.$"),
        ("WIDTH", {}, r"my_model.py:WIDTH is not a class or function"),
        ("ready", {}, r"my_model.py:ready is a network already; name its class"),
        ("Net", {"depth": 3}, r"does not fit .*:Net\(num_classes, .*unexpected .* 'depth'"),
        ("strict", {}, r"does not fit .*:strict\(num_classes, depth\): missing .* 'depth'"),
    ],
)
def test_a_name_or_an_argument_of_a_file_that_does_not_fit(
    write: Write, name: str, args: dict[str, Argument], message: str
) -> None:
    path = write(NET + "\ndef strict(num_classes, depth): ...\nWIDTH = 3\nready = nn.ReLU()\n")
    with pytest.raises(ConfigError, match=message):
        built(f"{path}:{name}", **args)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def Net():\n    return 3", r"returns a value of type int; it must return an nn.Module"),
        (
            "import torch\ndef Net(): return torch.nn.ReLU",
            r"returns a value of type type; it must",
        ),
        (
            "import torch\ndef Net():\n    return torch.nn.Conv2d(3, 4, 3, groups=2)",
            r"fails: my_model.py, line 3: ValueError: in_channels must be divisible by groups",
        ),
        ("{}['key']", r"^model.module: .*my_model.py fails: my_model.py, line 1: KeyError: 'key'$"),
    ],
)
def test_a_factory_that_fails_or_returns_something_else(
    write: Write, text: str, message: str
) -> None:
    path = write(text)
    with pytest.raises(ModelError, match=message):
        built(f"{path}:Net")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "return nn.Sequential(nn.Flatten(), nn.Linear(784, 7))",
            r"returns \(batch, 7\); it must return \(batch, 10\), one score for each class",
        ),
        (
            "return nn.Conv2d(1, 10, 28)",
            r"returns \(batch, 10, 1, 1\); it must return \(batch, 10\)",
        ),
        (
            "return nn.Conv2d(3, 10, 28)",
            r"Conv2d-1 does not fit .* \(1, 28, 28\): expected 3 channels, got 1",
        ),
        (
            "return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))",
            r"Linear-2 \(1\) does not fit .* \(784,\): expected 3072 features in the last d",
        ),
        (
            "return nn.Sequential(nn.Conv2d(1, 2, 30), nn.Flatten(), nn.Linear(2, 10))",
            r"Conv2d-1 \(0\) .* \(1, 28, 28\): its window of 30x30 does not fit into 28x28",
        ),
        (
            "return nn.Sequential(nn.Flatten(0), nn.Linear(784, 10))",
            r"returns \(10,\) for one image of \(1, 28, 28\); the first dimension must be the b",
        ),
        ("return Two()", r"returns a tuple; it must return one tensor, \(batch, classes\)"),
        (
            "return Bad()",
            r"Bad-1 .* \(1, 28, 28\): forward raised: name 'forgotten' is not defined",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_data(write: Write, text: str, message: str) -> None:
    path = write(
        "from torch import nn\n\n"
        "class Two(nn.Module):\n    def forward(self, x): return x, x\n\n"
        "class Bad(nn.Module):\n    def forward(self, x): return forgotten(x)\n\n"
        f"def Net():\n    {text}\n"
    )
    with pytest.raises(ModelError, match=message):
        prepare_network(experiment(f"{path}:Net"), DatasetInfo((1, 28, 28), 10))
