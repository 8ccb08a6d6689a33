import contextlib
import dataclasses
import inspect
import re
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.config import (
    Augment,
    Average,
    Budget,
    Data,
    Experiment,
    Model,
    Optimizer,
    Schedule,
    Train,
    TrainTestSplit,
    read_experiment,
)
from smidgen.errors import ConfigError

SMALL = """
[experiment]
name = "tiny"
target = "As small as can be."

[budget]
max_params = 7_999
min_accuracy = 0.994

[model]
chain = "8 M 8 G"

[data]
name = "digits"
augment = { rotate = 10, translate = 0.1 }

[train]
epochs = 3
batch_size = 128
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9, nesterov = true }
schedule = { name = "one-cycle", warmup = 0.2 }
average = { name = "ema", decay = 0.99 }

[analysis]
text = "It learns."
"""

OTHERS = "train.optimizer: momentum and nesterov are for sgd and muon, not for adam."
MUON = "train.optimizer: muon needs a momentum above 0, and nesterov = true."
NO_NAME = (
    "experiment.name is {!r}; it names a folder, so it must not be empty, begin with a dot or "
    'contain / \\ : * ? " < > |.'
)


def sgd(**changes: Any) -> Optimizer:
    return Optimizer(**dict[str, Any](name="sgd", lr=0.1) | changes)


def muon(**changes: Any) -> Optimizer:
    usual = dict[str, Any](name="muon", lr=0.1, other_lr=0.1, momentum=0.9, nesterov=True)
    return Optimizer(**usual | changes)


def custom(**changes: Any) -> Data:
    return Data(path="x", **changes)


def train(**changes: Any) -> Train:
    return Train(**dict[str, Any](epochs=1, batch_size=1, optimizer=sgd()) | changes)


def named(**changes: Any) -> Experiment:
    usual = dict[str, Any](name="a", model=Model(net="x"), data=Data(name="x"), train=train())
    return Experiment(**usual | changes)


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (Augment, {"rotate": 180, "translate": 0.999, "scale": 0.999, "shear": 0.999}),
        (TrainTestSplit, {"test": 0.001}),
        (TrainTestSplit, {"test": 0.999}),
        (Data, {"path": "x", "size": 1, "grayscale": False, "split": TrainTestSplit(seed=1)}),
        (Data, {"path": "x", "size": 4096}),
        (Data, {"name": "x", "validation": 0}),
        (Model, {"net": "x", "args": {"dropout": 0.1}}),
        (sgd, {"momentum": 0.999, "weight_decay": 1e9, "lr": 1e9}),
        (sgd, {"momentum": 0.001, "nesterov": True}),
        (sgd, {"name": "adam", "weight_decay": 0.0}),
        (muon, {"other_lr": 1e9, "momentum": 0.001}),
        (Schedule, {"warmup": 0.001, "step_size": 1, "gamma": 1}),
        (Schedule, {"warmup": 0.999, "gamma": 0.001}),
        (Average, {"decay": 0.001}),
        (Average, {"decay": 0.999}),
        (train, {"label_smoothing": 0.999}),
        (train, {"epochs": 10**6, "batch_size": 10**6}),
        (named, {"name": "a."}),
        (named, {"data": Data(name="x", augment=Augment(no_aug_epochs=1))}),
    ],
)
def test_the_ends_of_a_range_are_inside(make: Any, changes: dict[str, Any]) -> None:
    made = make(**changes)
    assert all(getattr(made, name) == value for name, value in changes.items())


