"""Records that somebody has changed so well that only a look at the rest can tell."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smidgen.record import RECORD, seal


def forge(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Have `change` at the content of run.json, and give the result a digest of its own."""
    path = folder / RECORD
    plain = json.loads(path.read_text(encoding="utf-8"))
    del plain["sha256"]
    change(plain)
    path.write_text(seal(json.dumps(plain, indent=1) + "\n"), encoding="utf-8")
