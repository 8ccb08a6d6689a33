import re
from pathlib import Path

from smidgen import errors
from smidgen.errors import ConfigError, Interrupted, SmidgenError


def tree(kind: type[BaseException]) -> list[type[BaseException]]:
    here = [k for k in kind.__subclasses__() if k.__module__ == "smidgen.errors"]
    return [kind, *(found for child in here for found in tree(child))]


def test_the_tree_of_errors_is_as_drawn() -> None:
    _, *drawings, _ = (errors.__doc__ or "").split("\n\n")
    drawn = re.findall(r"^[ │├└─]*(\w+)", "\n".join(drawings), re.MULTILINE)
    trees = [*tree(SmidgenError), *tree(KeyboardInterrupt)]
    assert drawn == [kind.__name__ for kind in trees]
    defined = [
        v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, BaseException)
    ]
    assert {*defined, KeyboardInterrupt} == set(trees)


def test_an_interruption_is_not_caught_as_an_exception() -> None:
    stop = Interrupted(15, Path("runs/tiny"))
    assert not isinstance(stop, Exception)
    assert (stop.signal, stop.folder) == (15, Path("runs/tiny"))


def test_a_config_error_is_a_value_error() -> None:
    # smidgen._storage.serialization turns what a field's own check raises into a file's error.
    assert issubclass(ConfigError, ValueError)
