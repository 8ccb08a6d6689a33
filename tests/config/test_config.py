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
    beside,
    format_experiment,
    parse_experiment,
    read_experiment,
    without_words,
)
from smidgen.errors import ConfigError
from smidgen.models import build

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

NO_LR = "train.optimizer.lr is {}; it must be above 0 and finite."
NO_REST = "train.optimizer.other_lr is {}; it must be above 0 and finite."
NO_MOMENTUM = "train.optimizer.momentum is {}; it must be from 0 to below 1."
NO_DECAY = "train.optimizer.weight_decay is {}; it must be finite, 0 or more."
OTHERS = "train.optimizer: momentum and nesterov are for sgd and muon, not for adam."
MUON = "train.optimizer: muon needs a momentum above 0, and nesterov = true."
NO_NAME = (
    "experiment.name is {!r}; it names a folder, so it must not be empty, begin with a dot or "
    'hold / \\ : * ? " < > |.'
)


def sgd(**changes: Any) -> Optimizer:
    return Optimizer(**dict[str, Any](name="sgd", lr=0.1) | changes)


def muon(**changes: Any) -> Optimizer:
    usual = dict[str, Any](name="muon", lr=0.1, other_lr=0.1, momentum=0.9, nesterov=True)
    return Optimizer(**usual | changes)


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
        (Schedule, {"warmup": 0.001, "every": 1, "gamma": 1}),
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


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (Augment, {"rotate": 181}, "data.augment.rotate is 181; degrees, 0 to 180."),
        (Augment, {"rotate": -0.5}, "data.augment.rotate is -0.5; degrees, 0 to 180."),
        (Augment, {"translate": 1}, "data.augment.translate is 1; a fraction, 0 to below 1."),
        (Augment, {"scale": 1}, "data.augment.scale is 1; a fraction, 0 to below 1."),
        (Augment, {"shear": -0.5}, "data.augment.shear is -0.5; a fraction, 0 to below 1."),
        (
            Augment,
            {"no_aug_epochs": -1},
            "data.augment.no_aug_epochs is -1; it must be 0 or more.",
        ),
        (TrainTestSplit, {"test": 0.0}, "data.split.test is 0.0; a share, between 0 and 1."),
        (TrainTestSplit, {"test": 1.0}, "data.split.test is 1.0; a share, between 0 and 1."),
        (Model, {}, "model must have one of net, chain, module; it has none."),
        (
            Model,
            {"net": "x", "chain": "x", "module": "x"},
            "model must have one of net, chain, module; it has net and chain and module.",
        ),
        (
            Model,
            {"chain": "x", "args": {"dropout": 0.1}},
            "model.args are for a net or a module; a chain says everything in its notation.",
        ),
        (Data, {}, "data must have one of name and path; it has none."),
        (
            Data,
            {"name": "x", "path": "x"},
            "data must have one of name and path; it has name and path.",
        ),
        *(
            (
                Data,
                {"name": "x"} | change,
                "data.size, data.grayscale and data.split are for data.path; a named set is as it "
                "is.",
            )
            for change in ({"size": 8}, {"grayscale": False}, {"split": TrainTestSplit(seed=1)})
        ),
        (Data, {"path": "x", "size": 0}, "data.size is 0; it must be from 1 to 4,096."),
        (Data, {"path": "x", "size": 4097}, "data.size is 4097; it must be from 1 to 4,096."),
        (Data, {"path": "x", "validation": -1}, "data.validation is -1; it must be 0 or more."),
        *((sgd, {"lr": lr}, NO_LR.format(lr)) for lr in (0.0, -1.0, inf, nan)),
        *((muon, {"other_lr": lr}, NO_REST.format(lr)) for lr in (0.0, -1.0, inf, nan)),
        *((sgd, {"momentum": m}, NO_MOMENTUM.format(m)) for m in (-0.5, 1.0, nan)),
        *((sgd, {"weight_decay": d}, NO_DECAY.format(d)) for d in (-0.5, inf, nan)),
        (sgd, {"name": "adam", "momentum": 0.5}, OTHERS),
        (sgd, {"name": "adam", "nesterov": True}, OTHERS),
        (
            sgd,
            {"other_lr": 0.1},
            "train.optimizer.other_lr is 0.1; muon needs it, and only muon has it.",
        ),
        (
            muon,
            {"other_lr": None},
            "train.optimizer.other_lr is None; muon needs it, and only muon has it.",
        ),
        (muon, {"nesterov": False}, MUON),
        (muon, {"momentum": 0.0}, MUON),
        (sgd, {"nesterov": True}, "train.optimizer.nesterov needs a momentum above 0."),
        *(
            (
                Schedule,
                {"warmup": warmup},
                f"train.schedule.warmup is {warmup}; a share of the steps, between 0 and 1.",
            )
            for warmup in (0.0, 1.0)
        ),
        (Schedule, {"every": 0}, "train.schedule.every is 0; it must be 1 or more."),
        *(
            (
                Schedule,
                {"gamma": gamma},
                f"train.schedule.gamma is {gamma}; it must be above 0 and at most 1.",
            )
            for gamma in (0.0, 1.001)
        ),
        (Average, {"decay": 0.0}, "train.average.decay is 0.0; it must be between 0 and 1."),
        (Average, {"decay": 1.0}, "train.average.decay is 1.0; it must be between 0 and 1."),
        (train, {"epochs": 0}, "train.epochs is 0; it must be 1 or more."),
        (train, {"batch_size": 0}, "train.batch_size is 0; it must be 1 or more."),
        (train, {"epochs": 10**6 + 1}, "train.epochs is 1000001; it must be at most 1,000,000."),
        *(
            (
                train,
                {"label_smoothing": share},
                f"train.label_smoothing is {share}; it must be from 0 to below 1.",
            )
            for share in (-0.5, 1.0)
        ),
        *((named, {"name": f"a{sign}"}, NO_NAME.format(f"a{sign}")) for sign in '/\\:*?"<>|\0'),
        *((named, {"name": name}, NO_NAME.format(name)) for name in ("", ".a")),
        (
            named,
            {"data": Data(name="x", augment=Augment(no_aug_epochs=2))},
            "data.augment.no_aug_epochs is 2; train.epochs is only 1.",
        ),
    ],
)
def test_a_part_that_makes_no_sense_is_refused(
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
    assert parse_experiment(format_experiment(experiment)) == experiment


def test_a_file_reads_as_it_says() -> None:
    experiment = parse_experiment(SMALL)
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
        ("epochs = 3", "epochs = 0", "train.epochs is 0; it must be 1 or more"),
        ("epochs = 3", "epoch = 3", "train has no 'epoch'; it has: epochs, batch_size"),
        ("epochs = 3", "", "train.epochs is missing"),
        ('name = "tiny"', 'name = "a/b"', "experiment.name is 'a/b'; it names a folder"),
        ("min_accuracy = 0.994", "min_accuracy = 99.4", "99.4 % is 0.994"),
        ("max_params = 7_999", "max_params = 0", "budget.max_params is 0; it must be at least 1"),
        ('chain = "8 M 8 G"', "", "model must have one of net, chain, module; it has none"),
        ('chain = "8 M 8 G"', 'chain = "8 G"\nnet = "x"', "it has net and chain"),
        ("nesterov = true }", "nesterov = 1 }", "nesterov is 1; it must be true or false"),
        ('"sgd", lr', '"adam", lr', "momentum and nesterov are for sgd and muon, not for adam"),
        ("momentum = 0.9, ", "", "nesterov needs a momentum above 0"),
        ("warmup = 0.2", "warmup = 1.0", "warmup is 1.0; a share of the steps"),
        ("translate = 0.1", "translate = 2", "translate is 2.0; a fraction"),
        ("rotate = 10", "no_aug_epochs = 4", "no_aug_epochs is 4; train.epochs is only 3"),
        ("[budget]", "[budgett]", "the file has no 'budgett'; it has: experiment, budget"),
        ("[budget]", "[budget", r"line 6|at line"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(ConfigError, match=message):
        parse_experiment(SMALL.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "epochs = 0x" + "f" * 5000, "train.epochs is an integer too large"),
        ("lr = 0.1", "lr = 0x" + "f" * 5000, "train.optimizer.lr is an integer too large"),
        ('name = "tiny"', "name = 0x" + "f" * 5000, "experiment.name is an integer too large"),
        ('name = "tiny"', "name" + ".a" * 50 + " = 1", "a key of more than 32 parts"),
        ('name = "tiny"', "name" + " . 'a b'" * 50 + " = 1", "a key of more than 32 parts"),
        ("[budget]", "[" + '"a\\"".' * 50 + "b]\n[budget]", "a key of more than 32 parts"),
        ("It learns.", "x" * (1 << 18), "has 262,[0-9]+ characters; an experiment has at most"),
    ],
)
def test_what_would_take_long_to_read_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_experiment(SMALL.replace(old, new))