RANGES = [
    (Augment, "data.augment.rotate", (181, -0.5), "from 0 to 180 (degrees)"),
    (Augment, "data.augment.translate", (1, -0.5), "from 0 to below 1 (a fraction of the side)"),
    (Augment, "data.augment.scale", (1, -0.5), "from 0 to below 1 (a fraction)"),
    (Augment, "data.augment.shear", (1, -0.5), "from 0 to below 1 (a tangent)"),
    (Augment, "data.augment.no_aug_epochs", (-1,), "0 or more"),
    (TrainTestSplit, "data.split.test", (0.0, 1.0), "above 0 and below 1 (a fraction)"),
    (custom, "data.size", (0, 4097), "from 1 to 4,096 (pixels)"),
    (custom, "data.validation", (-1,), "0 or more (images)"),
    (sgd, "train.optimizer.lr", (0.0, -1.0, inf, nan), "above 0 and finite"),
    (muon, "train.optimizer.other_lr", (0.0, -1.0, inf, nan), "above 0 and finite"),
    (sgd, "train.optimizer.momentum", (-0.5, 1.0, nan), "from 0 to below 1"),
    (sgd, "train.optimizer.weight_decay", (-0.5, inf, nan), "0 or more and finite"),
    (Schedule, "train.schedule.warmup", (0, 1), "above 0 and below 1 (a fraction of all steps)"),
    (Schedule, "train.schedule.step_size", (0,), "1 or more (epochs)"),
    (Schedule, "train.schedule.gamma", (0.0, 1.001), "above 0 and at most 1 (a factor)"),
    (Average, "train.average.decay", (0.0, 1.0), "above 0 and below 1"),
    (train, "train.epochs", (0, 10**6 + 1), "from 1 to 1,000,000"),
    (train, "train.batch_size", (0, 10**6 + 1), "from 1 to 1,000,000 (images)"),
    (train, "train.label_smoothing", (-0.5, 1.0), "from 0 to below 1 (a fraction)"),
    (Budget, "budget.max_params", (0,), "1 or more"),
    (Budget, "budget.max_weight_bytes", (0,), "1 or more (bytes)"),
    (Budget, "budget.min_accuracy", (99.4, -0.1), "from 0 to 1 (a fraction; 99.4 % is 0.994)"),
]


@pytest.mark.parametrize(
    ("make", "key", "value", "allowed"),
    [(make, key, value, allowed) for make, key, values, allowed in RANGES for value in values],
)
def test_a_value_out_of_range_is_refused(make: Any, key: str, value: float, allowed: str) -> None:
    shown = rf"{re.escape(str(value))}(\.0)?"
    with pytest.raises(
        ConfigError, match=rf"^{key} is {shown}; it must be {re.escape(allowed)}\.$"
    ):
        make(**{key.rpartition(".")[2]: value})


