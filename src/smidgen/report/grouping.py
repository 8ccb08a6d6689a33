"""Runs of one experiment together, and names that tell experiments apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from smidgen._storage.serialization import to_plain
from smidgen.config import Experiment

if TYPE_CHECKING:
    from smidgen.report.run_folder import RunFolder

_COMPARED = ("budget", "model", "data", "train")
_MOST_FIELDS = 3  # in a name, unless it takes more to tell experiments apart


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one experiment."""

    name: str
    """The experiment's, with what tells it apart from others of that name."""
    runs: "list[RunFolder]"


def group_key(experiment: Experiment, num_params: int | None) -> tuple[str, int | None]:
    """Equal for runs of one experiment and network; the experiment's texts make no difference."""
    return experiment.without_texts().to_toml(), num_params


def group_runs(runs: Sequence["RunFolder"]) -> list[Group]:
    """The runs by experiment, in the order of the first run of each."""
    params = {
        run.experiment.without_texts().to_toml(): run.record.profile.num_params
        for run in runs
        if run.record
    }
    groups: dict[tuple[str, int | None], list[RunFolder]] = {}
    for run in runs:
        # an unfinished run belongs to the finished ones of its experiment
        known = params.get(run.experiment.without_texts().to_toml())
        num_params = run.record.profile.num_params if run.record else known
        groups.setdefault(group_key(run.experiment, num_params), []).append(run)
    names = distinct_names([g[0].experiment for g in groups.values()], [key[1] for key in groups])
    return [Group(name, found) for name, found in zip(names, groups.values(), strict=True)]


def mean_accuracy(accuracies: Sequence[float]) -> str:
    """The mean in percent, and the standard deviation of several.

    >>> mean_accuracy([0.99]), mean_accuracy([0.99, 0.98])
    ('99.00 %', '98.50 ± 0.71 %')
    """
    deviation = f" ± {100 * stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    return f"{100 * fmean(accuracies):.2f}{deviation} %"


def fields_of(experiment: Experiment) -> dict[str, Any]:
    """The fields of budget, model, data and training by dotted name, those that are not None."""
    return dict(_flat({name: to_plain(getattr(experiment, name)) for name in _COMPARED}))


def distinct_names(
    experiments: Sequence[Experiment], num_params: Sequence[int | None]
) -> list[str]:
    """The experiments' names; those that share one also have the fields in which they differ.

    >>> from smidgen.config import Data, Model, Train
    >>> def experiment(epochs):
    ...     return Experiment(name="a", model=Model(chain="8 G"), data=Data(name="mnist"),
    ...                       train=Train(epochs=epochs))
    >>> distinct_names([experiment(5), experiment(9)], [90, 90])
    ['a, train.epochs 5', 'a, train.epochs 9']
    """
    names = [experiment.name for experiment in experiments]
    for name in {name for name in names if names.count(name) > 1}:
        same = [number for number, other in enumerate(names) if other == name]
        found = [fields_of(experiments[n]) for n in same]
        if None not in (params := [num_params[n] for n in same]):
            found = [f | {"parameters": f"{p:,}"} for f, p in zip(found, params, strict=True)]
        for number, text in zip(same, _differences(found), strict=True):
            names[number] = f"{name}, {text}" if text else name
    return names


def differing(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that are not the same in all tables; those of one section together.

    >>> differing([{"model.net": "a", "train.epochs": 2}, {"model.chain": "8 G"}])
    ['model.net', 'model.chain', 'train.epochs']
    """
    keys = [
        key
        for key in dict.fromkeys(key for table in tables for key in table)
        if any(table.get(key) != tables[0].get(key) for table in tables)
    ]
    sections = list(dict.fromkeys(key.split(".")[0] for key in keys))
    return sorted(keys, key=lambda key: sections.index(key.split(".")[0]))


def _differences(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each table, the first fields that differ between them, as many as tell them apart."""
    keys = differing(tables)
    texts = [""] * len(tables)
    for count in range(min(_MOST_FIELDS, len(keys)), len(keys) + 1):
        shown = keys[:count]
        texts = [", ".join(f"{key} {table.get(key, 'none')}" for key in shown) for table in tables]
        if len(set(texts)) == len(texts):
            break
    return texts


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
