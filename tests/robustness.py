"""Interrupt and damage runs in many ways; each trial is a separate process.

    python tests/robustness.py kill --trials 100   SIGKILL at random moments, a third inside a save
    python tests/robustness.py ends                SIGKILL at every write, fsync, rename of a run
    python tests/robustness.py faults              no space, I/O error, read-only, at every write
    python tests/robustness.py sizes               file size limits
    python tests/robustness.py damage              files truncated at many lengths, and flipped bits
    python tests/robustness.py repeat              one seed in fresh processes

Each prints its counts as a line of JSON, and exits with 1 if an expectation failed.
"""

import argparse
import contextlib
import errno
import io
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from smidgen._storage.files import write_atomic
from smidgen.cli import main as command
from smidgen.config import (
    Augment,
    Average,
    Budget,
    Data,
    Experiment,
    Model,
    Optimizer,
    Schedule,
    Train,
)
from smidgen.errors import CheckpointError, RecordError
from smidgen.record import DIAGNOSTICS, METRICS, PAGE, RECORD, WEIGHTS, read_record
from smidgen.runs import checkpointer, train
from smidgen.runs.load import restore
from smidgen.training import load_checkpoint

EXPERIMENT = Experiment(
    name="robust",
    budget=Budget(max_params=1000),
    model=Model(chain="6,s2 8,s2,o0.1 G"),
    data=Data(name="digits", augment=Augment(rotate=8, translate=0.1, no_aug_epochs=1)),
    train=Train(
        epochs=3,
        batch_size=64,
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
        schedule=Schedule(name="one-cycle", warmup=0.3),
        average=Average(name="ema", decay=0.9),
    ),
)
FILES = (WEIGHTS, METRICS, RECORD, DIAGNOSTICS, "experiment.toml")
SHORT = replace(EXPERIMENT, train=replace(EXPERIMENT.train, epochs=2, batch_size=512))  # 6 steps
CALLS = ("open", "write", "fsync", "replace", "rename")  # calls that change a disk


class Workspace:
    """A folder of runs, and the commands that are run in it."""

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self.out = folder / "runs"
        self.toml = folder / "robust.toml"
        self.toml.write_text(experiment.to_toml())

    @property
    def run(self) -> Path:
        return self.out / "robust" / "seed-0"

    def start(self) -> int:
        """Start the run, or resume it; return the exit status."""
        common = ["--quiet", "--threads", "1", "--checkpoint-seconds", "0"]
        first = ["train", str(self.toml), "--out", str(self.out), "--seed", "0"]
        again = ["train", "--resume", str(self.run)]
        return command([*(again if self.run.exists() else first), *common])

    def finish(self) -> None:
        assert status(fork(self.start)) == 0, "the last start must succeed"

    def content(self) -> dict[str, bytes]:
        return {name: (self.run / name).read_bytes() for name in FILES}

    def names(self) -> set[str]:
        """All paths below the folder of runs but lock files, which a killed process may leave."""
        paths = (path for path in self.out.rglob("*") if path.suffix != ".lock")
        return {str(path.relative_to(self.out)) for path in paths}


@contextlib.contextmanager
def workspace(experiment: Experiment) -> Iterator[Workspace]:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Workspace(Path(folder), experiment)


def fork(work: Callable[[], int]) -> int:
    """Run `work` in a new process that exits with its result; return the process ID."""
    number = os.fork()
    if number == 0:
        ended = 70
        with contextlib.suppress(BaseException):
            sys.stdout = sys.stderr = io.StringIO()
            torch.set_num_threads(1)
            ended = work()
        os._exit(ended)
    return number


def status(number: int) -> int:
    """Wait for the process and return its exit status as a shell does: 128 + signal number."""
    _, ended = os.waitpid(number, 0)
    code = os.waitstatus_to_exitcode(ended)
    return code if code >= 0 else 128 - code


def at_call(k: int, then: Callable[[str, Any, tuple[Any, ...]], Any]) -> Callable[[], int]:
    """Replace the k-th call (from 1) that changes a disk by `then`; return a counter of calls."""
    calls = 0

    def take(name: str) -> None:
        real = getattr(os, name)

        def call(*given: Any, **named: Any) -> Any:
            nonlocal calls
            if name == "open" and not (len(given) > 1 and given[1] & os.O_CREAT):
                return real(*given, **named)
            calls += 1
            return then(name, real, given) if calls == k else real(*given, **named)

        setattr(os, name, call)

    for name in CALLS:
        take(name)
    return lambda: calls


