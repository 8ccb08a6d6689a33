"""The user's cache folder."""

from pathlib import Path

from smidgen.errors import DataError


def cache_folder(*names: str) -> Path:
    """The folder that `names` lead to in the user's cache, which XDG_CACHE_HOME can move.

    Raises:
        DataError: the user has no home folder.
    """
    from platformdirs import user_cache_path

    try:
        return user_cache_path("smidgen", appauthor=False).joinpath(*names)
    except RuntimeError:
        raise DataError(
            "there is no home folder for a cache; set XDG_CACHE_HOME, or give the folder that has "
            "the data set with --data-dir."
        ) from None
