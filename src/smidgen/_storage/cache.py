"""The user's cache folder."""

import os
from pathlib import Path

from smidgen.errors import DataError


def cache_folder(*names: str) -> Path:
    """The user's cache folder for what `names` lead to: in XDG_CACHE_HOME, or ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # unset, or what the XDG specification says to ignore
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            raise DataError(
                "there is no home folder to keep data in; set XDG_CACHE_HOME, or give the folder "
                "that has the data set with --data-dir."
            ) from None
    return base.joinpath("smidgen", *names)
