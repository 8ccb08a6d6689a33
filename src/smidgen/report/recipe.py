"""The recipe of a run as a table: every setting of its data and training, with the defaults."""

from collections.abc import Iterator, Sequence
from typing import Any

from smidgen._storage.serialization import to_plain
from smidgen.config import Data, Experiment, Model, Train
from smidgen.record import RunRecord

HEADER = ("setting", "value", "default, where it differs")


def recipe_table(
    experiment: Experiment, record: RunRecord | None
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Header and rows: each setting by its key in the experiment's file, then how it was run."""
    default = Experiment(
        name=experiment.name, model=Model(chain="1"), data=Data(name="mnist"), train=Train()
    )
    usual = dict(_settings(to_plain(default)))
    rows = []
    for key, value in _settings(to_plain(experiment)):
        # a network and a data set have no default
        differs = not key.startswith("model.") and key in usual and usual[key] != value
        rows.append((key, value, usual[key] if differs and key != "data.name" else ""))
    if record is not None:
        environment = record.environment
        rows += [
            ("seed", str(record.seed), ""),
            ("backend", environment.backend, ""),
            ("threads", str(environment.threads), ""),
        ]
    return HEADER, rows


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
