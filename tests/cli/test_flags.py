import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.cli.flags import Parser, add_experiment_flags, normalized, with_flags
from smidgen.config import Augment, Budget, Data, Experiment, Model
from smidgen.errors import ConfigError


def flagged(experiment: Experiment, *words: str) -> Experiment:
    parser = Parser(prog="smidgen train")
    add_experiment_flags(parser)
    return with_flags(experiment, parser.parse_args(normalized(words)))


def test_without_flags_nothing_changes(tiny: Experiment) -> None:
    assert flagged(tiny) == tiny


@pytest.mark.parametrize(
    ("words", "place", "value"),
    [
        (["--experiment.name", "other"], "name", "other"),
        (["--experiment.target", "9"], "target", "9"),
        (["--analysis.text", 'It "learns".\nSlowly.'], "analysis", 'It "learns".\nSlowly.'),
        (["--budget.max_params", "7_999"], "budget.max_params", 7999),
        (["--budget.max-params=7999"], "budget.max_params", 7999),
        (["--budget.min_accuracy", "1"], "budget.min_accuracy", 1.0),
        (["--data.validation", "0"], "data.validation", 0),
        (["--data.augment.no-aug-epochs", "2"], "data.augment.no_aug_epochs", 2),
        (["--data.augment.rotate", "7"], "data.augment.rotate", 7.0),
        (["--train.optimizer.lr", "1e-3"], "train.optimizer.lr", 0.001),
        (["--train.optimizer.weight-decay", "0"], "train.optimizer.weight_decay", 0.0),
        (["--train.schedule.name", "step"], "train.schedule.name", "step"),
        (["--train.test_each_epoch", "true"], "train.test_each_epoch", True),
        (["--train.label-smoothing", "0.1"], "train.label_smoothing", 0.1),
        (["--train.epochs", "3", "--train.epochs", "4"], "train.epochs", 4),
        (["--name", "other"], "name", "other"),
        (["--max-params=7999"], "budget.max_params", 7999),
        (["--max-epochs", "9"], "budget.max_epochs", 9),
        (["--min-accuracy", "0.9"], "budget.min_accuracy", 0.9),
        (["--epochs", "4"], "train.epochs", 4),
        (["--batch-size", "32"], "train.batch_size", 32),
        (["--lr", "0.01"], "train.optimizer.lr", 0.01),
    ],
)
def test_a_flag_changes_its_field_alone(
    tiny: Experiment, words: list[str], place: str, value: object
) -> None:
    changed = flagged(tiny, *words)
    found: object = changed
    for name in place.split("."):
        found = getattr(found, name)
    assert (found, type(found)) == (value, type(value))

    def put_back(new: object, old: object, path: list[str]) -> object:
        if not path:
            return old
        inner = put_back(getattr(new, path[0]), getattr(old, path[0]), path[1:])
        return replace(new, **{path[0]: inner})  # type: ignore[type-var]

    assert put_back(changed, tiny, place.split(".")) == tiny


def test_a_limit_can_be_added(tiny: Experiment) -> None:
    bare = replace(tiny, budget=Budget())
    assert flagged(bare, "--budget.max_macs", "5").budget == Budget(max_macs=5)


