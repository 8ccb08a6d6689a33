"""The command that times training steps."""

import argparse
import json
from typing import Any

from smidgen._storage.progress import status
from smidgen.cli.arguments import (
    add_options,
    add_target,
    chosen_experiment,
    given_options,
)
from smidgen.cli.flags import add_experiment_flags


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "bench",
        help="show how fast this machine trains a network, in each backend",
        description="Time training steps on random images in memory: images a second in each "
        "backend and number of threads, the share of the machine's own float32 matrix product "
        "that their arithmetic reaches, and what the experiment will take.",
    )
    parser.set_defaults(command=_bench)
    add_target(parser)
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="N", help="CPU threads (default: 1 and all)"
    )
    parser.add_argument(
        "--batch-sizes",
        type=int,
        nargs="+",
        metavar="N",
        help="images in a step (default: half, all and four times the experiment's)",
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="for each row (default: 0.5)")
    parser.add_argument("--json", action="store_true", help="the same as data")
    add_options(parser, "data_dir", "device")
    add_experiment_flags(parser)


def _bench(given: argparse.Namespace) -> int:
    from smidgen._storage.serialization import to_plain
    from smidgen.errors import UnavailableError
    from smidgen.formatting import counted, seconds

    with status("loading torch"):
        from smidgen.data import load
        from smidgen.runs.benchmark import benchmark

    experiment = chosen_experiment(given, "mnist")
    flags = given_options(given, "threads", "batch_sizes", "device", "seconds")
    try:
        with status("loading the data"):
            num_images = len(load(experiment.data, data_dir=given.data_dir).train)
    except UnavailableError:
        num_images = 60_000  # only their number is needed
    with status("timing training steps"):
        found = benchmark(experiment, num_images, **flags)
    if given.json:
        print(json.dumps(to_plain(found), indent=1))
        return 0
    print(found)
    epochs, own = experiment.train.epochs, experiment.train.batch_size
    best = next((row for row in found.rows if row.batch_size == own), None)
    if best is not None:
        print(
            f"{counted(epochs, 'epoch')} of {counted(num_images, 'image')} "
            f"{'takes' if epochs == 1 else 'take'} "
            f"{seconds(epochs * best.epoch_seconds)} of training steps with {best.backend}, "
            f"threads: {best.threads}; preparing batches and validation take additional time"
        )
    return 0