def die(name: str, real: Any, given: tuple[Any, ...]) -> NoReturn:
    """Kill this process, in the middle of a write or before any other call."""
    if name == "write":
        real(given[0], given[1][: len(given[1]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fail(number: int) -> Callable[[str, Any, tuple[Any, ...]], NoReturn]:
    def raised(name: str, real: Any, given: tuple[Any, ...]) -> NoReturn:
        if name == "write" and number == errno.ENOSPC:
            real(given[0], given[1][: len(given[1]) // 2])
        raise OSError(number, os.strerror(number))

    return raised


def with_call(here: Workspace, k: int, then: Callable[..., Any]) -> Callable[[], int]:
    def work() -> int:
        at_call(k, then)
        return here.start()

    return work


def reference(experiment: Experiment) -> tuple[dict[str, bytes], set[str], int, float]:
    """Return the files of an undisturbed run, all paths, its calls and its seconds."""
    with workspace(experiment) as here:
        reader, writer = os.pipe()

        def counted() -> int:
            count = at_call(0, die)
            ended = here.start()
            with os.fdopen(writer, "w") as pipe:
                pipe.write(str(count()))
            return ended

        begun = time.perf_counter()
        assert status(fork(counted)) == 0
        seconds = time.perf_counter() - begun
        os.close(writer)
        with os.fdopen(reader) as pipe:
            calls = int(pipe.read())
        return here.content(), here.names(), calls, seconds


def kill(trials: int, seed: int) -> dict[str, Any]:
    """Kill a run one to four times and let it finish: it must equal an undisturbed run."""
    content, names, calls, seconds = reference(EXPERIMENT)
    kills = in_save = trials_in_save = wrong = 0
    for trial in range(trials):
        draw = random.Random(f"{seed} {trial}")
        hit = False
        with workspace(EXPERIMENT) as here:
            for attempt in range(draw.randint(1, 4)):
                if trial % 2 == 0 if attempt == 0 else draw.random() < 0.5:
                    number = fork(with_call(here, draw.randint(1, calls), die))
                    inside = status(number) == 128 + signal.SIGKILL
                    in_save += inside
                    kills += inside
                    hit |= inside
                else:
                    number = fork(here.start)
                    time.sleep(draw.uniform(0, seconds))
                    os.kill(number, signal.SIGKILL)
                    kills += status(number) == 128 + signal.SIGKILL
            here.finish()
            wrong += here.content() != content or here.names() != names
        trials_in_save += hit
    passed = wrong == 0 and 3 * trials_in_save >= trials
    return {
        "trials": trials,
        "kills": kills,
        "kills_inside_a_save": in_save,
        "trials_with_one": trials_in_save,
        "differ": wrong,
        "passed": passed,
    }


def ends() -> dict[str, Any]:
    """Kill a run at each of its calls: a checkpoint must load, and the run finish as usual."""
    content, names, calls, _ = reference(SHORT)
    wrong = unreadable = 0
    for k in range(1, calls + 1):
        with workspace(SHORT) as here:
            status(fork(with_call(here, k, die)))
            if here.run.exists() and not (here.run / RECORD).exists():
                try:
                    load_checkpoint(here.run)
                except CheckpointError:
                    unreadable += 1
            here.finish()
            wrong += here.content() != content or here.names() != names
    passed = wrong == unreadable == 0
    return {"calls": calls, "unreadable": unreadable, "differ": wrong, "passed": passed}


def faults() -> dict[str, Any]:
    """Let each call fail in each way: exit 2, an intact checkpoint, a next start that succeeds."""
    content, names, calls, _ = reference(SHORT)
    wrong: list[str] = []
    trials = 0
    for number in (errno.ENOSPC, errno.EIO, errno.EROFS):
        for k in range(1, calls + 1):
            trials += 1
            with workspace(SHORT) as here:
                ended = status(fork(with_call(here, k, fail(number))))
                wrong += _after_fault(here, ended, content, names, f"{errno.errorcode[number]} {k}")
    return {"trials": trials, "calls": calls, "wrong": wrong, "passed": not wrong}


def sizes(steps: int = 40) -> dict[str, Any]:
    """Limit the size of files, for limits over all sizes of a run's files."""
    content, names, _, _ = reference(SHORT)
    largest = max(map(len, content.values()))
    wrong: list[str] = []
    for step in range(steps):
        limit = int(100 * (2 * largest / 100) ** (step / (steps - 1)))
        with workspace(SHORT) as here:

            def limited(limit: int = limit, here: Workspace = here) -> int:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                return here.start()

            ended = status(fork(limited))
            wrong += _after_fault(here, ended, content, names, f"limit {limit}")
    return {"trials": steps, "wrong": wrong, "passed": not wrong}


def _after_fault(
    here: Workspace, ended: int, content: dict[str, bytes], names: set[str], which: str
) -> Iterator[str]:
    if ended not in (0, 2):
        yield f"{which}: exit {ended}"
    if here.run.exists() and not (here.run / RECORD).exists():
        try:
            load_checkpoint(here.run)
        except CheckpointError as error:
            yield f"{which}: {error}"
    here.finish()
    if here.content() != content or here.names() != names:
        yield f"{which}: differs after the next start"


def damage(lengths: int, flips: int, seed: int) -> dict[str, Any]:
    """Truncate files and flip bits: both must be found, and the previous checkpoint used."""
    draw = random.Random(seed)
    counts = {"truncations": 0, "flips": 0, "accepted": 0}
    with workspace(SHORT) as here:
        assert status(fork(with_call(here, 30, die))) == 128 + signal.SIGKILL
        stopped = here.out.parent / "stopped"
        shutil.copytree(here.run, stopped)
        here.finish()
        before, _, _ = load_checkpoint(_only_previous(stopped, here.out.parent / "previous"))

        def checkpoint_is_found() -> bool:
            found, _, what = load_checkpoint(stopped)
            return found == before and what is not None

        def weights_are_found() -> bool:
            return _raises(lambda: restore(here.run, read_record(here.run)))

        def record_is_found() -> bool:
            return _raises(lambda: read_record(here.run))

        for path, is_found in (
            (stopped / "last.checkpoint", checkpoint_is_found),
            (here.run / WEIGHTS, weights_are_found),
            (here.run / RECORD, record_is_found),
        ):
            intact = path.read_bytes()
            for length in sorted(draw.sample(range(len(intact)), min(lengths, len(intact)))):
                path.write_bytes(intact[:length])
                counts["truncations"] += 1
                counts["accepted"] += not is_found()
            for _ in range(flips):
                bit = draw.randrange(8 * len(intact))
                damaged = bytearray(intact)
                damaged[bit // 8] ^= 1 << bit % 8
                path.write_bytes(damaged)
                counts["flips"] += 1
                counts["accepted"] += not is_found()
            path.write_bytes(intact)
    return counts | {"passed": counts["accepted"] == 0}


def _only_previous(folder: Path, copy: Path) -> Path:
    shutil.copytree(folder, copy)
    (copy / "last.checkpoint").unlink()
    return copy


def _raises(work: Callable[[], object]) -> bool:
    try:
        work()
    except RecordError:
        return True
    return False


def repeat(trials: int) -> dict[str, Any]:
    """Train one seed in fresh processes, with one and two threads: one digest for each number."""
    digests: dict[str, list[str]] = {"1": [], "2": []}
    with workspace(EXPERIMENT) as here:
        for threads, found in digests.items():
            for trial in range(trials):
                out = here.out / f"{threads}-{trial}"
                arguments = ["train", str(here.toml), "--out", str(out), "--threads", threads]
                module = [sys.executable, "-m", "smidgen", *arguments, "--quiet"]
                subprocess.run(module, check=True, stdout=subprocess.DEVNULL)
                found.append(read_record(out / "robust" / "seed-0").weights_sha256)
    different = {threads: len(set(found)) for threads, found in digests.items()}
    passed = set(different.values()) == {1}
    return {"processes_each": trials, "digests_by_threads": different, "passed": passed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kill", "ends", "faults", "sizes", "damage", "repeat"])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--lengths", type=int, default=1000)
    given = parser.parse_args()
    checkpointer.MAX_SHARE = math.inf  # a checkpoint after every step
    # plots take longer than these trainings
    setattr(train, "write_report", lambda _, folder: write_atomic(folder / PAGE, "<html>"))  # noqa: B010
    torch.set_num_threads(1)
    with workspace(SHORT) as here, contextlib.redirect_stdout(io.StringIO()):
        here.start()  # so that forked processes find everything imported
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "kill": lambda: kill(given.trials, given.seed),
        "ends": ends,
        "faults": faults,
        "sizes": sizes,
        "damage": lambda: damage(given.lengths, given.flips, given.seed),
        "repeat": lambda: repeat(given.trials),
    }
    found = work[given.what]()
    print(json.dumps({"what": given.what} | found))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
