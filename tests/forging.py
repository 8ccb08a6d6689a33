"""Records that are forged consistently, so that only other files or a repetition reveal it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smidgen.record import RECORD, seal


def forge(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply `change` to the content of run.json, and seal the result again."""
    path = folder / RECORD
    plain = json.loads(path.read_text(encoding="utf-8"))
    del plain["sha256"]
    change(plain)
    path.write_text(seal(json.dumps(plain, indent=1) + "\n"), encoding="utf-8")
