"""How and where an experiment runs: everything that is not part of the experiment itself."""

import os

from smidgen._storage.schema import described, option

CHECKPOINT_SECONDS = 30.0


@described("")
class RunOptions:
    """How and where an experiment runs."""

    seed: int = option(
        "Seeds the initial weights, the order of the images, augmentation and dropout.",
        default=0,
        within=f"[0, {2**63})",
        key="--seed",
    )
    out: str | os.PathLike[str] = option(
        "Parent folder of all runs; a run goes to OUT/NAME/seed-SEED and never overwrites another.",
        default="runs",
        key="--out",
    )
    data_dir: str | os.PathLike[str] | None = option(
        "Folder that holds the data set's files.", default=None, key="--data-dir"
    )
    device: str = option(
        "One of auto, cuda, mps and cpu; auto takes the first that is available.",
        default="auto",
        key="--device",
    )
    skip_bad: bool = option(
        "Skip unreadable images of a custom data set and note them, instead of refusing the data.",
        default=False,
        key="--skip-bad",
    )
    threads: int | None = option(
        "CPU threads; None: the backend chooses.", default=None, within="[1, 1024]", key="--threads"
    )
    backend: str = option(
        "How training steps are computed: eager, channels-last, native, or auto, which chooses by "
        "network and machine.",
        default="auto",
        key="--backend",
    )
    checkpoint_seconds: float = option(
        "Time between two checkpoints within an epoch. There is one after each epoch, too; all "
        "together take at most 2 % of the time.",
        default=CHECKPOINT_SECONDS,
        within="[0, inf)",
        unit="seconds",
        key="--checkpoint-seconds",
    )