@pytest.mark.parametrize("text", ["1.2.3" * 9, ". . . " * 99, "One. Two words. " * 99, "." * 99])
def test_dots_in_a_text_are_no_long_key(text: str) -> None:
    assert parse_experiment(SMALL.replace("It learns.", text)).analysis == text


def test_an_error_shows_only_the_beginning_of_what_is_wrong() -> None:
    long = SMALL.replace('name = "tiny"', f"name = {['x' * 1000] * 100}")
    with pytest.raises(ConfigError, match=r"experiment\.name is \['xxx") as caught:
        parse_experiment(long)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 5000, "\\u0000"])
def test_a_module_whose_name_no_file_can_have_stays_as_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(SMALL.replace('chain = "8 M 8 G"', f'module = "{name}.py:Net"'))
    model = read_experiment(path).model
    assert model.file is not None
    with pytest.raises(ConfigError, match="there is no file"):
        build(model, (1, 8, 8), 10)


@pytest.mark.parametrize("source", ["net.py:Net", "deep/net.py:Net", "a:b/net.py:Net"])
def test_a_module_s_file_is_looked_for_beside_the_experiment(source: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(SMALL.replace('chain = "8 M 8 G"', f'module = "{source}"'))
    file = source.removesuffix(":Net")
    assert read_experiment(path).model == Model(module=source)
    assert read_experiment(path).model.file == Path(file)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    experiment = read_experiment(path)
    assert experiment.model == Model(module=f"{tmp_path / file}:Net")
    assert experiment == replace(parse_experiment(path.read_text()), model=experiment.model)


@pytest.mark.parametrize("model", [Model(net="x"), Model(chain="8 G"), Model(module="package:Net")])
def test_what_is_in_no_file_has_none(model: Model, tmp_path: Path) -> None:
    assert model.file is None
    assert beside(named(model=model), tmp_path).model is model


def test_words_change_nothing_of_what_is_done() -> None:
    said = named(target="Small.", analysis="Learnt.")
    assert without_words(said) == named() != said
    assert without_words(replace(said, name="b")) == named(name="b")


def test_a_text_of_several_lines_is_written_in_one() -> None:
    assert 'text = "One.\\nTwo."\n' in format_experiment(named(analysis="One.\nTwo."))


def test_what_nests_too_deeply_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^it nests lists or tables too deeply to be an experiment\.$"
    ):
        parse_experiment("name = " + "[" * 100_000)


