"""The recipe of a run as a table: every setting of its data and training, with the defaults."""

from collections.abc import Iterator
from typing import Any

from smidgen._storage.serialization import to_plain
from smidgen.config import Data, Experiment, Model, Train
from smidgen.record import RunRecord
from smidgen.report.page import Table

HEADER = ("setting", "value", "default, if it differs")

_WITHOUT_DEFAULT = ("model.", "data.name", "data.path")


def recipe_table(experiment: Experiment, record: RunRecord | None) -> Table:
    """Each setting by its key in the experiment's file, then how it was run; changes are marked."""
    default = Experiment(
        name=experiment.name, model=Model(chain="1"), data=Data(name="mnist"), train=Train()
    )
    usual = dict(_settings(to_plain(default)))
    rows: list[tuple[str, str, str]] = []
    for key, value in _settings(to_plain(experiment)):
        default_value = usual.get(key, "none")
        has_default = not key.startswith(_WITHOUT_DEFAULT)
        rows.append((key, value, default_value if has_default and default_value != value else ""))
    if record is not None:
        environment = record.environment
        rows += [
            ("seed", str(record.seed), ""),
            ("backend", environment.backend, ""),
            ("threads", str(environment.threads), ""),
        ]
    marked = [number for number, row in enumerate(rows) if row[2]]
    return Table(HEADER, rows, text_columns=(1, 2), marked=marked)


def _settings(plain: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys and values of the tables that make up the recipe."""
    for table in ("model", "data", "train"):
        yield from _flat(table, plain[table])


def _flat(key: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    elif isinstance(value, bool):
        yield key, str(value).lower()
    else:
        yield key, str(value)