PATH_ONLY = (
    "data.size, data.grayscale and data.split are for data.path only; a built-in data set has its "
    "own size, channels and splits."
)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (Model, {}, "model must have exactly one of net, chain, module; it has none."),
        (
            Model,
            {"net": "x", "chain": "x", "module": "x"},
            "model must have exactly one of net, chain, module; it has net and chain and module.",
        ),
        (
            Model,
            {"chain": "x", "args": {"dropout": 0.1}},
            "model.args are for a net or a module; a chain is described by its notation alone.",
        ),
        (Data, {}, "data must have exactly one of name, path; it has none."),
        (
            Data,
            {"name": "x", "path": "x"},
            "data must have exactly one of name, path; it has name and path.",
        ),
        *(
            (Data, {"name": "x"} | change, PATH_ONLY)
            for change in ({"size": 8}, {"grayscale": False}, {"split": TrainTestSplit(seed=1)})
        ),
        (sgd, {"name": "adam", "momentum": 0.5}, OTHERS),
        (sgd, {"name": "adam", "nesterov": True}, OTHERS),
        (
            sgd,
            {"other_lr": 0.1},
            "train.optimizer.other_lr is 0.1; muon needs it, and only muon takes it.",
        ),
        (
            muon,
            {"other_lr": None},
            "train.optimizer.other_lr is None; muon needs it, and only muon takes it.",
        ),
        (muon, {"nesterov": False}, MUON),
        (muon, {"momentum": 0.0}, MUON),
        (sgd, {"nesterov": True}, "train.optimizer.nesterov needs a momentum above 0."),
        *((named, {"name": f"a{sign}"}, NO_NAME.format(f"a{sign}")) for sign in '/\\:*?"<>|\0'),
        *((named, {"name": name}, NO_NAME.format(name)) for name in ("", ".a")),
        (
            named,
            {"data": Data(name="x", augment=Augment(no_aug_epochs=2))},
            "data.augment.no_aug_epochs is 2; train.epochs is only 1.",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    make: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        make(**changes)


shares = st.floats(0, 1, exclude_max=True)
positive = st.floats(1e-9, 1e9)
# TOML holds every character but lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text("abcXYZ019-_ äß€", min_size=1)
optimizers = st.builds(
    Optimizer, name=st.just("sgd"), lr=positive, momentum=shares, weight_decay=shares
) | st.builds(Optimizer, name=st.sampled_from(["adam", "adamw"]), lr=positive)
experiments = st.builds(
    Experiment,
    name=names,
    target=texts,
    analysis=texts,
    budget=st.builds(
        Budget,
        max_params=st.none() | st.integers(1, 2**62),
        max_epochs=st.none() | st.integers(1, 1000),
        min_accuracy=st.none() | st.floats(0, 1),
    ),
    model=st.builds(Model, chain=texts)
    | st.builds(Model, net=texts, args=st.dictionaries(texts, st.booleans() | shares | texts)),
    data=st.builds(
        Data,
        name=texts,
        validation=st.none() | st.integers(0, 10**6),
        augment=st.builds(Augment, rotate=st.floats(0, 180), scale=shares, shear=shares),
    ),
    train=st.builds(
        Train,
        epochs=st.integers(1, 1000),
        batch_size=st.integers(1, 4096),
        optimizer=optimizers,
        schedule=st.builds(Schedule, name=st.sampled_from(["constant", "step", "one-cycle"])),
        average=st.builds(Average, name=st.sampled_from(["none", "ema"])),
        label_smoothing=shares,
    ),
)


@given(experiments)
def test_an_experiment_survives_toml(experiment: Experiment) -> None:
    assert Experiment.from_toml(experiment.to_toml()) == experiment


def test_a_file_is_read() -> None:
    experiment = Experiment.from_toml(SMALL)
    assert experiment.budget == Budget(max_params=7999, min_accuracy=0.994)
    assert experiment.data.augment == Augment(rotate=10.0, translate=0.1)
    assert experiment.train.optimizer.nesterov
    assert (experiment.name, experiment.analysis) == ("tiny", "It learns.")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr = 0.1", "lr = 0", r"optimizer.lr is 0.0; it must be above 0"),
        ("lr = 0.1", 'lr = "0.1"', "train.optimizer.lr is '0.1'; it must be a number"),
        ("epochs = 3", "epochs = 3.5", "train.epochs is 3.5; it must be an integer"),
        ("epochs = 3", "epochs = 0", "train.epochs is 0; it must be from 1 to 1,000,000"),
        ("epochs = 3", "epoch = 3", "train has no 'epoch'; it has: epochs, batch_size"),
        ("lr = 0.1, ", "", "train.optimizer.lr is missing"),
        ('name = "tiny"', 'name = "a/b"', "experiment.name is 'a/b'; it names a folder"),
        ("min_accuracy = 0.994", "min_accuracy = 99.4", r"99.4 % is 0.994"),
        ("max_params = 7_999", "max_params = 0", "budget.max_params is 0; it must be 1 or more"),
        ('chain = "8 M 8 G"', "", "model must have exactly one of net, chain, module; it has none"),
        ('chain = "8 M 8 G"', 'chain = "8 G"\nnet = "x"', "it has net and chain"),
        ("nesterov = true }", "nesterov = 1 }", "nesterov is 1; it must be true or false"),
        ('"sgd", lr', '"adam", lr', "momentum and nesterov are for sgd and muon, not for adam"),
        ("momentum = 0.9, ", "", "nesterov needs a momentum above 0"),
        ("warmup = 0.2", "warmup = 1.0", "warmup is 1.0; it must be above 0 and below 1"),
        ("translate = 0.1", "translate = 2", "translate is 2.0; it must be from 0 to below 1"),
        ("rotate = 10", "no_aug_epochs = 4", "no_aug_epochs is 4; train.epochs is only 3"),
        ("[budget]", "[budgett]", "the file has no 'budgett'; it has: experiment, budget"),
        ("[budget]", "[budget", r"line 6|at line"),
    ],
)
def test_an_error_in_a_file_is_named(old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(ConfigError, match=message):
        Experiment.from_toml(SMALL.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "epochs = 0x" + "f" * 5000, "train.epochs is an integer too large"),
        ("lr = 0.1", "lr = 0x" + "f" * 5000, "train.optimizer.lr is an integer too large"),
        ('name = "tiny"', "name = 0x" + "f" * 5000, "experiment.name is an integer too large"),
    ],
)
def test_an_integer_too_large_for_a_number_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Experiment.from_toml(SMALL.replace(old, new))