def test_another_network_replaces_the_one_in_the_file(tiny: Experiment) -> None:
    net = replace(tiny, model=Model(net="gap-6k", args={"dropout": 0.1}))
    assert flagged(tiny, "--model.net", "gap-6k").model == Model(net="gap-6k")
    assert flagged(net, "--model.chain", "8 G").model == Model(chain="8 G")
    words = ["--model.net", "gap-11k", "--model.args", "{dropout = 0.2}"]
    assert flagged(net, *words).model == Model(net="gap-11k", args={"dropout": 0.2})
    assert flagged(net, "--model.args", "{}").model == Model(net="gap-6k")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train.epochs", "many"], r"--train.epochs is 'many'; it must be an integer"),
        (["--train.epochs", "3.0"], r"--train.epochs is 3.0; it must be an integer"),
        (["--train.epochs", ""], r"--train.epochs is ''; it must be an integer"),
        (["--train.epochs", "0"], r"--train.epochs is 0; it must be from 1"),
        (["--train.optimizer.lr", "-0.1"], r"--train.optimizer.lr is -0.1; it must be above 0"),
        (["--train.optimizer.lr", "nan"], r"--train.optimizer.lr is nan; it must be above 0"),
        (["--train.optimizer.lr", "inf"], r"--train.optimizer.lr is inf; .* finite"),
        (["--train.optimizer.weight_decay", "inf"], r"weight_decay is inf; .* finite"),
        (["--train.optimizer.lr", "1" + "0" * 400], r"--train.optimizer.lr is an integer too l"),
        (["--train.schedule.gamma", "1.1"], r"--train.schedule.gamma is 1.1; .* at most 1"),
        (["--train.optimizer.name", "rms"], r"name is 'rms'; it must be one of 'sgd', 'adam'"),
        (["--train.test_each_epoch", "True"], r"each_epoch is 'True'; it must be true or false"),
        (["--train.test_each_epoch", "1"], r"each_epoch is 1; it must be true or false"),
        (["--data.augment.no_aug_epochs", "9"], r"no_aug_epochs is 9; train.epochs is only 2"),
        (["--model.args", "3"], r"--model.args is 3; it must be a table"),
        (["--model.args", "{dropout = 0.1}"], r"--model.args are for a net"),
        (["--model.net", "a", "--model.chain", "8 G"], r"--model.net and --model.chain are given"),
        (["--data.path", ".", "--data.name", "mnist"], r"--data.name and --data.path are given"),
        (["--data", "mnist", "--data.name", "mnist"], r"--data and --data.name are given"),
        (["--data", "minst"], r"'minst' is neither .* Did you mean mnist\?"),
        (["--experiment.name", "../x"], r"--experiment.name is '../x'; it names a folder"),
        (["--train.epoch", "3"], r"--train.epoch 3. Did you mean --train.epochs\? See smidgen tr"),
        (["--epoch", "3"], r"--epoch 3. Did you mean --epochs\? See smidgen train --help$"),
        (["--batchsize", "3"], r"--batchsize 3. Did you mean --batch-size\?"),
        (["--rotate=3"], r"--rotate=3. Did you mean --data.augment.rotate\?"),
        (["--qqq"], r"unrecognized arguments: --qqq; see smidgen train --help$"),
        (["--train.epochs"], r"argument --epochs/--train.epochs: expected one argument"),
        (["--budget.max-param", "3"], r"--budget.max_param 3. Did you mean --budget.max_params\?"),
    ],
)
def test_an_invalid_flag_is_named(tiny: Experiment, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        flagged(tiny, *words)


def test_other_data_replace_those_in_the_file(tiny: Experiment, tmp_path: Path) -> None:
    augment = Augment(rotate=5)
    custom = replace(tiny, data=Data(path="x", size=9, grayscale=True, augment=augment))
    assert flagged(custom, "--data", "mnist").data == Data(name="mnist", augment=augment)
    assert flagged(custom, "--data.name", "mnist").data == Data(name="mnist", augment=augment)
    moved = flagged(custom, "--data", str(tmp_path)).data
    assert moved == Data(path=str(tmp_path), size=9, grayscale=True, augment=augment)
    named = replace(tiny, data=Data(name="digits", augment=augment))
    words = ["--data", str(tmp_path), "--data.size", "9"]
    assert flagged(named, *words).data == Data(path=str(tmp_path), size=9, augment=augment)


def test_several_flags_are_checked_together(tiny: Experiment) -> None:
    alone = replace(tiny, data=replace(tiny.data, augment=Augment(no_aug_epochs=2)))
    changed = flagged(alone, "--train.epochs", "1", "--data.augment.no_aug_epochs", "1")
    assert (changed.train.epochs, changed.data.augment.no_aug_epochs) == (1, 1)


def test_only_the_name_of_a_flag_is_normalized() -> None:
    assert normalized(["--train.label-smoothing=a-b.c-d", "--data-dir=x.y-z", "x-y.z"]) == [
        "--train.label_smoothing=a-b.c-d",
        "--data-dir=x.y-z",
        "x-y.z",
    ]


def test_every_flag_has_a_metavar_and_a_help_text() -> None:
    parser = argparse.ArgumentParser(prog="x", formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_flags(parser)
    flags = [action for action in parser._actions if "." in action.option_strings[0]]
    assert len(flags) >= 30
    assert all(action.metavar for action in flags)
    undocumented = {a.option_strings[0] for a in flags if not a.help}
    # Fields whose name says all that there is to say.
    assert undocumented <= {
        "--train.optimizer.name",
        "--train.optimizer.nesterov",
        "--train.optimizer.weight_decay",
        "--train.schedule.name",
        "--train.average.name",
        "--train.label_smoothing",
    }
