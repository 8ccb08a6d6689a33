"""Fuzz every parser, guided by coverage, and count the failures.

    python benchmarks/fuzz.py TARGET [--inputs N] [--seed S]
    python benchmarks/fuzz.py --all [--inputs 1000000] [--out FOLDER]

An input passes if it is parsed, or refused with a SmidgenError. Failures are any other exception,
more than 1 s of processor time, and growth of the process by more than 512 MB. Failures are counted
by the line that raised them, and the first input of each is saved in FOLDER. --all gives each
target its share of the inputs, one process after the other; FOLDER/progress.jsonl gets a line every
10,000 inputs, and FOLDER/table.md the table at the end.

Needs atheris (pip install atheris), which smidgen itself does not.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

try:
    atheris: Any = importlib.import_module("atheris")
except ImportError:
    sys.exit("The fuzzer needs atheris: pip install atheris")

FOLLOWED = ["smidgen", "tomllib", "zipfile"]
with atheris.instrument_imports(include=FOLLOWED):
    from fuzz_targets import TARGETS

    from smidgen.errors import SmidgenError

MOST_SECONDS, MOST_MB, MOST_BYTES = 1.0, 512, 1 << 14  # the last: of an input


class HangError(BaseException):
    """An input took too long; a BaseException, so that no parser catches it."""


@dataclass
class Tally:
    """Counts of one target so far."""

    target: str
    seed: int
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    growth_mb: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)


def resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(name: str, inputs: int, seed: int, out: Path) -> None:
    """Fuzz one target, then end the process."""
    target, tally, base = TARGETS[name], Tally(name, seed), resident_mb()
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    corpus, samples = folder / "corpus", target.samples()
    corpus.mkdir()
    for place, sample in enumerate(samples):
        target.read(sample, folder)
        (corpus / str(place)).write_bytes(sample)
    begun = time.perf_counter()

    def hang(*_: object) -> None:
        raise HangError

    def fail(what: str, content: bytes) -> None:
        if what not in tally.failures:
            (out / f"{name}-{seed}-{len(tally.failures)}.failure").write_bytes(content)
        tally.failures[what] = tally.failures.get(what, 0) + 1

    def one(content: bytes) -> None:
        nonlocal base
        started, hung = time.process_time(), False
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        try:
            target.read(content, folder)
        except SmidgenError:
            tally.refused += 1
        except HangError:
            hung = True
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            fail(f"{type(error).__name__} at {place}", content)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        took, growth = time.process_time() - started, resident_mb() - base
        if hung or took > MOST_SECONDS:
            fail("over 1 s", content)
        if growth > MOST_MB:
            fail("over 512 MB", content)
            base = resident_mb()  # so that growth is counted once
        tally.inputs += 1
        tally.growth_mb = round(max(tally.growth_mb, growth))
        tally.slowest_ms = round(max(tally.slowest_ms, took * 1000), 1)
        if tally.inputs % 10_000 == 0 or tally.inputs == inputs:
            tally.seconds = round(time.perf_counter() - begun)
            print(json.dumps(dataclasses.asdict(tally)), flush=True)
        if tally.inputs == inputs:
            for path in [*corpus.iterdir(), *(file for file in folder.iterdir() if file.is_file())]:
                path.unlink()
            corpus.rmdir()
            folder.rmdir()
            os._exit(0)  # atheris.Fuzz never returns

    def change(content: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.75:
            for source in (random.choice([content, *samples]), random.choice(samples)):
                with contextlib.suppress(Exception):  # not that syntax
                    return target.change(source, random)[:most]
        changed: bytes = atheris.Mutate(content, most)
        return changed

    signal.signal(signal.SIGPROF, hang)
    options = [f"-seed={seed}", f"-max_len={MOST_BYTES}", "-timeout=60", "-rss_limit_mb=8192"]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={out}/{name}-", str(corpus)],
        one,
        custom_mutator=change,
    )
    atheris.Fuzz()


def fuzz_all(inputs: int, seed: int, out: Path) -> None:
    """Fuzz all targets, one process each, and write the table."""
    rows = [
        "| parser | inputs | refused | slowest input | growth | failures |",
        "|---|" + "--:|" * 5,
    ]
    for name, target in TARGETS.items():
        share = round(inputs * target.share)
        command = [sys.executable, __file__, name, f"--inputs={share}", f"--seed={seed}"]
        last: dict[str, Any] = {"inputs": 0, "failures": {}}
        with (
            (out / f"{name}.log").open("w") as log,
            (out / "progress.jsonl").open("a") as progress,
            subprocess.Popen(
                [*command, f"--out={out}"], stdout=subprocess.PIPE, stderr=log, text=True
            ) as process,
        ):
            for line in process.stdout or ():
                progress.write(line)
                progress.flush()
                last = json.loads(line)
        if process.returncode:
            last["failures"][f"ended with {process.returncode}"] = 1
        found = "; ".join(f"{what} ({count})" for what, count in last["failures"].items())
        rows.append(
            f"| {name} | {last['inputs']:,} | {last.get('refused', 0):,} | "
            f"{last.get('slowest_ms', 0)} ms | {last.get('growth_mb', 0)} MB | {found or 'none'} |"
        )
        (out / "table.md").write_text("\n".join(rows) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.all:
        fuzz_all(given.inputs or 1_000_000, given.seed, given.out)
    elif given.target:
        fuzz(given.target, given.inputs or 10_000, given.seed, given.out)
    else:
        parser.error("give a target or --all")


if __name__ == "__main__":
    main()
