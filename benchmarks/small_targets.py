"""Accuracy, flash, RAM and cycles of the C code of the flash-* experiments, over several seeds.

    python benchmarks/small_targets.py --seeds 5

trains the runs that are missing in runs/, then fine-tunes the integer networks with 4-bit weights
for two epochs, the last of which has no augmentation. It prints a line for each run. The accuracy
is that of the integer network on the test images, scored once; the C code gives the same scores.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import smidgen
from smidgen.data import Dataset, TrainLoader, load
from smidgen.exporters.c import c_code
from smidgen.exporters.conversion import to_integers
from smidgen.exporters.integer import IntegerNetwork
from smidgen.exporters.quantization import GraphNetwork, fine_tune
from smidgen.exporters.targets import measure
from smidgen.exporters.tracing import graph_of

EXPERIMENTS = ("flash-8k", "flash-6k", "flash-3k")
BITS, EPOCHS, NUM_CALIBRATION = 4, 2, 500


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--targets", nargs="*", default=["cortex-m0", "atmega328p"])
    given = parser.parse_args()
    for seed in range(given.seeds):
        for name in EXPERIMENTS:
            folder = given.out / name / f"seed-{seed}"
            if not (folder / "run.json").exists():
                smidgen.train(name, smidgen.RunOptions(seed=seed, out=given.out, threads=1))
            print(name, seed, *described(folder, given.targets), sep="; ", flush=True)


def described(folder: Path, targets: list[str]) -> list[str]:
    """The measurements of a run, in words."""
    record = smidgen.read_record(folder)
    dataset = load(record.experiment.data)
    integers = quantized(folder, dataset)
    pixels, labels = dataset.test.images.numpy(), dataset.test.labels.numpy()
    scores = integers.scores(pixels)
    accuracy = float(np.mean(scores.argmax(1) == labels))
    words = [f"{record.test.score.accuracy:.2%} in floating point", f"{accuracy:.2%} in integers"]
    classes = record.data.classes
    files = c_code(integers, title=folder.name, origin=str(folder), classes=classes)
    return words + [str(measure(files, name, pixels[:1], scores[:1])) for name in targets]


def quantized(folder: Path, dataset: Dataset) -> IntegerNetwork:
    """The fine-tuned integer network of a run."""
    trained = smidgen.load_network(folder)
    record = smidgen.read_record(folder)
    graph = graph_of(trained.network, trained.image_shape, trained.mean, trained.std)
    network = GraphNetwork(graph, BITS)
    network.calibrate(network.centered(dataset.train.images[:NUM_CALIBRATION]))
    loader = TrainLoader(
        split=dataset.train,
        batch_size=record.experiment.train.batch_size,
        augment=record.experiment.data.augment,
        mean=graph.mean,
        std=(1.0,) * len(graph.mean),
        seed=record.seed + 1000,  # other batches than those of the training
    )
    last = EPOCHS
    batches = (
        batch
        for epoch in range(1, EPOCHS + 1)
        for batch in loader.epoch(epoch, clean=epoch == last)
    )
    fine_tune(network, batches, EPOCHS * len(loader))
    return to_integers(network)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