def test_an_error_shows_only_the_beginning_of_what_is_wrong() -> None:
    long = SMALL.replace('name = "tiny"', f"name = {['x' * 1000] * 100}")
    with pytest.raises(ConfigError, match=r"experiment\.name is \['xxx") as caught:
        Experiment.from_toml(long)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "source", ["net.py:Net", "deep/net.py:Net", "../net.py:Net", "a:b/net.py:Net"]
)
def test_a_module_is_relative_to_the_experiment_file(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(SMALL.replace('chain = "8 M 8 G"', f'module = "{source}"'))
    file = tmp_path / source.removesuffix(":Net")
    experiment = read_experiment(path)
    assert experiment.model == Model(module=f"{file}:Net")
    assert experiment.model.file == file
    assert experiment == Experiment.from_toml(path.read_text()).with_files_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert read_experiment(Path("experiment.toml")) == experiment


def test_an_absolute_path_of_a_module_stays(tmp_path: Path) -> None:
    experiment = named(model=Model(module=f"{tmp_path / 'net.py'}:Net"))
    assert experiment.with_files_in(Path("elsewhere")) == experiment


def test_a_module_is_stored_under_its_bare_name(tmp_path: Path) -> None:
    experiment = named(model=Model(module=f"{tmp_path / 'net.py'}:Net", args={"width": 3}))
    stored = experiment.with_bare_files()
    assert stored.model == Model(module="net.py:Net", args={"width": 3})
    assert stored.with_files_in(tmp_path) == experiment


@pytest.mark.parametrize("model", [Model(net="x"), Model(chain="8 G"), Model(module="package:Net")])
def test_a_network_without_a_file_has_none(model: Model, tmp_path: Path) -> None:
    assert model.file is None
    experiment = named(model=model)
    assert experiment.with_files_in(tmp_path) is experiment
    assert experiment.with_bare_files() is experiment


def test_experiments_compare_without_their_texts() -> None:
    said = named(target="Small.", analysis="Learned.")
    assert said.without_texts() == named() != said
    assert replace(said, name="b").without_texts() == named(name="b")


def test_a_text_of_several_lines_is_written_in_one() -> None:
    assert 'text = "One.\\nTwo."\n' in named(analysis="One.\nTwo.").to_toml()


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^it nests too deeply for an experiment\.$"):
        Experiment.from_toml("name = " + "[" * 100_000)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml cannot be read: No such file"):
        read_experiment(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_experiment(tmp_path)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(SMALL.replace("epochs = 3", "epochs = 0"))
    with pytest.raises(ConfigError, match=rf"^{wrong}: train\.epochs is 0; it must be from 1"):
        read_experiment(wrong)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary.toml is not text in UTF-8"):
        read_experiment(binary)


values = st.sampled_from(["0", "-1", "nan", "inf", "1e999", "true", '"x"', "[]", "{}", "[[[1]]]"])
lines = st.tuples(st.integers(0), st.text(max_size=8) | values)


@given(st.lists(lines, min_size=1, max_size=3), st.booleans())
def test_a_changed_file_is_a_config_error_or_an_experiment(
    changes: list[tuple[int, str]], drop: bool
) -> None:
    changed = SMALL.splitlines()
    for place, value in changes:
        key, equals, _ = changed[place % len(changed)].partition("=")
        changed[place % len(changed)] = "" if drop else f"{key}{equals}{value}"
    with contextlib.suppress(ConfigError):
        Experiment.from_toml("\n".join(changed))


@given(st.text(max_size=200))
def test_garbage_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        Experiment.from_toml(text)


# ----------------------------------------------------------------------------------------- Python


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (Train, {"epochs": "5"}, "train.epochs is '5'; it must be an integer."),
        (Train, {"epochs": 5.0}, "train.epochs is 5.0; it must be an integer."),
        (Train, {"epochs": True}, "train.epochs is True; it must be an integer."),
        (Train, {"optimizer": "sgd"}, "train.optimizer is 'sgd'; it must be a table."),
        (Train, {"precision": "half"}, "train.precision is 'half'; it must be one of "),
        (Model, {"net": 3}, "model.net is 3; it must be a string."),
        (Model, {"net": "x", "args": [1]}, "model.args is [1]; it must be a table."),
        (Model, {"net": "x", "args": {"a": None}}, "model.args.a is None; it must be true or "),
        (Data, {"name": b"mnist"}, "data.name is b'mnist'; it must be a string."),
        (Augment, {"rotate": "5"}, "data.augment.rotate is '5'; it must be a number."),
        (Budget, {"max_params": 7_999.0}, "budget.max_params is 7999.0; it must be an integer."),
        (named, {"name": 3}, "experiment.name is 3; it must be a string."),
        (named, {"analysis": None}, "analysis.text is None; it must be a string."),
        (named, {"model": "gap-6k"}, "model is 'gap-6k'; it must be a table."),
    ],
)
def test_a_wrong_type_is_named_when_a_config_is_made_in_python(
    make: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        make(**changes)


def test_integers_become_floats_and_paths_strings_when_a_config_is_made_in_python() -> None:
    rotate, path = Augment(rotate=5).rotate, Data(path=Path("my/images")).path  # type: ignore[arg-type]
    assert (rotate, type(rotate)) == (5.0, float)
    assert path == "my/images"


def test_tables_are_accepted_in_python() -> None:
    experiment: Any = {"name": "a", "model": {"net": "x"}, "data": {"name": "x"}}
    assert Experiment(**experiment) == named(train=Train())


def test_a_changed_copy_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"^train\.epochs is 0; it must be from 1 to 1,000,000"):
        replace(Train(), epochs=0)


