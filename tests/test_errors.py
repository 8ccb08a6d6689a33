import re

from smidgen import errors
from smidgen.errors import ConfigError, SmidgenError


def tree(kind: type[Exception]) -> list[type[Exception]]:
    here = [k for k in kind.__subclasses__() if k.__module__ == "smidgen.errors"]
    return [kind, *(found for child in here for found in tree(child))]


def test_the_tree_is_as_it_is_drawn() -> None:
    drawn = re.findall(r"^[ │├└─]*(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [kind.__name__ for kind in tree(SmidgenError)]
    defined = [v for v in vars(errors).values() if isinstance(v, type)]
    assert set(defined) == set(tree(SmidgenError))


def test_a_config_error_is_a_value_error() -> None:
    # smidgen.schema turns what a field's own check raises into an error of the file.
    assert issubclass(ConfigError, ValueError)
