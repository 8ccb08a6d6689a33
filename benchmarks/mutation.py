"""Mutation testing: change the most important modules in small ways, count what the tests notice.

    python benchmarks/mutation.py [MODULE...] [--show]

MODULE is a key of TESTS, such as budget (default: all). mutmut makes one change at a time in a copy
of the checkout and runs the module's own tests. --show prints the changes that no test noticed.

Needs mutmut (pip install 'mutmut>=3.8'), which smidgen itself does not.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = {
    "budget": ["test_budget"],
    "stats": ["test_stats"],
    "_storage/schema": ["_storage/test_schema", "config/test_experiment"],
    "_storage/serialization": ["_storage/test_serialization"],
    "record/files": ["record/test_record"],
    "record/run": ["record/test_record"],
    "config/experiment": ["config/test_experiment"],
    "training/checkpoint": ["training/test_checkpoint"],
    "models/chain": ["models/test_chain"],
    "data/idx": ["data/test_idx"],
    "data/custom/arrays": ["data/custom/test_arrays"],
}
"""The test files of each module."""
KILLED = (1, 3, -24, 24, 36, 152, 255)
"""Exit codes by which mutmut records that tests failed or took far too long."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    parser.add_argument("--show", action="store_true", help="print changes that were not noticed")
    chosen = parser.parse_args()
    if unknown := set(chosen.modules) - set(TESTS):
        parser.error(f"no module {', '.join(sorted(unknown))}; there are {', '.join(TESTS)}")
    lines, total, noticed = [], 0, 0
    for module in chosen.modules or TESTS:
        count, killed = mutate(module, chosen.show)
        total, noticed = total + count, noticed + killed
        lines.append(f"| `{module}.py` | {count:,} | {killed:,} | {killed / count:.1%} |")
        print(lines[-1], flush=True)
    print("\n| module | mutants | killed | share |\n|---|--:|--:|--:|", *lines, sep="\n")
    print(f"| all | {total:,} | {noticed:,} | {noticed / total:.1%} |")


def mutate(module: str, show: bool) -> tuple[int, int]:
    """Count the changes of a module, and those that its tests notice."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        for part in ("src", "tests", "experiments", "benchmarks", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        tests = "".join(f"\n    tests/{test}.py" for test in TESTS[module])
        (folder / "setup.cfg").write_text(
            f"[mutmut]\nsource_paths=src/\nonly_mutate=src/smidgen/{module}.py\n"
            f"also_copy=experiments\npytest_add_cli_args_test_selection={tests}\n"
        )
        # a process with threads cannot be forked safely
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        mutmut = [sys.executable, "-m", "mutmut"]
        done = subprocess.run(
            [*mutmut, "run", "--max-children", "1"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        found = folder / "mutants" / "src" / "smidgen" / f"{module}.py.meta"
        codes = json.loads(found.read_text())["exit_code_by_key"] if found.exists() else {}
        if not codes or None in codes.values():
            sys.exit(f"mutmut did not end well for {module}:\n{done.stdout[-4000:]}")
        if show:
            for key in (key for key, code in codes.items() if code not in KILLED):
                subprocess.run([*mutmut, "show", key], cwd=folder, env=environment, check=True)
        return len(codes), sum(code in KILLED for code in codes.values())


if __name__ == "__main__":
    main()