def test_a_text_as_long_as_is_allowed_is_read() -> None:
    longest = SMALL + "#" * ((1 << 18) - len(SMALL))
    assert parse_experiment(longest) == parse_experiment(SMALL)
    with pytest.raises(
        ConfigError,
        match=r"^it has 262,145 characters; an experiment has at most 262,144\.$",
    ):
        parse_experiment(longest + "#")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml cannot be read: No such file"):
        read_experiment(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_experiment(tmp_path)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(SMALL.replace("epochs = 3", "epochs = 0"))
    with pytest.raises(ConfigError, match=rf"^{wrong}: train\.epochs is 0; it must be 1 or more"):
        read_experiment(wrong)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary.toml is not a text in UTF-8"):
        read_experiment(binary)


values = st.sampled_from(["0", "-1", "nan", "inf", "1e999", "true", '"x"', "[]", "{}", "[[[1]]]"])
lines = st.tuples(st.integers(0), st.text(max_size=8) | values)


@given(st.lists(lines, min_size=1, max_size=3), st.booleans())
def test_a_changed_experiment_is_refused_or_can_be_written(
    changes: list[tuple[int, str]], drop: bool
) -> None:
    changed = SMALL.splitlines()
    for place, value in changes:
        key, equals, _ = changed[place % len(changed)].partition("=")
        changed[place % len(changed)] = "" if drop else f"{key}{equals}{value}"
    try:
        experiment = parse_experiment("\n".join(changed))
    except ConfigError:
        return
    assert parse_experiment(format_experiment(experiment)) == experiment


@given(st.text(max_size=200))
def test_garbage_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_experiment(text)