def test_an_experiment_of_three_lines_has_defaults_that_work() -> None:
    text = 'experiment.name = "a"\nmodel.chain = "8 G"\ndata.name = "mnist"\n'
    experiment = Experiment.from_toml(text)
    assert experiment.train == Train(
        epochs=14,
        batch_size=128,
        optimizer=sgd(momentum=0.9, nesterov=True, weight_decay=1e-4),
        schedule=Schedule(name="one-cycle", warmup=0.2),
        average=Average(name="ema", decay=0.995),
    )
    shown = experiment.to_toml()
    for field in dataclasses.fields(Optimizer):
        value = getattr(experiment.train.optimizer, field.name)
        assert value is None or f"\n{field.name} = " in shown


CLASSES = (Augment, Average, Budget, Data, Experiment, Model, Optimizer, Schedule, Train)


@pytest.mark.parametrize("kind", [*CLASSES, TrainTestSplit])
def test_help_shows_every_field_with_its_meaning_range_and_default(kind: type) -> None:
    described = inspect.getdoc(kind) or ""
    for field in dataclasses.fields(kind):
        (line,) = re.findall(rf"^    {field.name}: (.+)$", described, re.MULTILINE)
        assert re.fullmatch(r"[A-Za-z].+\. (Required|Default: .+)\.", line)


def test_help_of_one_field() -> None:
    assert (
        "    rotate: Largest rotation, either way. From 0 to 180 (degrees). Default: 0.0."
        in (Augment.__doc__ or "").splitlines()
    )
