from dataclasses import replace

from smidgen.config import Augment, Data, Experiment
from smidgen.record import RunRecord
from smidgen.report.recipe import recipe_table


def test_every_setting_is_shown_as_it_was_used(record: RunRecord) -> None:
    rows = {row[0]: row[1] for row in recipe_table(record.experiment, record).rows}
    train = record.experiment.train
    assert rows["model.chain"] == "6,s2 8,s2,o0.1 G"
    assert rows["data.name"] == "digits"
    assert rows["data.augment.rotate"] == "5.0"
    assert rows["train.batch_size"] == str(train.batch_size)
    assert rows["train.optimizer.lr"] == str(train.optimizer.lr)
    assert rows["train.optimizer.nesterov"] == str(train.optimizer.nesterov).lower()
    assert rows["train.schedule.name"] == "one-cycle"
    assert rows["seed"] == "3"
    assert rows["backend"] == record.environment.backend
    assert rows["threads"] == "1"


def test_what_differs_from_the_defaults_is_marked(tiny: Experiment) -> None:
    table = recipe_table(tiny, None)
    marked = {table.rows[number][0]: table.rows[number][2] for number in table.marked}
    default = Augment()
    assert marked["data.augment.rotate"] == str(default.rotate)
    assert "data.augment.shear" not in marked
    assert "model.chain" not in marked
    assert "data.name" not in marked
    changed = replace(tiny, data=Data(path="images", size=12))
    table = recipe_table(changed, None)
    assert ("data.size", "12", "none") in [table.rows[number] for number in table.marked]
    assert "seed" not in {row[0] for row in table.rows}
