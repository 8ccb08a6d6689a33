"""Changes what matters most in many small ways and counts how many changes the tests notice.

    python benchmarks/mutation.py [MODULE...] [--show]

MODULE is a name of the table below, such as budget; left out: all. Each is changed by mutmut in a
copy of the checkout, one change at a time, and its own tests run on it. --show prints what every
change that no test notices has changed.

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
    "schema": ["test_schema"],
    "record": ["test_record"],
    "config": ["test_config"],
    "training/checkpoint": ["training/test_checkpoint"],
    "nets/chain": ["nets/test_chain"],
    "data/formats": ["data/test_formats"],
    "data/arrays": ["data/test_arrays"],
}
"""The test files of each module."""
KILLED = (1, 3, -24, 24, 36, 152, 255)
"""The ways in which mutmut writes down that tests failed, or ran for far too long."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    parser.add_argument("--show", action="store_true", help="print the changes not noticed")
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
    """How many changes of the module there are, and how many of them its tests notice."""
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
        # what is forked must not have threads
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
